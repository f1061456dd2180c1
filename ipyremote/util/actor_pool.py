"""`ActorPool`: hand out work to a fixed set of actors, each one piece at a time.

As in Ray 2.60, with its errors: `get_next` may not follow a `get_next_unordered` that has overtaken it (ValueError),
StopIteration when nothing is left, TimeoutError, ValueError for an actor that is in the pool already. An actor that has
died leaves the pool. A pool belongs to one thread. Differences: work that waits when the last actor dies is not passed
over in silence, each piece of it raises ActorDiedError; `map` gives up earlier work without raising its errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ipyremote import api
from ipyremote.actor import ActorHandle
from ipyremote.exceptions import ActorDiedError
from ipyremote.refs import ObjectRef

__all__ = ["ActorPool"]

_Fn = Callable[[Any, Any], Any]


@dataclass(slots=True)
class _PoolWork:
    """Work that an actor was given and whose result nobody has taken."""

    #: Number of the work, from 0 in the order in which work is given out.
    index: int
    actor: ActorHandle[Any]
    #: One ref, or a list of them for a method with several returns.
    result: Any

    @property
    def refs(self) -> list[ObjectRef[Any]]:
        return self.result if isinstance(self.result, list) else [self.result]


class ActorPool:
    """A fixed set of actors that work is handed out to, each one piece at a time. As `ray.util.ActorPool`.

    A pool belongs to one thread. An actor that has died leaves the pool.

    Parameters
    ----------
    actors : iterable of ActorHandle
        The actors of the pool.

    Raises
    ------
    TypeError
        One of `actors` is not a handle.
    ValueError
        One of `actors` is there twice.

    Examples
    --------
    >>> from ipyremote.util import ActorPool
    >>> @ray.remote
    ... class Doubler:
    ...     def double(self, value):
    ...         return 2 * value
    >>> pool = ActorPool([Doubler.remote(), Doubler.remote()])
    >>> list(pool.map(lambda actor, value: actor.double.remote(value), range(4)))
    [0, 2, 4, 6]
    """

    def __init__(self, actors: Iterable[ActorHandle[Any]]) -> None:
        self._idle: list[ActorHandle[Any]] = []
        #: Work of busy actors by number, in order.
        self._busy: dict[int, _PoolWork] = {}
        #: Work that waits for an actor.
        self._pending: deque[tuple[_Fn, Any]] = deque()
        #: Numbers of the next work that is given out, and of the next that `get_next` returns.
        self._next_given = 0
        self._next_returned = 0
        for actor in actors:
            self.push(actor)

    def map(self, fn: _Fn, values: Iterable[Any]) -> Iterator[Any]:
        """Return an iterator of the results of `fn(actor, value)` for each value, in order.

        Results of earlier work are given up. The work goes on while the iterator is used.

        Parameters
        ----------
        fn : callable
            Takes an actor and a value, and returns the ref of a call (or a list of refs).
        values : iterable
            One piece of work each.

        Returns
        -------
        iterator
            The results.
        """
        self._give_up()
        for value in values:
            self.submit(fn, value)
        return self._drain(self.get_next)

    def map_unordered(self, fn: _Fn, values: Iterable[Any]) -> Iterator[Any]:
        """Return an iterator of the results as `map` does, in the order in which the results come."""
        self._give_up()
        for value in values:
            self.submit(fn, value)
        return self._drain(self.get_next_unordered)

    def submit(self, fn: _Fn, value: Any) -> None:
        """Have an idle actor do `fn(actor, value)`, or the first actor that becomes idle.

        Parameters
        ----------
        fn : callable
            Takes an actor and a value, and returns the ref of a call (or a list of refs). TypeError for anything else.
        value : object
            The second argument of `fn`.
        """
        if not self._idle:
            self._pending.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            result = fn(actor, value)
            if not (isinstance(result, ObjectRef) or _are_refs(result)):
                raise TypeError(
                    f"the function of an ActorPool returns the ref of a call, not {result!r:.80}: "
                    "lambda actor, value: actor.method.remote(value)"
                )
        except BaseException:
            self._idle.append(actor)
            raise
        self._busy[self._next_given] = _PoolWork(self._next_given, actor, result)
        self._next_given += 1

    def has_next(self) -> bool:
        """Return whether there is a result that nobody has taken."""
        return bool(self._busy or self._pending)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in order.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        ignore_if_timedout : bool, default False
            Whether a result that is late is given up. Otherwise it stays the next one.

        Returns
        -------
        object
            The result.

        Raises
        ------
        StopIteration
            Nothing is left.
        TimeoutError
            The result is late.
        ValueError
            A `get_next_unordered` has overtaken this result.
        """
        self._check_left()
        if self._next_returned >= self._next_given:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        work = self._busy.get(self._next_returned)
        if work is None:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        ready = timeout is None or self._wait(work.refs, len(work.refs), timeout)
        if not ready and not ignore_if_timedout:
            raise TimeoutError("Timed out waiting for result")
        self._next_returned += 1
        return self._take(work, ready)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the result that comes next, whichever it is. Arguments and errors are those of `get_next`."""
        self._check_left()
        work = self._first_ready(timeout)
        if work is None and not ignore_if_timedout:
            raise TimeoutError("Timed out waiting for result")
        chosen = work or next(iter(self._busy.values()))
        self._next_returned = max(self._next_returned, chosen.index + 1)
        return self._take(chosen, work is not None)

    def has_free(self) -> bool:
        """Return whether an actor is idle and no work waits."""
        return bool(self._idle) and not self._pending

    def pop_idle(self) -> ActorHandle[Any] | None:
        """Take an idle actor out of the pool, and return the actor; None: no actor is idle."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle[Any]) -> None:
        """Add an actor. Raises ValueError for an actor of the pool, TypeError for anything but a handle."""
        if not isinstance(actor, ActorHandle):
            raise TypeError(f"ActorPool takes handles of actors, not {type(actor).__name__}: {actor!r:.80}")
        if actor in self._idle or any(work.actor == actor for work in self._busy.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._return(actor)

    def _drain(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _give_up(self) -> None:
        """Forget results that nobody has taken, so that their actors are free for the next work."""
        self._pending.clear()
        for work in tuple(self._busy.values()):
            del self._busy[work.index]
            self._idle.append(work.actor)
        self._next_returned = self._next_given

    def _check_left(self) -> None:
        if self._busy:
            return
        if not self._pending:
            raise StopIteration("No more results to get")
        _, value = self._pending.popleft()
        raise ActorDiedError(
            f"No actor of the pool is left to work on {value!r:.80}: all have died. push() new ones."
        )

    def _first_ready(self, timeout: float | None) -> _PoolWork | None:
        works = list(self._busy.values())
        refs = [ref for work in works for ref in work.refs]
        if not self._wait(list(dict.fromkeys(refs)), 1, timeout):
            return None
        # Of several returns of one method, all come at a time.
        return next(work for work in works if self._wait(work.refs, len(work.refs), 0))

    def _wait(self, refs: list[ObjectRef[Any]], count: int, timeout: float | None) -> bool:
        return len(api.wait(refs, num_returns=count, timeout=timeout)[0]) >= count

    def _take(self, work: _PoolWork, ready: bool) -> Any:
        del self._busy[work.index]
        if not ready:
            self._return(work.actor)
            raise TimeoutError(f"Timed out waiting for result. The task {work.result!r} has been ignored.")
        try:
            value = api.get(work.result)
        except ActorDiedError:
            # It stays out: submit() would pick it again and again.
            self._hand_out()
            raise
        except BaseException:
            self._return(work.actor)
            raise
        self._return(work.actor)
        return value

    def _return(self, actor: ActorHandle[Any]) -> None:
        self._idle.append(actor)
        self._hand_out()

    def _hand_out(self) -> None:
        if self._pending and self._idle:
            self.submit(*self._pending.popleft())


def _are_refs(result: Any) -> bool:
    return isinstance(result, list) and bool(result) and all(isinstance(ref, ObjectRef) for ref in result)
