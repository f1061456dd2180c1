"""The nested runs of each thread of an inline session: the program, and in it the running tasks and actors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ipyremote.backend import Identity, Resources
from ipyremote.backend.current_task import ActorExit
from ipyremote.backend.placement import Place
from ipyremote.backends.inline.objects import InlineActor
from ipyremote.engine_kit.call_context import Label, Running
from ipyremote.ids import DRIVER, TaskId

__all__ = ["InlineCurrentTask", "InlineStack", "identity_of"]


class InlineStack(threading.local):
    """The innermost run of the calling thread."""

    def __init__(self, program: Running) -> None:
        """Begin with the driver's own code, `program`. `threading.local` repeats this call in each thread."""
        #: Run that numbers the submissions of the thread.
        self.task = program
        #: Running actor, or label of the running task; None in the driver's own code.
        self.what: InlineActor | str | None = None
        self.identity = Identity()

    @contextlib.contextmanager
    def inside(self, label: Label, actor: InlineActor | None, identity: Identity) -> Iterator[None]:
        """Make the block part of a run: calls that this thread submits in the block belong to the run."""
        outer = self.task, self.what, self.identity
        place = Place(identity.group, captures=identity.captures) if identity.group else None
        self.task = Running(driver=DRIVER, number=label.number, place=place)
        self.what, self.identity = actor or str(label), identity
        try:
            yield
        finally:
            self.task, self.what, self.identity = outer


def identity_of(
    first: TaskId, label: Label, resources: Resources, actor: InlineActor | None, place: Place | None = None
) -> Identity:
    """Return the identity of a run of a task, or of an actor's method. `place` is that of a task."""
    name = label.name
    place = (actor.place if actor is not None else place) or Place()
    group, captures = place.group_id, bool(place.captures)
    if actor is None:
        return Identity(
            task=first,
            task_name=name,
            function=name,
            resources=resources,
            group=group,
            captures=captures,
        )
    return Identity(
        task=first,
        task_name=name,
        function=name,
        actor=actor.actor_id,
        resources=actor.options.resources,
        group=group,
        captures=captures,
    )


class InlineCurrentTask:
    """The task or actor of the running code, as that code sees it; a `CurrentTask` of `backend/protocol.py`."""

    def __init__(self, stack: InlineStack, handle_of: Callable[[InlineActor], Any]) -> None:
        """`handle_of` makes a weak handle of an actor."""
        self._stack = stack
        self._handle_of = handle_of

    def exit_actor(self) -> NoReturn:
        actor = self._actor()
        if actor is None:
            raise TypeError("exit_actor() is for methods of actors, and this code does not run in one.")
        reason = f"The actor {actor.label} has left by exit_actor()."
        actor.end(reason)
        raise ActorExit(reason)

    def is_canceled(self) -> bool:
        if self._stack.what is None:
            raise RuntimeError(
                "is_canceled() is for tasks and methods of actors; nobody can cancel this program"
            )
        return False  # a task has ended before anybody has a ref to cancel it by

    def current_actor(self) -> Any:
        actor = self._actor()
        if actor is None:
            raise RuntimeError("This code does not run in an actor, so there is no current actor.")
        return self._handle_of(actor)

    def identity(self) -> Identity:
        return self._stack.identity

    def _actor(self) -> InlineActor | None:
        running = self._stack.what
        return running if isinstance(running, InlineActor) else None
