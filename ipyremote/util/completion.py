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
    """Return an iterator of the values of refs in the order in which the values come. As `ray.util.as_completed`.

    The values come in batches; within a batch the order is that of `refs`.

    Parameters
    ----------
    refs : iterable of ObjectRef
        Refs to wait for.
    chunk_size : int, default 10
        Refs of a batch, which are waited for together.
    yield_obj_refs : bool, default False
        Whether to give the refs themselves, also those of failed tasks.
    **wait_options
        `timeout`, in seconds for each batch, after which a batch is smaller, and `fetch_local`, as of `wait`.

    Returns
    -------
    iterator
        The values, or the refs.

    Raises
    ------
    ValueError
        `chunk_size` is below 1.
    TypeError
        `refs` is not a collection of refs, or an option is unknown.

    Examples
    --------
    >>> from ipyremote.util import as_completed
    >>> @ray.remote
    ... def triple(x):
    ...     return 3 * x
    >>> sorted(as_completed([triple.remote(i) for i in range(4)], chunk_size=2))
    [0, 3, 6, 9]
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
    """Return an iterator of the values of a remote function for each item, as they come. As `ray.util.map_unordered`.

    Parameters
    ----------
    fn : RemoteFunction
        A remote function of one argument.
    items : iterable
        The arguments. They are taken as results are used.
    backpressure_size : int or None, default 100
        Number of tasks at a time; None: all at once.
    chunk_size : int, default 10
        As of `as_completed`.
    yield_obj_refs : bool, default False
        As of `as_completed`.
    **wait_options
        As of `as_completed`.

    Returns
    -------
    iterator
        The values, or the refs.

    Raises
    ------
    ValueError
        `backpressure_size` or `chunk_size` is below 1.
    TypeError
        `fn` has no `.remote`, or an option is unknown.

    Examples
    --------
    >>> from ipyremote.util import map_unordered
    >>> @ray.remote
    ... def negate(x):
    ...     return -x
    >>> sorted(map_unordered(negate, range(4), backpressure_size=2, chunk_size=1))
    [-3, -2, -1, 0]
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
