"""The records of lists, with the columns of Ray 2.60 that mean something on one machine.

A record is a dataclass and a mapping, so `record.state`, `record["state"]`, `dict(record)` and `pandas.DataFrame` of a
list all work. The columns that only `detail=True` gives are in a class of its own, derived from the plain class; asking
a plain record for one says so. There are two columns more than in Ray: `label`, which a ref shows
(`ObjectRef(square#3)`), and the state of a worker. Ids are hexadecimal digits, as `hex()` of refs and
`get_runtime_context()` give them; times are in milliseconds since 1970.
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
    "StateRecord",
    "TaskDetails",
    "TaskState",
    "WorkerDetails",
    "WorkerState",
    "columns",
]


@cache
def columns(kind: type[Any]) -> tuple[str, ...]:
    """Return the columns of a class of records, in order."""
    return tuple(field.name for field in dataclasses.fields(kind))


class StateRecord(Mapping[str, Any]):
    """What all records can do."""

    def asdict(self) -> dict[str, Any]:
        """Return the columns and their values."""
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
class TaskState(StateRecord):
    """One attempt of a task, of a method call, or of the creation of an actor.

    Attributes
    ----------
    task_id : str
        Id of the task.
    attempt_number : int
        From 0; a task that is retried has a record for each attempt.
    label : str
        `name#number`, as refs show.
    name : str
        The name of `.options(name=...)`, else the function's, or `Class.method`.
    state : str
        PENDING_ARGS_AVAIL (waits for objects), PENDING_NODE_ASSIGNMENT (waits for resources or for its actor),
        SUBMITTED_TO_WORKER (sent to a worker, behind another task), RUNNING, RUNNING_IN_RAY_GET (waits in `get` or
        `wait`), FINISHED or FAILED (also when cancelled; see `error_type`).
    job_id : str
        Id of the session's job.
    actor_id : str or None
        Id of the actor that the task belongs to.
    type : str
        NORMAL_TASK, ACTOR_TASK or ACTOR_CREATION_TASK.
    func_or_class_name : str
        The function or class.
    parent_task_id : str or None
        Id of the task that submitted this one; None: a driver did.
    node_id, worker_id : str or None
        Ids of the machine and of the process, once the task has one.
    worker_pid : int or None
        Process id of the worker.
    error_type : str or None
        TASK_EXECUTION_EXCEPTION (its code raised), TASK_CANCELLED, WORKER_DIED, ACTOR_DIED, OUT_OF_MEMORY and others.

    Examples
    --------
    >>> from ipyremote.util.state import TaskState, get_task
    >>> @ray.remote
    ... def recorded():
    ...     return 1
    >>> ref = recorded.remote()
    >>> ray.get(ref)
    1
    >>> record = get_task(ref)
    >>> isinstance(record, TaskState), record.label, record["state"]
    (True, 'recorded#1', 'FINISHED')
    """

    task_id: str
    attempt_number: int
    label: str
    name: str
    state: str
    job_id: str
    actor_id: str | None
    type: str
    func_or_class_name: str
    parent_task_id: str | None
    node_id: str | None
    worker_id: str | None
    worker_pid: int | None
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
class ActorState(StateRecord):
    """An actor, dead or alive.

    Attributes
    ----------
    actor_id : str
        Id of the actor.
    label : str
        `Class#number`, as handles show.
    class_name : str
        The class.
    state : str
        DEPENDENCIES_UNREADY (arguments wait for objects), PENDING_CREATION, ALIVE, RESTARTING or DEAD.
    job_id : str
        Id of the session's job.
    name : str
        Empty for an actor without a name.
    node_id : str or None
        Id of the machine, once the actor has a process.
    pid : int or None
        Process id.
    ray_namespace : str
        Namespace of the name.

    Examples
    --------
    >>> from ipyremote.util.state import ActorState, list_actors
    >>> all(isinstance(record, ActorState) for record in list_actors())
    True
    """

    actor_id: str
    label: str
    class_name: str
    state: str
    job_id: str
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
class ObjectState(StateRecord):
    """An object that somebody has a ref of.

    Ray has a record for each process that has a ref.

    Attributes
    ----------
    object_id : str
        Id of the object.
    label : str
        As refs show.
    object_size : int
        Bytes; 0 while there is no value.
    task_status : str
        State of the task that makes the object, as in `TaskState`; FINISHED for a `put`.
    reference_type : str
        LOCAL_REFERENCE, USED_BY_PENDING_TASK, CAPTURED_IN_OBJECT, PINNED_IN_MEMORY (a function refers to it) or
        ACTOR_HANDLE.
    type : str
        DRIVER or WORKER: the kind of process that submitted the task, or called `put`.
    pid : int or None
        Id of that process; None when the process is gone.
    ip : str
        Address of the machine.

    Examples
    --------
    >>> from ipyremote.util.state import ObjectState, list_objects
    >>> ref = ray.put("kept")
    >>> (record,) = [record for record in list_objects() if record.object_id == ref.hex()]
    >>> isinstance(record, ObjectState), record.type
    (True, 'DRIVER')
    """

    object_id: str
    label: str
    object_size: int
    task_status: str
    reference_type: str
    type: str
    pid: int | None
    ip: str


@dataclass(frozen=True, eq=False)
class WorkerState(StateRecord):
    """A process of the session, or one that was.

    Attributes
    ----------
    worker_id : str
        Id of the process.
    is_alive : bool
        Whether the process is there.
    worker_type : str
        DRIVER or WORKER.
    state : str or None
        starting, idle, busy, blocked, actor or stopping; None for a driver and for a process that is gone.
    label : str
        What the process runs.
    exit_type : str or None
        SYSTEM_ERROR (killed, or crashed), INTENDED_SYSTEM_EXIT or NODE_OUT_OF_MEMORY; None while the process is alive.
    node_id, ip : str
        Id and address of the machine.
    pid : int or None
        Process id.

    Examples
    --------
    >>> from ipyremote.util.state import WorkerState, list_workers
    >>> {type(record) is WorkerState for record in list_workers()}
    {True}
    """

    worker_id: str
    is_alive: bool
    worker_type: str
    state: str | None
    label: str
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
class PlacementGroupState(StateRecord):
    """A placement group.

    Attributes
    ----------
    placement_group_id : str
        Id of the group.
    name : str
        Empty for a group without a name.
    creator_job_id : str
        Id of the session's job.
    state : str
        PENDING, CREATED or REMOVED.

    Examples
    --------
    >>> from ipyremote.util.state import PlacementGroupState, list_placement_groups
    >>> all(isinstance(record, PlacementGroupState) for record in list_placement_groups())
    True
    """

    placement_group_id: str
    name: str
    creator_job_id: str
    state: str


@dataclass(frozen=True, eq=False)
class PlacementGroupDetails(PlacementGroupState):
    """A `PlacementGroupState` with details."""

    #: Of each bundle its `bundle_index`, its `resources` and the `node_id` where they are reserved.
    bundles: list[dict[str, Any]]
    strategy: str
    stats: dict[str, Any]


@dataclass(frozen=True, eq=False)
class NodeState(StateRecord):
    """The machine.

    Attributes
    ----------
    node_id, node_ip, node_name : str
        Id, address and name.
    is_head_node : bool
        True: there is one machine.
    state : str
        ALIVE or DEAD.
    resources_total : dict of str to float
        Amounts of resources by name, as of `cluster_resources`.
    labels : dict of str to str
        Labels of the machine.

    Examples
    --------
    >>> from ipyremote.util.state import NodeState, list_nodes
    >>> (node,) = list_nodes()
    >>> isinstance(node, NodeState), node.is_head_node
    (True, True)
    """

    node_id: str
    node_ip: str
    is_head_node: bool
    state: str
    node_name: str
    resources_total: dict[str, float]
    labels: dict[str, str]


@dataclass(frozen=True, eq=False)
class JobState(StateRecord):
    """The session, which is one job.

    Attributes
    ----------
    job_id : str
        Id of the job.
    type : str
        DRIVER: there are no submitted jobs.
    status : str
        RUNNING.
    driver_info : dict
        `id`, `node_ip_address` and `pid` of the driver that the session belongs to.

    Examples
    --------
    >>> import os
    >>> from ipyremote.util.state import JobState, list_jobs
    >>> (job,) = list_jobs()
    >>> isinstance(job, JobState), job.driver_info["pid"] == os.getpid()
    (True, True)
    """

    job_id: str
    type: str
    status: str
    driver_info: dict[str, Any]
