"""Reports that only a worker sends to the scheduler. The output of tasks is in `values`.

    RunTask  -->  Blocked  Unblocked  Yield ...  TaskDone | TaskFailed     one run, from its start to its end
    Recall   -->  Returned                                                 tasks that have not started and go back

A task whose `TaskSpec.stream` is not 0 sends `Yield` for each item. The scheduler makes an object of the item, which
the submitter holds from then on, and tells the submitter with `StreamItem`. Items are known by their index, so that a
task which runs again gives no item twice. `ObjectReady` of the task's own object is the end of the stream. When the
submitter's generator is gone, its `Release` names the task itself: `-task_id`.
"""

from __future__ import annotations

from typing import TypeAlias

from ipyremote.ids import ObjectId, TaskId
from ipyremote.messages.values import Failure, Forward, Inline, Stored, Struct, Value

__all__ = [
    "Blocked",
    "FromWorker",
    "Returned",
    "TaskDone",
    "TaskFailed",
    "Titled",
    "Unblocked",
    "Yield",
]


class TaskDone(Struct, frozen=True, tag=30):
    """The end of a run, with a value for each return. An exception that is not retried is a `Failure` value."""

    task_id: TaskId
    attempt: int
    values: tuple[Value, ...]
    #: For each value the ids of objects and actors that the value refers to; empty when no value refers to any.
    refs: tuple[tuple[ObjectId, ...], ...] = ()
    #: Duration of the user's code in microseconds.
    micros: int = 0


class TaskFailed(Struct, frozen=True, tag=31):
    """The end of a run with an exception that matches the task's `retry_on`: the task runs again if a retry is left."""

    task_id: TaskId
    attempt: int
    failure: Failure
    #: Duration of the user's code in microseconds.
    micros: int = 0


class Blocked(Struct, frozen=True, tag=32):
    """The running task waits in `get` or `wait`."""

    task_id: TaskId
    #: Tasks that were sent ahead and go back without having started.
    returned: tuple[TaskId, ...] = ()


class Unblocked(Struct, frozen=True, tag=33):
    """A task that waited in `get` or `wait` goes on."""

    task_id: TaskId


class Returned(Struct, frozen=True, tag=34):
    """Answer to `Recall`: tasks that have not started, and will not start on this worker."""

    task_ids: tuple[TaskId, ...]


class Yield(Struct, frozen=True, tag=60):
    """An item of a stream."""

    task_id: TaskId
    attempt: int
    #: Number of the item, from 0 in each attempt.
    index: int
    value: Inline | Stored | Forward
    #: Ids of objects and actors that the value refers to.
    refs: tuple[ObjectId, ...] = ()


class Titled(Struct, frozen=True, tag=67):
    """The title of an actor, which stands before its output instead of the labels of its calls."""

    title: str


#: All messages that only a worker sends.
FromWorker: TypeAlias = TaskDone | TaskFailed | Blocked | Unblocked | Returned | Yield | Titled
