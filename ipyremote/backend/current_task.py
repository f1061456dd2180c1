"""What code that runs in a worker can ask about itself: to leave, whether it was cancelled, which actor it is.

The worker answers, through `Session.inside`; elsewhere there is nobody to ask, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from ipyremote.backend import current
from ipyremote.ids import DRIVER

__all__ = ["ActorExit", "Identity", "Inside", "current_actor", "exit_actor", "identity", "is_canceled"]

#: Set in a class whose methods are interrupted when they are cancelled, as tasks are. Ray's actors are not.
INTERRUPTIBLE: Final = "__ipyremote_interruptible__"


class ActorExit(SystemExit):
    """Raised by `exit_actor` in a method that is not a coroutine. Not for users."""


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf the calling code runs. Ids are 0, and names empty, where there is none."""

    #: The process, as a client of the session.
    client: int = DRIVER
    task: int = 0
    task_name: str = ""
    #: Module and qualified name.
    function: str = ""
    actor: int = 0
    #: Whether the actor was restarted.
    restarted: bool = False
    #: (name, ten-thousandths) pairs of the task, or of the actor for its life.
    resources: tuple[tuple[str, int], ...] = ()
    #: Indices.
    gpus: tuple[int, ...] = ()
    #: The placement group that it is in.
    group: int = 0
    #: Whether what it submits is placed in that, too.
    captures: bool = False


class Inside(Protocol):
    """A worker, from the point of view of the code in it."""

    def exit_actor(self) -> NoReturn:
        """See below."""

    def is_canceled(self) -> bool:
        """See below."""

    def current_actor(self) -> Any:
        """See below."""

    def identity(self) -> Identity:
        """See below."""


def exit_actor() -> NoReturn:
    """Leave the actor that this code runs in, on purpose: it is not restarted, and later calls raise ActorDiedError.

    So does the call that leaves, and those that run beside it or have not started. Functions registered with `atexit`
    run. As in Ray, it ends the method by an exception, in an async actor by AsyncioActorExit. Raises TypeError outside
    of an actor.
    """
    inside = _inside()
    if inside is None:
        raise TypeError(
            "exit_actor() is for methods of actors, and this code does not run in one. Use kill(handle) to end an "
            "actor from outside."
        )
    inside.exit_actor()


def is_canceled() -> bool:
    """Whether `cancel` was called for the task or method that asks.

    Methods of actors are not interrupted, except coroutines, so that they can stop where it suits them. Raises
    RuntimeError in a driver and in an async actor, as Ray does.
    """
    inside = _inside()
    if inside is None:
        raise RuntimeError("is_canceled() is for tasks and methods of actors; nobody can cancel this program")
    return inside.is_canceled()


def current_actor() -> Any:
    """The handle of the actor that this code runs in. It does not keep the actor alive. RuntimeError outside of one."""
    inside = _inside()
    if inside is None:
        raise RuntimeError("This code does not run in an actor, so there is no current actor.")
    return inside.current_actor()


def identity() -> Identity:
    """On whose behalf the calling code runs."""
    inside = _inside()
    if inside is not None:
        return inside.identity()
    client: int = getattr(current.peek(), "client_id", DRIVER)
    return Identity(client)


def _inside() -> Inside | None:
    inside: Inside | None = getattr(current.peek(), "inside", None)
    return inside
