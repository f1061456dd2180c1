"""Collection of the ids of the refs inside a pickle: `pickling` opens a collection, and each pickled ref adds its id.

This module is not a pickler and knows no ref classes: `ObjectRef` and `ActorHandle` call `collect` in `__reduce__`, and
`pickling` opens the collection. (A pickler with `persistent_id` could collect refs too, but is three times slower for
small values.)

Rules. A collection belongs to one thread. Collections nest: ids of an inner collection are not added to the outer one.
A ref that is pickled while no collection is open would escape the session's bookkeeping, so pickling it is an error. If
the settings allow such a ref, the process that pickles the ref holds its object for good.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ipyremote import settings
from ipyremote.exceptions import OufOfBandObjectRefSerializationException
from ipyremote.ids import ObjectId

__all__ = ["collect", "collecting", "here"]


class Here(threading.local):
    """This thread's innermost open collection."""

    #: Ids collected so far; None while no collection is open. Code that sets `ids` restores it in a `finally`.
    ids: list[ObjectId] | None = None


#: The open collection, for code too hot for `collecting`: set `here.ids` to a new list, and restore the old one in a
#: `finally`.
here = Here()


@contextmanager
def collecting() -> Iterator[list[ObjectId]]:
    """Collect the ids of refs that this thread pickles in the block, in order, repetitions included."""
    outer = here.ids
    inner: list[ObjectId] = []
    here.ids = inner
    try:
        yield inner
    finally:
        here.ids = outer


def collect(any_id: ObjectId) -> bool:
    """Add the id of a ref or actor handle that is being pickled to the open collection.

    Returns False if no collection is open and the settings allow that: the caller must then hold the object for good.
    Raises OufOfBandObjectRefSerializationException if no collection is open and the settings do not allow that.
    """
    ids = here.ids
    if ids is not None:
        ids.append(any_id)
        return True
    if not settings.allows_out_of_band_refs():
        raise OufOfBandObjectRefSerializationException(
            "A ref was pickled outside of ipyremote, so nothing would keep its object alive. "
            "Pass the ref to a task, put it into the store with put(), or pickle the value: get(ref). "
            "IPYREMOTE_allow_out_of_band_object_ref_serialization=1 allows such a pickle and keeps the object for good."
        )
    return False
