"""`as_completed` and `map_unordered`: values in batches, as they come, as in `ray.util` 2.60.

Within a batch the order is that of submission; a batch has up to `chunk_size` values, and the last one fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar, overload

from ipyremote import api
from ipyremote.refs import ObjectRef
from ipyremote.remote import RemoteFunction

__all__ = ["as_completed", "map_unordered"]


T = TypeVar("T")


@overload
def as_completed(
    refs: Iterable[ObjectRef[T]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: Literal[False] = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[T]: ...
@overload
def as_completed(
    refs: Iterable[ObjectRef[T]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: Literal[True],
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[ObjectRef[T]]: ...
def as_completed(
    refs: Iterable[ObjectRef[Any]], *, chunk_size: int = 10, yield_obj_refs: bool = False, **wait_options: Any
) -> Iterator[Any]:
    """Values of these refs in the order in which they come, roughly: `chunk_size` of them are waited for at a time.

    `yield_obj_refs`: yield the refs themselves, of failed tasks too. `wait_options`: `timeout` (seconds for each
    batch; fewer values come then) and `fetch_local`, as of `wait`. Raises ValueError for a `chunk_size` below 1, what a
    task raised when its value is due, and TypeError and ValueError as `wait` does.
    """
    _check(chunk_size, wait_options)
    if isinstance(refs, ObjectRef):
        raise TypeError("as_completed() takes a list of ObjectRefs, not a single ObjectRef")
    return _completed(list(refs), chunk_size, yield_obj_refs, wait_options)


@overload
def map_unordered(
    fn: RemoteFunction[..., T],
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: Literal[False] = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[T]: ...
@overload
def map_unordered(
    fn: RemoteFunction[..., T],
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: Literal[True],
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[ObjectRef[T]]: ...
@overload
def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]: ...
def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **wait_options: Any,
) -> Iterator[Any]:
    """Values of the remote function `fn` for each item, as they come, with at most `backpressure_size` tasks at a time.

    None for `backpressure_size`: all at once. The rest is as for `as_completed`. Raises ValueError for a
    `backpressure_size` below 1, TypeError when `fn` has no `.remote`.
    """
    _check(chunk_size, wait_options)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be positive, not {backpressure_size!r}")
    if not hasattr(fn, "remote"):
        raise TypeError(f"map_unordered() takes a remote function, not {fn!r:.80}: decorate it with @remote")
    return _mapped(fn, items, backpressure_size, chunk_size, yield_obj_refs, wait_options)


def _check(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be >= 1, not {chunk_size!r}")
    if "num_returns" in wait_options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")
    unknown = set(wait_options) - {"timeout", "fetch_local"}
    if unknown:
        raise TypeError(f"{sorted(unknown)[0]!r} is no option of wait(): there are timeout and fetch_local")


def _completed(
    refs: list[ObjectRef[Any]], chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    while refs:
        batch, refs = _batch(refs, chunk_size, yield_obj_refs, wait_options)
        yield from batch


def _mapped(
    fn: Any,
    items: Iterable[Any],
    limit: int | None,
    chunk_size: int,
    yield_obj_refs: bool,
    wait_options: dict[str, Any],
) -> Iterator[Any]:
    refs: list[ObjectRef[Any]] = []
    for item in items:
        refs.append(fn.remote(item))
        # A loop: after a timeout there may still be too many.
        while limit is not None and len(refs) >= limit:
            batch, refs = _batch(refs, chunk_size, yield_obj_refs, wait_options)
            yield from batch
    yield from _completed(refs, chunk_size, yield_obj_refs, wait_options)


def _batch(
    refs: list[ObjectRef[Any]], chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> tuple[list[Any], list[ObjectRef[Any]]]:
    ready, rest = api.wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
    return ready if yield_obj_refs else api.get(ready), rest
