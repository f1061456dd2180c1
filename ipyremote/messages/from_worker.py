"""What only a worker reports to the scheduler. Its output is in `values`.

    RunTask  -->  Blocked  Unblocked  Yield ...  TaskDone | TaskFailed     one run, from its start to its end
    Recall   -->  Returned                                                 tasks that it was sent ahead of time

A task whose `TaskSpec.stream` is not 0 sends `Yield` for each item. The scheduler makes an object of the item, which
the submitter holds from then on, and tells the submitter with `StreamItem`. Items are known by their index, so that a
task which runs again gives none twice. `ObjectReady` of the task's own object is the end of the stream. The submitter's
generator is named `-task_id` in its `Release`.
"""

from __future__ import annotations

from ipyremote.messages.values import Failure, Forward, Inline, Stored, Struct, Value

__all__ = [
    "Blocked",
    "Returned",
    "TaskDone",
    "TaskFailed",
    "Titled",
    "Unblocked",
    "Yield",
]


class TaskDone(Struct, frozen=True, tag=30):
    """A run ended with values, one for each return (user exceptions that are not retried are `Failure` values)."""

    task_id: int
    attempt: int
    values: tuple[Value, ...]
    #: For each value the objects and actors referred to inside it; empty when no value refers to any.
    refs: tuple[tuple[int, ...], ...] = ()
    #: How long user code ran, in microseconds.
    micros: int = 0


class TaskFailed(Struct, frozen=True, tag=31):
    """A run ended with an exception that matches the task's `retry_on`: run it again if a retry is left."""

    task_id: int
    attempt: int
    failure: Failure
    micros: int = 0


class Blocked(Struct, frozen=True, tag=32):
    """The running task waits in `get` or `wait`; `returned` are tasks sent ahead that go back unstarted."""

    task_id: int
    returned: tuple[int, ...] = ()


class Unblocked(Struct, frozen=True, tag=33):
    """The task goes on."""

    task_id: int


class Returned(Struct, frozen=True, tag=34):
    """Answer to `Recall`: these were not started and will not be."""

    task_ids: tuple[int, ...]


class Yield(Struct, frozen=True, tag=60):
    """An item of a stream. `index` counts from 0 in each attempt."""

    task_id: int
    attempt: int
    index: int
    value: Inline | Stored | Forward
    #: Objects and actors referred to inside the value.
    refs: tuple[int, ...] = ()


class Titled(Struct, frozen=True, tag=67):
    """From an actor: what stands before its output instead of the labels of its calls."""

    title: str
