"""The calls that code of this process submits and runs: ids, labels, arguments, and the call that code belongs to.

For engines whose submitting process mints the ids, and whose tasks run in threads or coroutines of this process. The
`SubmittedCalls` of a session is also the `CurrentTask` of the code that runs.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

from ipyremote.backend import Identity, Origin, TaskOptions
from ipyremote.backend.current_task import ActorExit
from ipyremote.engine_kit.call_arguments import PickledCall, pickled_call
from ipyremote.engine_kit.call_context import Running, concurrent, concurrently
from ipyremote.engine_kit.listener_reporter import ReportingTask
from ipyremote.ids import DRIVER, NOBODY, ActorId, IdSource, ObjectId, TaskId
from ipyremote.refs import ObjectRef

__all__ = ["SubmittedCall", "SubmittedCalls"]


@dataclass(frozen=True, slots=True)
class SubmittedCall:
    """A call of a function, a class or a method."""

    #: Id of the first return.
    first: TaskId
    #: `name#number` of the call.
    label: str
    arguments: PickledCall
    options: TaskOptions
    #: Run from which the call's own submissions inherit.
    running: Running
    identity: Identity

    @property
    def needs(self) -> tuple[ObjectId, ...]:
        """Ids of all objects and actors that the call refers to, with repetitions; a method refers to its actor."""
        actor = self.identity.actor
        return self.arguments.refs if actor in (0, self.first) else (*self.arguments.refs, actor)

    @property
    def reporting(self) -> ReportingTask:
        """The key by which `remote_cells` knows the call."""
        return ReportingTask(self.running.cell, self.label, self.first)


class SubmittedCalls:
    """The source of a session's calls, and the `CurrentTask` of the code in them. Thread-safe."""

    def __init__(
        self,
        id_of: Callable[[ObjectRef[Any]], ObjectId],
        leave: Callable[[ActorId], str],
        handle_of: Callable[[ActorId], Any],
    ) -> None:
        """Begin with the driver's own code.

        Parameters
        ----------
        id_of
            Gives the id of a ref, or raises for a ref of another session.
        leave
            Ends the actor with this id, whose code has asked for the end; returns the reason of the actor's death.
        handle_of
            Makes a weak handle of the actor with this id.
        """
        self._id_of = id_of
        self._leave = leave
        self._handle_of = handle_of
        self._lock = threading.Lock()
        self._ids = IdSource(DRIVER)
        self._program = Running(driver=DRIVER)
        self._current: ContextVar[SubmittedCall | None] = ContextVar("ipyremote_call", default=None)

    def new(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions,
        *,
        actor_id: ActorId = NOBODY,
        creates_actor: bool = False,
        resources: tuple[tuple[str, int], ...] | None = None,
    ) -> SubmittedCall:
        """Make a call of a function, of an actor's method, or of an actor's class (both with the actor's resources).

        Raises TypeError, which names the part that cannot be pickled, and the exceptions of `id_of`.
        """
        arguments = pickled_call(args, kwargs, self._id_of)
        outer = self.running
        with self._lock:
            first, label = self._ids.take(options.returns), outer.label_of(name)
        running = Running(driver=DRIVER, task_id=first, cell=outer.cell, number=label.number)
        identity = Identity(
            task=first,
            task_name=name,
            function=name,
            actor=first if creates_actor else actor_id,
            resources=options.resources if resources is None else resources,
        )
        return SubmittedCall(first, str(label), arguments, options, running, identity)

    def mint(self, name: str) -> tuple[ObjectId, str]:
        """Return a new id, and the label of the next submission with this name."""
        with self._lock:
            return self._ids.take(), str(self.running.label_of(name))

    @contextmanager
    def inside(self, call: SubmittedCall) -> Iterator[None]:
        """Make the code of this block, in this thread or coroutine, part of the call."""
        token = self._current.set(call)
        try:
            with concurrently(call.running):
                yield
        finally:
            self._current.reset(token)

    @property
    def running(self) -> Running:
        """The run that the calling code belongs to."""
        return concurrent.get() or self._program

    @property
    def is_inside(self) -> bool:
        """Whether the calling code belongs to a call, and not to the driver."""
        return self._current.get() is not None

    def identity(self) -> Identity:
        """Return the identity of the calling code; see `Backend.identity`."""
        call = self._current.get()
        return Identity() if call is None else call.identity

    def origin(self) -> Origin:
        """Return a function that lets other threads submit on behalf of the calling code; see `Backend.origin`."""
        # A copy keeps the cell of this moment, and shares the counters of the labels.
        frozen = copy.copy(self.running)
        return lambda: concurrently(frozen)

    # -------------------------------------------------------------------------------------------------- CurrentTask

    def exit_actor(self) -> NoReturn:
        """Leave the actor that the code runs in; see `current_task.exit_actor`."""
        actor_id = self.identity().actor
        if not actor_id:
            raise TypeError("exit_actor() is for methods of actors, and this code does not run in one.")
        raise ActorExit(self._leave(actor_id))

    def is_canceled(self) -> bool:
        """Return whether the running task was cancelled: never, since these threads cannot be interrupted."""
        if not self.is_inside:
            raise RuntimeError(
                "is_canceled() is for tasks and methods of actors; nobody can cancel this program"
            )
        return False

    def current_actor(self) -> Any:
        """Return a handle of the actor that the code runs in; see `current_task.current_actor`."""
        actor_id = self.identity().actor
        if not actor_id:
            raise RuntimeError("This code does not run in an actor, so there is no current actor.")
        return self._handle_of(actor_id)
