"""Rows: parts of the replies to requests about the tasks, actors, objects and workers of a session.

WorkerStatus, ClusterStatus                  what runs now and what is free
TaskRun                                      one run that has ended, for a timeline
Bound, Saved                                 names of a driver's program
NamedActor                                   an actor that can be found by its name
TaskRow, ActorRow, ObjectRow, WorkerRow      one row of a list
Filter, RowCount                             a condition on rows; the number of rows that are alike
"""

from __future__ import annotations

from ipyremote.backend.records import ClusterStatus, Resources, TaskRun, WorkerStatus
from ipyremote.ids import ActorId, ClientId, GroupId, ObjectId, TaskId
from ipyremote.messages.values import Struct

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
    """A name of a driver's program whose value is made of refs and handles."""

    name: str
    #: Ids of objects and actors that the value refers to.
    ids: tuple[ObjectId, ...]
    #: Pickle of the value: refs and handles, or lists, tuples and dicts of these.
    payload: bytes


class Saved(Struct, frozen=True):
    """A name of a driver that has ended, and the present state of its value."""

    bound: Bound
    #: Label of the task or actor; for several, their number.
    label: str
    #: State as in `TaskUpdate`, or of an actor; for several, the number in each state.
    state: str


class NamedActor(Struct, frozen=True):
    """An actor that can be found by its name."""

    name: str
    namespace: str
    actor_id: ActorId
    label: str
    #: Pickle of an `actor.ActorRecord`, as in `ActorSpec`.
    record: bytes


class TaskRow(Struct, frozen=True):
    """One attempt of a task. States and types are Ray's words. Times are the scheduler's clock; 0 for "not yet"."""

    task_id: TaskId
    attempt: int
    label: str
    #: Name of the task: the label without its number.
    name: str
    state: str
    #: "NORMAL_TASK", "ACTOR_CREATION_TASK" or "ACTOR_TASK".
    type: str
    #: Name of the function as it is defined, whatever name the call was given.
    function: str
    #: Actor of a method call or of a creation; 0 for other tasks.
    actor_id: ActorId
    #: The task that submitted this one; 0 for a driver.
    parent: TaskId
    #: Worker of the attempt; 0 if there is or was none.
    worker_id: ClientId
    #: Process id of that worker, or 0.
    pid: int
    #: Ray's word for the kind of failure; empty unless the attempt failed.
    error_type: str
    #: Id of the placement group of the task; 0 for none.
    group: GroupId
    submitted: float
    started: float
    ended: float
    #: Text of the failure; empty unless details were asked for.
    error: str = ""
    resources: Resources = ()


class ActorRow(Struct, frozen=True):
    """An actor, dead or alive. States are Ray's words."""

    actor_id: ActorId
    label: str
    class_name: str
    state: str
    name: str
    namespace: str
    #: Process id; 0 while the actor has no process.
    pid: int
    #: Title under which the actor's output is shown; empty if the actor gave none.
    title: str
    resources: Resources
    is_detached: bool
    restarts: int
    #: Id of the placement group of the actor; 0 for none.
    group: GroupId
    #: Reason of the actor's death; empty unless details were asked for.
    cause: str = ""


class ObjectRow(Struct, frozen=True):
    """An object. `status` and `reference` are Ray's words."""

    object_id: ObjectId
    #: Label of the task that gives the value; empty for a `put`.
    label: str
    #: Size of the value in bytes; 0 while the object is promised.
    size: int
    status: str
    reference: str
    #: Process id of the client that made the object; 0 when that process is gone or not known.
    pid: int
    #: Whether a driver made the object.
    is_of_driver: bool


class WorkerRow(Struct, frozen=True):
    """A process of the session. Times are the scheduler's clock; 0 when not known."""

    worker_id: ClientId
    pid: int
    is_driver: bool
    is_alive: bool
    #: State as in `WorkerStatus`, or "stopping"; empty for a driver and for a process that is gone.
    state: str = ""
    #: Label of the task that the process runs.
    label: str = ""
    #: Ray's word for the way in which the process ended; empty while it runs.
    exit_type: str = ""
    #: Text of the reason of the end.
    exit_detail: str = ""
    started: float = 0.0
    ended: float = 0.0


class Filter(Struct, frozen=True):
    """A condition on a column of a list."""

    column: str
    #: Whether the column must be equal to `value`, or must differ.
    is_equal: bool
    #: A number, or text in lower case: text is compared without regard to case.
    value: int | str


class RowCount(Struct, frozen=True):
    """The number of rows of a list that are alike. Fields that a kind of row does not have are empty."""

    name: str
    type: str
    state: str
    reference: str
    count: int
    #: Sum of the sizes of the objects in bytes.
    size: int
