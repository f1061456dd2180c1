"""What is there, as rows: the answers to questions about a session's tasks, actors, objects and workers.

WorkerStatus, ClusterStatus                  what runs now and what is free
TaskRun                                      one run that has ended, for a timeline
Bound, Saved                                 names of a driver's program
NamedActor                                   an actor that can be found by its name
TaskRow, ActorRow, ObjectRow, WorkerRow      one line of a list
Filter, Group                                which lines are wanted; how many lines are alike
"""

from __future__ import annotations

from ipyremote.backend.records import ClusterStatus, TaskRun, WorkerStatus
from ipyremote.messages.values import Resources, Struct

__all__ = [
    "ActorRow",
    "Bound",
    "ClusterStatus",
    "Filter",
    "NamedActor",
    "ObjectRow",
    "RowCount",
    "Saved",
    "TaskRow",
    "TaskRun",
    "WorkerRow",
    "WorkerStatus",
]


class Bound(Struct, frozen=True):
    """A name of the driver's program and what it stands for."""

    name: str
    #: Objects and actors that the value refers to.
    ids: tuple[int, ...]
    #: The pickle of the value, which is nothing but refs and handles, or lists, tuples and dicts of them.
    payload: bytes


class Saved(Struct, frozen=True):
    """A name whose driver has ended, and what became of what it stands for."""

    bound: Bound
    #: Label of the task or actor; for several, how many there are.
    label: str
    #: As in `TaskUpdate`, or an actor's; for several, how many are in each state.
    state: str


class NamedActor(Struct, frozen=True):
    """An actor that can be found by its name."""

    name: str
    namespace: str
    actor_id: int
    label: str
    #: As in `ActorSpec`.
    record: bytes


class TaskRow(Struct, frozen=True):
    """One attempt of a task, for a list. States and types are Ray's words. Times: the scheduler's clock; 0: not yet."""

    task_id: int
    attempt: int
    label: str
    #: The label without its number.
    name: str
    state: str
    #: "NORMAL_TASK", "ACTOR_CREATION_TASK" or "ACTOR_TASK".
    type: str
    function: str
    actor_id: int
    #: The task that submitted it; 0: a driver.
    parent: int
    #: 0 and 0 while it is on no worker, and for one that never was.
    worker_id: int
    pid: int
    #: Empty unless it failed.
    error_type: str
    #: The placement group that it is in; 0: none.
    group: int
    submitted: float
    started: float
    ended: float
    #: Empty unless details were asked for.
    error: str = ""
    resources: Resources = ()


class ActorRow(Struct, frozen=True):
    """An actor, for a list. States are Ray's words."""

    actor_id: int
    label: str
    class_name: str
    state: str
    name: str
    namespace: str
    #: 0 while it has no process.
    pid: int
    #: What its output is shown under, if it says so.
    title: str
    resources: Resources
    is_detached: bool
    restarts: int
    #: The placement group that it is in; 0: none.
    group: int
    #: Why it is dead; empty unless details were asked for.
    cause: str = ""


class ObjectRow(Struct, frozen=True):
    """An object, for a list. `status` and `reference` are Ray's words."""

    object_id: int
    #: Empty for a `put`.
    label: str
    #: Bytes; 0 while it is promised.
    size: int
    status: str
    reference: str
    #: Who made it: 0 when that process is gone, or is not known.
    pid: int
    is_of_driver: bool


class WorkerRow(Struct, frozen=True):
    """A process of the session, for a list. Times: the scheduler's clock; 0: not known."""

    worker_id: int
    pid: int
    is_driver: bool
    is_alive: bool
    #: As in `WorkerStatus`, and "stopping"; empty for a driver and for one that is gone.
    state: str = ""
    #: Label of what it runs.
    label: str = ""
    #: Ray's word for the way it ended, and how it ended in words.
    exit_type: str = ""
    exit_detail: str = ""
    started: float = 0.0
    ended: float = 0.0


class Filter(Struct, frozen=True):
    """A condition on a column of a list. Text is compared without regard to case, and is given in lower case."""

    column: str
    is_equal: bool
    value: int | str


class RowCount(Struct, frozen=True):
    """How many rows of a list are alike. What does not apply is empty."""

    name: str
    type: str
    state: str
    reference: str
    count: int
    size: int
