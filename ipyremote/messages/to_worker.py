"""Messages from the scheduler to a worker only.

    RunTask       run a task; several may be sent ahead, and run in the order sent
    Recall        hand back tasks that were sent ahead and have not started
    CancelRun     interrupt a task
    StreamDemand  make items of a stream up to this number
    Exit          leave

`from_client.Define` is sent to a worker, too, before the first task that needs it.
"""

from __future__ import annotations

from typing import TypeAlias

from ipyremote.ids import TaskId
from ipyremote.messages.task import ActorSpec, TaskSpec
from ipyremote.messages.values import Inline, Stored, Struct

__all__ = [
    "CancelRun",
    "Exit",
    "Recall",
    "RunTask",
    "StreamDemand",
    "ToWorker",
]


class RunTask(Struct, frozen=True, tag=50):
    """A task to be run after all tasks that were sent before."""

    spec: TaskSpec
    attempt: int
    #: Number of this run on this worker, from 1. The worker writes it into its progress page.
    run: int
    #: Values of `spec.deps`, in order; None for a value that was sent ahead as `ObjectReady`.
    values: tuple[Inline | Stored | None, ...] = ()
    #: Device indices of the GPUs that the task may use.
    gpus: tuple[int, ...] = ()
    #: The actor that this worker becomes by running its creation; None for other tasks.
    actor: ActorSpec | None = None


class Recall(Struct, frozen=True, tag=51):
    """Tasks to be handed back if they have not started. Answered by `Returned`."""

    task_ids: tuple[TaskId, ...]


class CancelRun(Struct, frozen=True, tag=52):
    """A task to be interrupted by KeyboardInterrupt if it runs, and not to be started otherwise.

    The worker answers with a `TaskDone` whose values are `Failure("task_cancelled", ...)`.
    """

    task_id: TaskId
    attempt: int


class StreamDemand(Struct, frozen=True, tag=63):
    """The number of items that a running task's stream is to make."""

    task_id: TaskId
    attempt: int
    #: Number of items from the beginning of the stream; ENDLESS for all. With 0 nobody can see the items any more: the
    #: worker closes the generator, or does not start it, and reports `TaskDone`.
    items: int


class Exit(Struct, frozen=True, tag=53):
    """The request to leave when the running task has ended."""


#: All messages that only a worker accepts.
ToWorker: TypeAlias = RunTask | Recall | CancelRun | Exit | StreamDemand
