"""The objects and actors of an inline session: what each came to, and who holds it.

An object is held by the Python refs to it and by the values that contain a ref to it; with its last holder it goes, and
lets go of what it contains. Thread-safe; the lock is never held while user code runs, finalizers included.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from ipyremote.backend import ActorOptions
from ipyremote.backend.placement import Place
from ipyremote.client.objects import FREED
from ipyremote.engine_kit.call_context import Label
from ipyremote.messages import Failure, Inline

__all__ = ["InlineActor", "InlineObject", "InlineObjects", "Outcome"]


@dataclass(slots=True)
class Outcome:
    """What a task came to."""

    value: Inline | Failure
    #: Ids of the refs inside the value.
    refs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.value, Failure):
            self.refs = self.value.refs


@dataclass(slots=True)
class InlineObject:
    """An object of the session. It always has its outcome."""

    outcome: Outcome
    label: str
    #: How long its task ran.
    seconds: float = 0.0
    #: Python refs, and values that contain a ref.
    holders: int = 1


@dataclass(slots=True)
class InlineActor:
    """A live or dead actor."""

    options: ActorOptions
    actor_id: int
    label: Label
    #: Makes the instance, again for a restart.
    make: Callable[[], Any]
    #: Ids of the refs among the arguments of its creation, which a restart needs again.
    refs: tuple[int, ...]
    #: Where it lives; None: anywhere.
    place: Place | None = None
    instance: Any = None
    #: Why it is dead; None while it lives.
    death: Failure | None = None
    restarts: int = 0
    #: The event loop of an async actor, from its first call on.
    loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def own_loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """The actor's event loop; another one while that is running, which is when a method calls its own actor."""
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
        """What a coroutine of an async actor comes to. One call is over before the next begins.

        On a thread of its own, because this one may be running an event loop (a notebook does). The loop is the
        actor's for life, since locks and queues of asyncio belong to one loop.
        """

        async def guarded() -> tuple[Any, BaseException | None]:
            # Caught here, so that the traceback has no frame of the loop or the thread.
            try:
                return await awaitable, None
            except BaseException as error:  # Raised again below.
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
        """Declare the actor dead. Its own code may still be running; the instance is dropped when that code ends."""
        self.death = Failure("actor_died", reason)
        self.instance = None

    def close(self) -> None:
        """Drop the instance, and the event loop with it."""
        self.instance = None
        if self.loop is not None and not self.loop.is_running():
            self.loop.close()


class Closing(Protocol):
    """What is closed when nobody holds it any more."""

    def close(self) -> None:
        """May run user code."""


class InlineObjects:
    """See the module docstring."""

    def __init__(self, released: deque[int]) -> None:
        """`released`: ids whose refs were dropped, appended to by finalizers."""
        self._released = released
        self._lock = threading.RLock()
        self._objects: dict[int, InlineObject] = {}
        self._actors: dict[int, InlineActor] = {}
        self._finish: Callable[[int], object] = lambda task_id: None
        self._on_released: Callable[[int], tuple[int, ...]] = lambda task_id: ()
        self._on_dropped: Callable[[int], Closing | None] = lambda task_id: None

    def look_after(
        self,
        finish: Callable[[int], object],
        on_released: Callable[[int], tuple[int, ...]],
        on_dropped: Callable[[int], Closing | None],
    ) -> None:
        """For streams: bring one to its end; its generator is gone, which gives what that held; its object is gone."""
        self._finish, self._on_released, self._on_dropped = finish, on_released, on_dropped

    def find(self, any_id: int) -> InlineObject | None:
        """The object of this id, with its outcome: that of a stream is found out now."""
        self._finish(any_id)
        return self._objects.get(any_id)

    def peek(self, any_id: int) -> InlineObject | None:
        """The object of this id, whose outcome may not be known yet if a stream ends with it."""
        return self._objects.get(any_id)

    def settle(self, any_id: int, outcome: Outcome) -> None:
        """A stream has ended."""
        with self._lock:
            found = self._objects.get(any_id)
            if found is not None:
                found.outcome = outcome
                self._hold(outcome.refs)

    def let_go(self, ids: Sequence[int]) -> None:
        """One holder less of each, as soon as nothing else is going on."""
        self._released.extend(ids)

    def actor(self, actor_id: int) -> InlineActor | None:
        """The actor of this id, dead or alive."""
        return self._actors.get(actor_id)

    def actors(self) -> list[InlineActor]:
        """All actors, dead or alive."""
        return list(self._actors.values())

    def seal(self, first: int, label: str, outcomes: Sequence[Outcome], seconds: float = 0.0) -> None:
        """Add the returns of a task, each with one ref that the caller is about to make."""
        with self._lock:
            for any_id, outcome in enumerate(outcomes, first):
                self._objects[any_id] = InlineObject(outcome, label, seconds)
                self._hold(outcome.refs)

    def add_actor(self, actor_id: int, actor: InlineActor) -> None:
        """Add an actor; `seal` of the object of the same id goes with it."""
        with self._lock:
            self._actors[actor_id] = actor
            self._hold(actor.refs)

    def hold(self, any_id: int) -> None:
        """One holder more."""
        with self._lock:
            self._hold((any_id,))

    def _hold(self, ids: Sequence[int]) -> None:
        for any_id in ids:
            found = self._objects.get(any_id)
            if found is not None:
                found.holders += 1

    def free(self, ids: Sequence[int]) -> None:
        """Drop the values of these; actors and failures stay."""
        with self._lock:
            for any_id in ids:
                found = self._objects.get(any_id)
                if found is None or any_id in self._actors or isinstance(found.outcome.value, Failure):
                    continue
                self._released.extend(found.outcome.refs)
                found.outcome = Outcome(FREED)

    def drop_released(self) -> None:
        """Let go of what finalizers have released."""
        dropped: list[Closing] = []
        with self._lock:
            while self._released:
                pending = [self._released.popleft()]
                while pending:
                    pending.extend(self._let_go(pending.pop(), dropped))
        # Instances die here and not under the lock: they may have finalizers.
        for closing in dropped:
            closing.close()

    def _let_go(self, any_id: int, dropped: list[Closing]) -> tuple[int, ...]:
        """One holder less. Returns the ids that are let go with it, if it was the last."""
        if any_id < 0:
            return self._on_released(-any_id)
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
        """Drop everything."""
        with self._lock:
            objects, self._objects = self._objects, {}
            actors, self._actors = self._actors, {}
        objects.clear()
        for actor in actors.values():
            actor.close()
