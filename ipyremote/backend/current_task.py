"""What code that runs in a worker can ask about itself: to leave, whether it was cancelled, which actor it is.

The backend's `current_task` answers; where no task runs there is nobody to ask, and the functions here say so.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from ipyremote.backend import current
from ipyremote.backend.protocol import CurrentTask
from ipyremote.backend.records import Identity

__all__ = ["INTERRUPTIBLE", "ActorExit", "current_actor", "exit_actor", "identity", "is_canceled"]

#: Name of an attribute of classes whose methods are interrupted when they are cancelled, as tasks are. Methods of
#: Ray's actors are not.
INTERRUPTIBLE: Final = "__ipyremote_interruptible__"


class ActorExit(SystemExit):
    """The exception that `exit_actor` raises in a method that is not a coroutine. Not for users."""


def exit_actor() -> NoReturn:
    """Leave the actor that this code runs in, on purpose, so that the actor is not restarted.

    The call that leaves raises ActorDiedError for its caller, and so do calls that run beside that call, have not
    started, or come later. Functions registered with `atexit` run. As in Ray, the method is ended by an exception, in
    an async actor by AsyncioActorExit. Raises TypeError outside of an actor.
    """
    task = _task()
    if task is None:
        raise TypeError(
            "exit_actor() is for methods of actors, and this code does not run in one. Use kill(handle) to end an "
            "actor from outside."
        )
    task.exit_actor()


def is_canceled() -> bool:
    """Return whether `cancel` was called for the task or method that asks.

    Methods of actors are not interrupted, except coroutines, so that a method can stop where that suits the method.
    Raises RuntimeError in a driver and in an async actor, as Ray does.
    """
    task = _task()
    if task is None:
        raise RuntimeError("is_canceled() is for tasks and methods of actors; nobody can cancel this program")
    return task.is_canceled()


def current_actor() -> Any:
    """Return a handle of the actor that this code runs in, which does not keep the actor alive.

    Raises RuntimeError outside of an actor.
    """
    task = _task()
    if task is None:
        raise RuntimeError("This code does not run in an actor, so there is no current actor.")
    return task.current_actor()


def identity() -> Identity:
    """Return on whose behalf the calling code runs; the identity of a driver when no session is running."""
    backend = current.peek()
    return Identity() if backend is None else backend.identity()


def _task() -> CurrentTask | None:
    backend = current.peek()
    return None if backend is None else backend.current_task
