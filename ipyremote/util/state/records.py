"""The records that lists are made of, with the columns of Ray 2.60 that mean something on one machine.

A record is a dataclass and a mapping, so `record.state`, `record["state"]`, `dict(record)` and `pandas.DataFrame` of a
list all work. What is only told with `detail=True` is in a class of its own, derived from the plain one; asking a plain
record for it says so. Two columns more than Ray: `label`, which is what a ref shows (`ObjectRef(square#3)`), and for a
worker what it does. Ids are hexadecimal, as `hex()` of refs and `get_runtime_context()` give them; times are in
milliseconds since 1970.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

__all__ = [
    "ActorDetails",
    "ActorState",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupDetails",
    "PlacementGroupState",
    "Record",
    "TaskDetails",
    "TaskState",
    "WorkerDetails",
    "WorkerState",
    "columns",
]


@cache
def columns(kind: type[Any]) -> tuple[str, ...]:
    """The columns of a class of records, in order."""
    return tuple(field.name for field in dataclasses.fields(kind))


class Record(Mapping[str, Any]):
    """What all records can do."""

    def asdict(self) -> dict[str, Any]:
        """The columns and their values."""
        return dict(self)

    def __getitem__(self, column: str) -> Any:
        if column not in columns(type(self)):
            raise KeyError(column)
        return getattr(self, column)

    def __iter__(self) -> Iterator[str]:
        return iter(columns(type(self)))

    def __len__(self) -> int:
        return len(columns(type(self)))

    def __getattr__(self, name: str) -> Any:
        kind = type(self).__name__
        hint = ""
        if any(name in columns(detailed) for detailed in type(self).__subclasses__()):
            hint = ": it is one of the details, ask for them with detail=True"
        raise AttributeError(f"{kind!r} object has no attribute {name!r}{hint}")


@dataclass(frozen=True, eq=False)
class TaskState(Record):
    """One attempt of a task, of a method call, or of the creation of an actor."""

    task_id: str
    #: From 0; one that is retried has a record for each attempt.
    attempt_number: int
    label: str
    #: That of `.options(name=...)`, else the function's, or `Class.method`.
    name: str
    #: PENDING_ARGS_AVAIL (waits for objects), PENDING_NODE_ASSIGNMENT (waits for resources or for its actor),
    #: SUBMITTED_TO_WORKER (sent to a worker, behind another), RUNNING, RUNNING_IN_RAY_GET (waits in `get` or `wait`),
    #: FINISHED, FAILED (cancelled ones, too; `error_type` says which).
    state: str
    job_id: str
    actor_id: str | None
    #: NORMAL_TASK, ACTOR_TASK or ACTOR_CREATION_TASK.
    type: str
    func_or_class_name: str
    #: The task that submitted it; None: a driver.
    parent_task_id: str | None
    node_id: str | None
    worker_id: str | None
    worker_pid: int | None
    #: TASK_EXECUTION_EXCEPTION (its code raised), TASK_CANCELLED, WORKER_DIED, ACTOR_DIED, OUT_OF_MEMORY and others.
    error_type: str | None


@dataclass(frozen=True, eq=False)
class TaskDetails(TaskState):
    """A `TaskState` with details."""

    required_resources: dict[str, float]
    placement_group_id: str | None
    #: When it was submitted.
    creation_time_ms: int
    start_time_ms: int | None
    end_time_ms: int | None
    #: The traceback, or what else happened; the beginning of a long one.
    error_message: str | None


@dataclass(frozen=True, eq=False)
class ActorState(Record):
    """An actor, dead or alive."""

    actor_id: str
    label: str
    class_name: str
    #: DEPENDENCIES_UNREADY (its arguments wait for objects), PENDING_CREATION, ALIVE, RESTARTING or DEAD.
    state: str
    job_id: str
    #: Empty for one without a name.
    name: str
    node_id: str | None
    pid: int | None
    ray_namespace: str


@dataclass(frozen=True, eq=False)
class ActorDetails(ActorState):
    """An `ActorState` with details."""

    #: Held for its life.
    required_resources: dict[str, float]
    #: Why it is dead.
    death_cause: dict[str, str] | None
    is_detached: bool
    placement_group_id: str | None
    #: What its output is shown under, if the class defines `__repr__`.
    repr_name: str
    num_restarts: int


@dataclass(frozen=True, eq=False)
class ObjectState(Record):
    """An object that somebody has a ref to. (In Ray there is a record for each process that has one.)"""

    object_id: str
    label: str
    #: Bytes; 0 while there is no value.
    object_size: int
    #: State of the task that makes it, as in `TaskState`; FINISHED for a `put`.
    task_status: str
    #: LOCAL_REFERENCE, USED_BY_PENDING_TASK, CAPTURED_IN_OBJECT, PINNED_IN_MEMORY (a function refers to it) or
    #: ACTOR_HANDLE.
    reference_type: str
    #: DRIVER or WORKER: who submitted the task, or called `put`.
    type: str
    #: Of that process; None when it is gone.
    pid: int | None
    ip: str


@dataclass(frozen=True, eq=False)
class WorkerState(Record):
    """A process of the session, or one that was."""

    worker_id: str
    is_alive: bool
    #: DRIVER or WORKER.
    worker_type: str
    #: What it does: starting, idle, busy, blocked, actor, stopping; None for a driver and for one that is gone.
    state: str | None
    #: What it runs.
    label: str
    #: SYSTEM_ERROR (it was killed, or crashed), INTENDED_SYSTEM_EXIT or NODE_OUT_OF_MEMORY; None while it is alive.
    exit_type: str | None
    node_id: str
    ip: str
    pid: int | None


@dataclass(frozen=True, eq=False)
class WorkerDetails(WorkerState):
    """A `WorkerState` with details."""

    #: How it ended, with its last words if it had some.
    exit_detail: str | None
    start_time_ms: int | None
    end_time_ms: int | None


@dataclass(frozen=True, eq=False)
class PlacementGroupState(Record):
    """A placement group."""

    placement_group_id: str
    #: Empty for one without a name.
    name: str
    creator_job_id: str
    #: PENDING, CREATED or REMOVED.
    state: str


@dataclass(frozen=True, eq=False)
class PlacementGroupDetails(PlacementGroupState):
    """A `PlacementGroupState` with details."""

    #: Of each bundle its `bundle_index`, its `resources` and the `node_id` where they are reserved.
    bundles: list[dict[str, Any]]
    strategy: str
    stats: dict[str, Any]


@dataclass(frozen=True, eq=False)
class NodeState(Record):
    """The machine."""

    node_id: str
    node_ip: str
    is_head_node: bool
    #: ALIVE or DEAD.
    state: str
    node_name: str
    resources_total: dict[str, float]
    labels: dict[str, str]


@dataclass(frozen=True, eq=False)
class JobState(Record):
    """The session, which is one job."""

    job_id: str
    #: DRIVER: there are no submitted jobs.
    type: str
    #: RUNNING.
    status: str
    #: Process id of the driver that it belongs to.
    driver_info: dict[str, Any]
