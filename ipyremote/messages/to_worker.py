"""What the scheduler tells only a worker.

    RunTask       run a task; several may be sent ahead, and run in the order sent
    Recall        hand back those sent ahead that have not started
    CancelRun     interrupt one of them
    StreamDemand  how many items of a stream to make
    Exit          leave

`from_client.Define` is sent to a worker, too, before the first task that needs it.
"""

from __future__ import annotations

from ipyremote.messages.task import ActorSpec, TaskSpec
from ipyremote.messages.values import Inline, Stored, Struct

__all__ = [
    "CancelRun",
    "Exit",
    "Recall",
    "RunTask",
    "StreamDemand",
]


class RunTask(Struct, frozen=True, tag=50):
    """Run this, after what was sent before. Each dependency's value is here, or came before as `ObjectReady`."""

    spec: TaskSpec
    attempt: int
    #: Number of this run on this worker, counting from 1: what the worker writes into its progress page.
    run: int
    #: Values of `spec.deps`, in order; None where it was sent ahead as `ObjectReady`.
    values: tuple[Inline | Stored | None, ...] = ()
    #: Indices of the GPUs assigned to it.
    gpus: tuple[int, ...] = ()
    #: Set for an actor's creation: from now on this worker is the actor.
    actor: ActorSpec | None = None


class Recall(Struct, frozen=True, tag=51):
    """Hand back those of these tasks that have not started; answered by `Returned`."""

    task_ids: tuple[int, ...]


class CancelRun(Struct, frozen=True, tag=52):
    """Raise KeyboardInterrupt in this task if it runs now. If it has not started, it never does.

    Either is reported as a `TaskDone` with `Failure("task_cancelled", ...)` values.
    """

    task_id: int
    attempt: int


class StreamDemand(Struct, frozen=True, tag=63):
    """How many items of a running task's stream are wanted, counted from its beginning.

    ENDLESS: all of them. 0: nobody can see any, so close the generator, or do not start it, and report `TaskDone`.
    """

    task_id: int
    attempt: int
    items: int


class Exit(Struct, frozen=True, tag=53):
    """Finish what runs, then leave."""
