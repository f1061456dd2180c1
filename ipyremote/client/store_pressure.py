"""When the store is full: move cold objects to disk, or wait until others give back what they keep to use again.

Where the session has a spill directory, nothing fails as long as the disk has room: what cannot get room in memory,
because everything there is in use, is made on disk itself. Elsewhere it is a short wait, and then ObjectStoreFullError.
"""

from __future__ import annotations

import time
from typing import Final

from ipyremote import messages as m
from ipyremote.client.channel import Channel
from ipyremote.client.values import Values
from ipyremote.exceptions import ObjectStoreFullError, OutOfDiskError
from ipyremote.serialization.pickling import Pickled
from ipyremote.store.segments import StoreFull
from ipyremote.store.spill import DiskFull

__all__ = ["pack_when_room"]

#: How long to wait for room where nothing can be moved to disk.
ROOM_SECONDS: Final = 2.0
#: How long to wait for the room that was made by moving: somebody else may have been faster.
EVICT_SECONDS: Final = 0.3
#: The same, where only others could give back what they keep.
TRIM_SECONDS: Final = 0.05
#: When everything in memory is in use, so long the next ones go to disk without asking.
CROWDED_SECONDS: Final = 1.0
#: How long to leave the socket alone while segments are copied.
BUSY_SECONDS: Final = 0.05
#: How long to wait for a scheduler that does not say what to move.
ORDER_SECONDS: Final = 10.0
#: How often to ask for more to be moved.
ROUNDS: Final = 8
#: At a time, the capacity's share that is moved at least: it costs the same for one object as for many.
SHARE: Final = 8


def pack_when_room(channel: Channel, values: Values, pickled: Pickled) -> m.Inline | m.Stored:
    """`values.pack` as soon as there is room. Raises ObjectStoreFullError, or OutOfDiskError where there is a disk."""
    if not values.spills:
        return _wait_for_room(channel, values, pickled)
    if pickled.size <= values.capacity and time.monotonic() >= values.crowded_until:
        packed = _move_others(channel, values, pickled)
        if packed is not None:
            return packed
    try:
        return values.pack_on_disk(pickled)
    except DiskFull as full:
        raise OutOfDiskError(
            f"No room for an object of {pickled.size / 1e6:,.1f} MB: the object store is full, and there is {full}. "
            "Drop refs that are not needed any more, make room on the disk, or start the cluster with "
            "object_spilling_directory= on another one."
        ) from None


def _move_others(channel: Channel, values: Values, pickled: Pickled) -> m.Inline | m.Stored | None:
    """Have cold objects moved to disk until there is room. None: whatever was moved, there was none."""
    spiller = channel.spiller
    needed = max(pickled.size + pickled.size // 8, values.capacity // SHARE)
    for _ in range(ROUNDS):
        rounds, moved = spiller.rounds, spiller.moved
        channel.send(m.NoRoom(needed), now=True)
        deadline = time.monotonic() + ORDER_SECONDS
        # A copy takes as long as it takes.
        while spiller.rounds == rounds and (spiller.is_busy or time.monotonic() < deadline):
            if spiller.is_busy:
                spiller.wait(rounds, BUSY_SECONDS)
            else:
                channel.step(0.01)
        deadline = time.monotonic() + (EVICT_SECONDS if spiller.moved > moved else TRIM_SECONDS)
        while True:
            packed = _pack_after(channel, values, pickled, 0.01)
            if packed is not None:
                return packed
            if time.monotonic() >= deadline:
                break
        if spiller.moved == moved:
            values.crowded_until = time.monotonic() + CROWDED_SECONDS
            return None
    return None


def _wait_for_room(channel: Channel, values: Values, pickled: Pickled) -> m.Inline | m.Stored:
    deadline = time.monotonic() + ROOM_SECONDS
    channel.send(m.NoRoom())
    while True:
        packed = _pack_after(channel, values, pickled, 0.01)
        if packed is not None:
            return packed
        if time.monotonic() >= deadline:
            raise ObjectStoreFullError(
                f"No room for an object of {pickled.size / 1e6:,.1f} MB: {values.full}. Drop refs that are not needed "
                "any more (in a notebook Out[...] and _ keep them too), or start the cluster with a larger "
                "object_store_memory, or with object_spilling_directory= on a disk."
            )


def _pack_after(
    channel: Channel, values: Values, pickled: Pickled, seconds: float
) -> m.Inline | m.Stored | None:
    """Read the socket for a moment, then try again. None: still no room."""
    channel.step(seconds)
    try:
        return values.pack(pickled)
    except StoreFull as full:
        values.full = str(full)
        return None
