"""`Queue`: a first-in, first-out queue that tasks and actors share, as in `ray.util.queue`.

It is an async actor around an `asyncio.Queue`; a `Queue` object is a name for it that can be passed anywhere. The actor
lives as long as any such name. An item crosses as an argument does: a ref as the item arrives as its value.

Difference from Ray: a `get` that is interrupted, or cancelled, takes no item away with it.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any

from ipyremote import api
from ipyremote.actor import ActorHandle
from ipyremote.backend import current
from ipyremote.exceptions import ActorDiedError
from ipyremote.refs import ObjectRef
from ipyremote.remote import remote

__all__ = ["Empty", "Full", "Queue"]

#: Calls that the actor has at a time. Everybody who waits in `get` is one, and a `put` must always come through.
_CONCURRENCY = 1_000_000


class Empty(queue.Empty):
    """Raised when a queue has no item, or none in time: put one, or wait longer."""


class Full(queue.Full):
    """Raised when a queue has no room, or none in time: take an item, or wait longer."""


class _QueueActor:
    """The actor with the items. Its methods return what did not work, since that is no failure of a task."""

    def __init__(self, maxsize: int) -> None:
        import asyncio  # not at the top: it is slow to import, and only this process needs it

        self._asyncio = asyncio
        self._maxsize = maxsize
        self._items: Any = asyncio.Queue(maxsize)

    def qsize(self) -> int:
        size: int = self._items.qsize()
        return size

    async def put(self, item: Any, block: bool, timeout: float | None) -> bool:
        if not block or not self._items.full():
            return self.put_batch([item]) == ""
        _check_parallel(timeout, "a full queue stays full")
        try:
            await self._asyncio.wait_for(self._items.put(item), timeout)
        except self._asyncio.TimeoutError:
            return False
        return True

    async def get(self, block: bool, timeout: float | None) -> tuple[Any, ...]:
        """Return (item,), or () when there is no item."""
        if not block or not self._items.empty():
            items = self.get_batch(1)
            return () if isinstance(items, str) else (items[0],)
        _check_parallel(timeout, "an empty queue stays empty")
        try:
            return (await self._asyncio.wait_for(self._items.get(), timeout),)
        except self._asyncio.TimeoutError:
            return ()

    def put_batch(self, items: list[Any]) -> str:
        """Add items, and return the reason if there is no room for all; empty: the items were added."""
        size = self._items.qsize()
        if 0 < self._maxsize < size + len(items):
            return f"Cannot add {len(items)} items to queue of size {size} and maxsize {self._maxsize}."
        for item in items:
            self._items.put_nowait(item)
        return ""

    def get_batch(self, count: int) -> list[Any] | str:
        """Return the items, or the reason why there are too few."""
        size = self._items.qsize()
        if count > size:
            return f"Cannot get {count} items from queue of size {size}."
        return [self._items.get_nowait() for _ in range(count)]

    def put_back(self, taken: tuple[Any, ...]) -> None:
        """Put back an item that `get` took for a caller who does not wait any more."""
        if taken:
            self._items._queue.appendleft(taken[0])
            self._items._wakeup_next(self._items._getters)


def _check_parallel(timeout: float | None, consequence: str) -> None:
    """Refuse to wait for ever where nothing runs beside the program."""
    backend = current.peek()
    reason = "" if backend is None else backend.capabilities.parallel_tasks
    if timeout is None and reason:
        raise RuntimeError(f"{reason.rstrip('.')}, so {consequence}.")


_Actor = remote(_QueueActor)


class Queue:
    """A first-in, first-out queue that tasks and actors share. As `ray.util.queue.Queue`.

    The items are in an actor, which lives as long as any object that names the queue. A `Queue` can be passed anywhere
    a value can. An item crosses as an argument does: a ref arrives as its value.

    Parameters
    ----------
    maxsize : int, default 0
        Items at a time, at most; 0 or less: any number. TypeError for anything but a whole number.
    actor_options : dict, optional
        Options of the queue's actor, such as `{"num_cpus": 1}`.

    Examples
    --------
    >>> from ipyremote.util.queue import Queue
    >>> queue = Queue(maxsize=10)
    >>> @ray.remote
    ... def fill(queue):
    ...     for item in "abc":
    ...         queue.put(item)
    >>> ray.get(fill.remote(queue))
    >>> [queue.get() for _ in range(3)]
    ['a', 'b', 'c']
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        if not isinstance(maxsize, int) or isinstance(maxsize, bool):
            raise TypeError(f"maxsize is a whole number, not {type(maxsize).__name__}: {maxsize!r}")
        self.maxsize = maxsize
        options = {"max_concurrency": _CONCURRENCY, **(actor_options or {})}
        self.actor: ActorHandle[Any] | None = _Actor.options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def __repr__(self) -> str:
        return f"Queue({self.actor!r})"

    def __bool__(self) -> bool:
        """A queue is true, also an empty one."""
        return True

    def size(self) -> int:
        """Return the number of items."""
        count: int = api.get(self._alive().qsize.remote())
        return count

    def qsize(self) -> int:
        """Return the number of items."""
        return self.size()

    def empty(self) -> bool:
        """Return whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Return whether there is no room."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Parameters
        ----------
        item : object
            Anything that can be pickled.
        block : bool, default True
            Whether to wait for room.
        timeout : float, optional
            Seconds to wait at most. ValueError for a negative number.

        Raises
        ------
        Full
            There is no room, or none in time.
        """
        ref = self._alive().put.remote(item, block, _checked(block, timeout))
        try:
            done = api.get(ref)
        except BaseException:
            _withdraw(ref)
            raise
        if not done:
            raise Full(self._full_text())

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item.

        Parameters
        ----------
        block : bool, default True
            Whether to wait for an item.
        timeout : float, optional
            Seconds to wait at most. ValueError for a negative number.

        Returns
        -------
        object
            The item.

        Raises
        ------
        Empty
            There is no item, or none in time.
        """
        ref = self._alive().get.remote(block, _checked(block, timeout))
        try:
            taken = api.get(ref)
        except BaseException:
            self._put_back(ref)
            raise
        return _item(taken)

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item in a coroutine; as `put`."""
        ref = self._alive().put.remote(item, block, _checked(block, timeout))
        try:
            done = await ref
        except BaseException:
            _withdraw(ref)
            raise
        if not done:
            raise Full(self._full_text())

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item in a coroutine; as `get`."""
        ref = self._alive().get.remote(block, _checked(block, timeout))
        try:
            taken = await ref
        except BaseException:
            self._put_back(ref)
            raise
        return _item(taken)

    def put_nowait(self, item: Any) -> None:
        """Add an item without waiting. Raises Full."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the next item without waiting. Raises Empty."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all of these items in order, or none of them. Raises Full when there is no room for all, TypeError."""
        if not isinstance(items, Iterable):
            raise TypeError(f"Argument 'items' must be an Iterable, not {type(items).__name__}")
        reason = api.get(self._alive().put_batch.remote(list(items)))
        if reason:
            raise Full(reason)

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take `num_items` items, or none. Raises Empty when there are fewer; TypeError, ValueError."""
        if not isinstance(num_items, int):
            raise TypeError(f"Argument 'num_items' must be an int, not {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        items: list[Any] | str = api.get(self._alive().get_batch.remote(num_items))
        if isinstance(items, str):
            raise Empty(items)
        return items

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue's actor with the items. Later calls raise ActorDiedError. Idempotent.

        Parameters
        ----------
        force : bool, default False
            End the actor at once. Otherwise calls that were made before are done first.
        grace_period_s : float, default 5
            Seconds to wait for these calls at most.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            done = actor.__ray_terminate__.remote()
            if api.wait([done], timeout=grace_period_s)[0]:
                return
        api.kill(actor, no_restart=True)

    def _alive(self) -> ActorHandle[Any]:
        if self.actor is None:
            raise ActorDiedError("The queue was shut down.")
        return self.actor

    def _full_text(self) -> str:
        return f"The queue has its {self.maxsize} items."

    def _put_back(self, ref: ObjectRef[Any]) -> None:
        """Put the item of a `get` that nobody waits for any more back to the front, if there was one."""
        actor = self.actor
        if actor is not None:
            _withdraw(ref)
            try:
                actor.put_back.remote(ref)
            except Exception:  # the session has ended, and the queue with it
                return


def _withdraw(ref: ObjectRef[Any]) -> None:
    try:
        api.cancel(ref)
    except Exception:  # the session has ended
        return


def _checked(block: bool, timeout: float | None) -> float | None:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


def _item(taken: tuple[Any, ...]) -> Any:
    if not taken:
        raise Empty("The queue is empty.")
    return taken[0]
