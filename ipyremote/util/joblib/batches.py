"""The worker's side of the joblib backend: the form of a batch of calls, and how a batch is run.

data      payload of `serialize.dumps_function` of (items, nested backend, nested n_jobs), everything in-band, so that
          small arrays come back writable, as with joblib's own backends; items are (fn, args, kwargs)
large     arguments that many batches share, in whose place a `Slot` stands; they come as read-only views
"""

from __future__ import annotations

import contextlib
from typing import Any

from ipyremote.serialization import pickling
from ipyremote.serialization.pickling import Slot

__all__ = ["pack", "run_batch", "size_of"]

Item = tuple[Any, tuple[Any, ...], dict[str, Any]]


def pack(items: list[Item], nested: tuple[Any, Any]) -> bytes:
    """Return the data of a batch. Raises TypeError when something cannot be pickled."""
    payload, _ = pickling.dumps_function((items, *nested))  # type: ignore[arg-type]  # it takes anything
    return payload


def run_batch(data: bytes, threads: int | None, *large: Any) -> list[Any]:
    """Return the values of the calls of a batch. `threads`: those of each numerical library; None: unchanged."""
    from joblib.parallel import BatchedCalls

    items, backend, n_jobs = pickling.loads_function(data)
    filled = [
        (fn, [_fill(arg, large) for arg in args], {name: _fill(arg, large) for name, arg in kwargs.items()})
        for fn, args, kwargs in items
    ]
    with _limited(threads):
        values: list[Any] = BatchedCalls(filled, (backend, n_jobs))()
    return values


def size_of(value: Any) -> int:
    """Return the bytes of an array, data frame or sparse matrix, roughly; 0 for anything else."""
    with contextlib.suppress(Exception):  # the class is anybody's
        nbytes = getattr(value, "nbytes", None)
        if isinstance(nbytes, int):
            return nbytes
        if hasattr(value, "memory_usage"):
            usage = value.memory_usage()
            return int(usage if isinstance(usage, int) else usage.sum())
        return int(getattr(getattr(value, "data", None), "nbytes", 0))
    return 0


def _fill(value: Any, large: tuple[Any, ...]) -> Any:
    return large[value.index] if type(value) is Slot else value


def _limited(threads: int | None) -> contextlib.AbstractContextManager[Any]:
    """Limit the threads of numerical libraries: processes that each use all CPUs get in one another's way."""
    if threads is not None:
        with contextlib.suppress(
            ImportError
        ):  # scikit-learn brings it; without it there is nothing to limit with
            import threadpoolctl

            return threadpoolctl.threadpool_limits(limits=threads)  # type: ignore[no-any-return]
    return contextlib.nullcontext()
