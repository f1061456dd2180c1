"""The items of a task that yields: each is sent while the task runs, and becomes an object of its own.

Between items the scheduler's demand is looked at: while no more are wanted the task waits, and lends its CPU to others
(a coroutine only leaves the loop to others); when none are wanted ever again, the generator is closed, as Python closes
one that is dropped. User code is called through `call`, which knows how to interrupt it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ipyremote.client.session import Session
from ipyremote.ids import ObjectId
from ipyremote.messages import ENDLESS, Failure, Forward, Inline, Stored, Unblocked, Yield
from ipyremote.refs import ObjectRef
from ipyremote.streams import DynamicObjectRefGenerator
from ipyremote.worker.host import Assignment

__all__ = ["StreamWriter", "collect_items"]

_END: Final = object()
#: Runs user code, by `call(fn, *args)`, and raises if the task was cancelled.
Call = Callable[..., Any]


class StreamWriter:
    """Sends the items of one run."""

    def __init__(
        self,
        session: Session,
        assignment: Assignment,
        pack: Callable[[Any], tuple[Inline | Stored | Forward, tuple[ObjectId, ...]]],
    ) -> None:
        self._channel = session.channel
        self._assignment = assignment
        self._pack = pack
        self._index = 0

    @property
    def unwanted(self) -> bool:
        """Whether nobody can see a further item."""
        return self._assignment.demand == 0

    def write(self, items: Any, call: Call) -> None:
        """Send all items of an iterator."""
        if not isinstance(items, Iterator):
            raise self._no_items(items)
        try:
            while self._wait_for_demand():
                item = call(next, items, _END)
                if item is _END:
                    return
                self._send(item)
                # While the task waits, or makes the next item, only the consumer holds this item.
                del item
        finally:
            if hasattr(items, "close"):
                call(items.close)

    async def write_async(self, items: Any) -> None:
        """Send all items of an iterator or an async iterator, with room for other coroutines between them."""
        if isinstance(items, Iterator):
            items = _as_async(items)
        if not hasattr(items, "__anext__"):
            raise self._no_items(items)
        import asyncio  # an event loop runs, so it has been imported

        try:
            while await self._await_demand():
                try:
                    item = await items.__anext__()
                except StopAsyncIteration:
                    return
                self._send(item)
                del item
                # A generator that never waits must let other coroutines run, too, and must be cancellable.
                await asyncio.sleep(0)
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()

    def _no_items(self, result: Any) -> ValueError:
        label = self._assignment.message.spec.label
        return ValueError(
            f"{label} returned {type(result).__name__}, and num_returns='streaming' needs a generator."
        )

    def _send(self, item: Any) -> None:
        message = self._assignment.message
        value, refs = self._pack(item)
        self._channel.send(Yield(message.spec.task_id, message.attempt, self._index, value, refs))
        self._index += 1

    # ------------------------------------------------------------------------------------------------- backpressure

    def _goes_on(self) -> bool:
        """Return whether the task need not wait: an item is wanted, none ever will be, or the task was cancelled."""
        demand = self._assignment.demand
        return demand == ENDLESS or demand == 0 or self._index < demand or self._assignment.cancelled

    def _wait_for_demand(self) -> bool:
        """Wait until the next item is wanted. Returns False when no item will be."""
        if not self._goes_on():
            channel = self._channel
            blocked = channel.block(self._assignment.message.spec.task_id, self._goes_on)
            try:
                channel.wait_until(self._goes_on)
            finally:
                if blocked:
                    channel.send(Unblocked(blocked), now=True)
        return not self.unwanted

    async def _await_demand(self) -> bool:
        if not self._goes_on():
            import asyncio  # as above

            loop = asyncio.get_running_loop()
            wake = asyncio.Event()
            self._assignment.on_demand = lambda: loop.call_soon_threadsafe(wake.set)
            while not self._channel.call_locked(self._goes_on):
                await wake.wait()
                wake.clear()
        return not self.unwanted


async def _as_async(items: Iterator[Any]) -> Any:
    for item in items:
        yield item


def collect_items(
    items: Any, session: Session, call: Call, failed: Callable[[Exception], Failure]
) -> DynamicObjectRefGenerator:
    """Return refs to all items of an iterator. If it raises, the last ref is to the failure that `failed` makes of the
    exception; `failed` may raise instead."""
    refs: list[ObjectRef[Any]] = []
    try:
        while (item := call(next, items, _END)) is not _END:
            deferred = isinstance(item, ObjectRef) and item._deferred
            refs.append(item if deferred else ObjectRef(*_put(session, item)))
    except Exception as error:  # of user code: the items before it stay
        refs.append(ObjectRef(session.submitter.put(failed(error)), session, "failed item"))
    return DynamicObjectRefGenerator(refs)


def _put(session: Session, item: Any) -> tuple[ObjectId, Session, str]:
    object_id, label = session.put(item)
    return object_id, session, label
