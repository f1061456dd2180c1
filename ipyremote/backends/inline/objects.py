"""The objects and actors of an inline session, with their outcomes and the numbers of their holders.

The holders of an object are the Python refs to the object and the values that contain such a ref. An object is dropped
with its last holder, and then releases the objects that its value refers to. Thread-safe; the lock is never held while
user code runs, finalizers included.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ipyremote.backend import ActorOptions
from ipyremote.backend.placement import Place
from ipyremote.engine_kit.call_context import Label
from ipyremote.engine_kit.failures import FREED, PickledFailure
from ipyremote.engine_kit.outcomes import PickledValue
from ipyremote.ids import ActorId, ObjectId, TaskId, minus

__all__ = ["InlineActor", "InlineObject", "InlineObjects", "InlineOutcome"]

#: The result of a task, which is known when the task's `.remote()` returns.
InlineOutcome: TypeAlias = PickledValue | PickledFailure


@dataclass(slots=True)
class InlineObject:
    """An object of the session, which always has an outcome."""

    outcome: InlineOutcome
    label: str
    #: Run time of the object's task, in seconds.
    seconds: float = 0.0
    #: Number of Python refs to the object and of values that contain a ref to the object.
    holders: int = 1


@dataclass(slots=True)
class InlineActor:
    """A live or dead actor."""

    options: ActorOptions
    actor_id: ActorId
    label: Label
    #: Function that makes the instance, for the start and for each restart.
    make: Callable[[], Any]
    #: Ids of the refs among the creation's arguments, which a restart needs again.
    refs: tuple[ObjectId, ...]
    #: Place of the actor; None: anywhere.
    place: Place | None = None
    instance: Any = None
    #: Reason of the actor's death; None while the actor is alive.
    death: PickledFailure | None = None
    restarts: int = 0
    #: Event loop of an async actor; None before the first call of a coroutine.
    loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def own_loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Give the actor's event loop, or a new one while that loop is running: a method may call its own actor."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        if not self.loop.is_running():
            yield self.loop
            return
        other = asyncio.new_event_loop()
        try:
            yield other
        finally:
            other.close()

    def wait_for(
        self, awaitable: Awaitable[Any], inside: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> Any:
        """Run a coroutine of an async actor to its end; return its result or raise its exception.

        The coroutine runs on a new thread, because the calling thread may be running an event loop, as a notebook's
        does. An actor keeps one loop for life, because locks and queues of asyncio belong to one loop.
        """

        async def guarded() -> tuple[Any, BaseException | None]:
            # Caught here, so that the traceback has no frame of the loop or the thread.
            try:
                return await awaitable, None
            except BaseException as error:  # raised again below
                return None, error

        def run() -> tuple[Any, BaseException | None]:
            with inside(), self.own_loop() as loop:
                return loop.run_until_complete(guarded())

        with ThreadPoolExecutor(1) as thread:
            result, error = thread.submit(run).result()
        if error is not None:
            raise error
        return result

    def end(self, reason: str) -> None:
        """Declare the actor dead. Code of the actor that is running keeps the instance alive until that code ends."""
        self.death = PickledFailure("actor_died", reason)
        self.instance = None

    def close(self) -> None:
        """Drop the instance, and close the event loop."""
        self.instance = None
        if self.loop is not None and not self.loop.is_running():
            self.loop.close()


class Closing(Protocol):
    """An actor or a stream, which is closed when nobody holds it any more."""

    def close(self) -> None:
        """Close this actor or stream. User code may run."""


class InlineObjects:
    """See the module docstring."""

    def __init__(self, released: deque[ObjectId]) -> None:
        """Begin without objects. Finalizers append the ids of dropped refs to `released`."""
        self._released = released
        self._lock = threading.RLock()
        self._objects: dict[ObjectId, InlineObject] = {}
        self._actors: dict[ActorId, InlineActor] = {}
        self._finish: Callable[[TaskId], object] = lambda task_id: None
        self._on_released: Callable[[TaskId], tuple[ObjectId, ...]] = lambda task_id: ()
        self._on_dropped: Callable[[TaskId], Closing | None] = lambda task_id: None

    def attach_streams(
        self,
        finish: Callable[[TaskId], object],
        on_released: Callable[[TaskId], tuple[ObjectId, ...]],
        on_dropped: Callable[[TaskId], Closing | None],
    ) -> None:
        """Attach the streams by three functions, each of which is called with the task id of a stream.

        `finish` runs the stream to its end. `on_released` is called when the stream's generator is dropped, and returns
        the ids that the generator held. `on_dropped` is called when the stream's object is dropped, and returns what
        is to be closed.
        """
        self._finish, self._on_released, self._on_dropped = finish, on_released, on_dropped

    def find(self, any_id: ObjectId) -> InlineObject | None:
        """Return the object with this id and its outcome; a stream is run to its end first, to have an outcome."""
        self._finish(any_id)
        return self._objects.get(any_id)

    def peek(self, any_id: ObjectId) -> InlineObject | None:
        """Return the object with this id. The outcome of a stream's object may be unknown yet."""
        return self._objects.get(any_id)

    def settle(self, any_id: ObjectId, outcome: InlineOutcome) -> None:
        """Set the outcome of a stream that has ended."""
        with self._lock:
            found = self._objects.get(any_id)
            if found is not None:
                found.outcome = outcome
                self._hold(outcome.refs)

    def let_go(self, ids: Sequence[ObjectId]) -> None:
        """Give back one hold of each object, at the next use of the session."""
        self._released.extend(ids)

    def actor(self, actor_id: ActorId) -> InlineActor | None:
        """Return the actor with this id, dead or alive; None if there is none."""
        return self._actors.get(actor_id)

    def actors(self) -> list[InlineActor]:
        """Return all actors, dead or alive."""
        return list(self._actors.values())

    def seal(
        self, first: TaskId, label: str, outcomes: Sequence[InlineOutcome], seconds: float = 0.0
    ) -> None:
        """Add the returns of a task, each with one ref that the caller is about to make."""
        with self._lock:
            for any_id, outcome in enumerate(outcomes, first):
                self._objects[any_id] = InlineObject(outcome, label, seconds)  # type: ignore[index]  # an id plus an index is an id
                self._hold(outcome.refs)

    def add_actor(self, actor_id: ActorId, actor: InlineActor) -> None:
        """Add an actor. The caller also seals the object with the same id."""
        with self._lock:
            self._actors[actor_id] = actor
            self._hold(actor.refs)

    def hold(self, any_id: ObjectId) -> None:
        """Count one holder more of an object."""
        with self._lock:
            self._hold((any_id,))

    def _hold(self, ids: Sequence[ObjectId]) -> None:
        for any_id in ids:
            found = self._objects.get(any_id)
            if found is not None:
                found.holders += 1

    def free(self, ids: Sequence[ObjectId]) -> None:
        """Drop the values of these objects; actors and failures stay."""
        with self._lock:
            for any_id in ids:
                found = self._objects.get(any_id)
                if found is None or any_id in self._actors or isinstance(found.outcome, PickledFailure):
                    continue
                self._released.extend(found.outcome.refs)
                found.outcome = FREED

    def drop_released(self) -> None:
        """Give back the holds that finalizers have released."""
        dropped: list[Closing] = []
        with self._lock:
            while self._released:
                pending = [self._released.popleft()]
                while pending:
                    pending.extend(self._let_go(pending.pop(), dropped))
        # Instances are dropped here and not under the lock, because they may have finalizers.
        for closing in dropped:
            closing.close()

    def _let_go(self, any_id: ObjectId, dropped: list[Closing]) -> tuple[ObjectId, ...]:
        """Count one holder less. Return the ids that lose a holder as well, if the object is dropped with its last."""
        if any_id < 0:
            return self._on_released(minus(any_id))
        found = self._objects.get(any_id)
        if found is None:
            return ()
        found.holders -= 1
        if found.holders > 0:
            return ()
        del self._objects[any_id]
        stream = self._on_dropped(any_id)
        if stream is not None:
            dropped.append(stream)
        actor = self._actors.pop(any_id, None)
        if actor is None:
            return found.outcome.refs
        dropped.append(actor)
        return (*found.outcome.refs, *actor.refs)

    def clear(self) -> None:
        """Drop all objects and actors."""
        with self._lock:
            objects, self._objects = self._objects, {}
            actors, self._actors = self._actors, {}
        objects.clear()
        for actor in actors.values():
            actor.close()
