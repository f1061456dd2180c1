"""Calls of user code with their outcomes: a value in one piece for each return, or one failure for all returns.

The calls are made here and not by engines, so that a traceback of user code has no frame of an engine.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from ipyremote.backend import TaskOptions
from ipyremote.engine_kit.failures import PickledFailure, failure_of
from ipyremote.exceptions import TaskError, tracebacks
from ipyremote.ids import ObjectId
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling

__all__ = [
    "Deferred",
    "Outcome",
    "PickledValue",
    "drawn",
    "failure_from",
    "is_retried",
    "keeping",
    "method_of",
    "outcomes_of",
    "split",
    "value_of",
]

#: A function with its arguments.
_Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class PickledValue(NamedTuple):
    """A pickled value in one piece with its buffers, which `pickling.loads_inline` unpickles."""

    data: bytes
    #: Sizes of the pickle and its buffers in `data`, in bytes; empty if `data` is one pickle. See `messages.values`.
    sizes: tuple[int, ...] = ()
    #: Ids of the objects and actors that the value refers to, which the keeper of the value must hold.
    refs: tuple[ObjectId, ...] = ()


class Deferred(NamedTuple):
    """The outcome of another object, once the other object has one."""

    object_id: ObjectId

    @property
    def refs(self) -> tuple[ObjectId, ...]:
        """Id of the other object, which this outcome refers to."""
        return (self.object_id,)


Outcome: TypeAlias = PickledValue | PickledFailure | Deferred


def value_of(value: Any) -> PickledValue:
    """Pickle a value. Raises TypeError, which names the part that cannot be pickled."""
    pickled = pickling.dumps(value)
    return PickledValue(*pickling.joined(pickled), pickled.refs)


def failure_from(error: BaseException, label: str) -> PickledFailure:
    """Return the failure of a task in which user code has raised."""
    captured = TaskError.capture(error, label, os.getpid(), display_names=tracebacks.received_names())
    return failure_of(captured)


def outcomes_of(
    prepare: Callable[[], _Call],
    label: str,
    options: TaskOptions,
    hold: Callable[[ObjectId], object],
    *,
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
) -> list[Outcome]:
    """Call user code until the code succeeds or no retry is left; return the outcome of each of its returns.

    Parameters
    ----------
    prepare
        Returns the function and fresh arguments for each attempt. An exception of `prepare` counts as the function's.
    label
        `name#number` of the task, for messages and tracebacks.
    options
        The options of the call, for the number of returns and the retries.
    hold
        Called with each id in `refs` of the outcomes, while the refs themselves are still alive.
    run_coroutine
        Runs a coroutine of an async actor on the actor's event loop; None for callers of plain functions.

    Raises
    ------
    SystemExit
        User code asked for the end of its process. The engine decides what this means.
    """
    left = options.max_retries
    while True:
        try:
            items = _items(prepare, label, options.returns, run_coroutine)
            return _held([_outcome(item) for item in items], hold)
        except SystemExit:
            raise
        except BaseException as error:  # any exception of user code
            if not left or not is_retried(error, options.retry_exceptions):
                return _held([failure_from(error, label)] * options.returns, hold)
            left -= 1


def _items(
    prepare: Callable[[], _Call],
    label: str,
    returns: int,
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] | None,
) -> list[Any]:
    fn, args, kwargs = prepare()
    result = fn(*args, **kwargs)
    if run_coroutine is not None and inspect.iscoroutine(result):
        result, error = run_coroutine(_guarded(result))
        if error is not None:
            raise error
    if returns != 1 and isinstance(result, Iterator):
        result = drawn(result, returns, label)
    return [result] if returns == 1 else split(result, returns)


def _outcome(value: Any) -> Outcome:
    return Deferred(value._id) if isinstance(value, ObjectRef) and value._deferred else value_of(value)


def _held(outcomes: Sequence[Outcome], hold: Callable[[ObjectId], object]) -> list[Outcome]:
    for outcome in outcomes:
        for any_id in outcome.refs:
            hold(any_id)
    return list(outcomes)


async def _guarded(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    # Caught here, so that the traceback has no frame of the event loop.
    try:
        return await coroutine, None
    except BaseException as error:  # raised again by the caller
        return None, error


def drawn(
    items: Iterator[Any], returns: int, label: str, say: Callable[[str], None] | None = None
) -> list[Any]:
    """Take at most as many items as there are returns. `say` (default: print to stderr) gets a note on the rest."""
    first = list(islice(items, returns))
    surplus = sum(1 for _ in items)
    if surplus and returns:
        text = f"{label} yielded {returns + surplus} values, but num_returns={returns}: the rest is dropped."
        if say is not None:
            say(text)
        else:
            print(text, file=sys.stderr)
    return first


def split(result: Any, returns: int) -> list[Any]:
    """Return the items of a call's result. Raises ValueError when their number differs from the number of returns."""
    if returns == 0:
        return []
    try:
        items = list(result)
    except TypeError:
        raise ValueError(
            f"Task returned {type(result).__name__}, which has no items, but num_returns={returns}."
        ) from None
    if len(items) != returns:
        raise ValueError(f"Task returned {len(items)} objects, but num_returns={returns}.")
    return items


def is_retried(error: BaseException, kinds: bool | tuple[type[BaseException], ...]) -> bool:
    """Return whether a task with `retry_exceptions=kinds` is run again after this exception."""
    if isinstance(kinds, bool):
        return kinds and isinstance(error, Exception)
    cause = error.cause if isinstance(error, TaskError) else error
    return isinstance(cause, kinds)


def method_of(instance: Any, name: str, leave: Callable[[], object]) -> Callable[..., Any]:
    """Return the callable behind the name of an actor's method. `leave` ends the actor."""
    match name:
        case "__ray_call__":
            return lambda fn, *args, **kwargs: fn(instance, *args, **kwargs)
        case "__ray_ready__":
            return lambda: True
        case "__ray_terminate__":
            return leave
    method: Callable[..., Any] = getattr(instance, name)
    return method


def keeping(cls: Callable[..., Any], keep: Callable[[Any], object]) -> Callable[..., None]:
    """Return a function that makes an instance of an actor's class and gives it to `keep`."""

    def make(*args: Any, **kwargs: Any) -> None:
        keep(cls(*args, **kwargs))

    return make
