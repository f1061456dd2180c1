"""Which refs a pickle contains: whoever pickles opens a collection, and each ref pickled adds its id to it.

Not a pickler, and it knows no refs: `ObjectRef` and `ActorHandle` call `collect` in `__reduce__`, `serialize.py`
opens the collection. (A pickler with `persistent_id` could do it too, but makes small pickles three times slower.)

Rules. A collection belongs to one thread. Collections nest: an inner one keeps what it collects to itself. A ref
that is pickled while no collection is open would escape the session's bookkeeping, so that is an error, unless it is
allowed: then whoever pickles it holds the object for good.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ipyremote import settings
from ipyremote.exceptions import OufOfBandObjectRefSerializationException

__all__ = ["collect", "collecting", "here"]


class Here(threading.local):
    """This thread's innermost open collection."""

    #: None: no collection is open. Who sets it restores the previous value, whatever happens.
    ids: list[int] | None = None


#: For code too hot for the context manager: put a fresh list into `here.ids`, and the old one back in a `finally`.
here = Here()


@contextmanager
def collecting() -> Iterator[list[int]]:
    """Collect the ids of refs that this thread pickles in the block, in order, repetitions included."""
    outer = here.ids
    inner: list[int] = []
    here.ids = inner
    try:
        yield inner
    finally:
        here.ids = outer


def collect(any_id: int) -> bool:
    """A ref to this object or actor is being pickled. False: no collection is open, so it has to be held for good.

    Raises OufOfBandObjectRefSerializationException when none is open, unless the settings allow that.
    """
    ids = here.ids
    if ids is not None:
        ids.append(any_id)
        return True
    if not settings.allows_out_of_band_refs():
        raise OufOfBandObjectRefSerializationException(
            "A ref was pickled outside of ipyremote, so nothing would keep its object alive. "
            "Pass the ref to a task, put it into the store with put(), or pickle the value: get(ref). "
            "IPYREMOTE_allow_out_of_band_object_ref_serialization=1 allows it and keeps such objects for good."
        )
    return False
