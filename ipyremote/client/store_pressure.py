"""Room in a full store: cold objects are moved to disk, or other clients give back memory that they keep for reuse.

Where the session has a spill directory, nothing fails as long as the disk has room: a value is written to the disk if
everything in memory is in use. Elsewhere a client waits for a short time, and then raises ObjectStoreFullError.
"""

from __future__ import annotations

import time
from typing import Final

from ipyremote import messages as m
from ipyremote.client.channel import Channel
from ipyremote.client.value_packing import ValuePacker
from ipyremote.exceptions import ObjectStoreFullError, OutOfDiskError
from ipyremote.serialization.pickling import Pickled
from ipyremote.store.segments import StoreFull
from ipyremote.store.spill import DiskFull

__all__ = ["pack_when_room"]

#: Longest wait for room where nothing can be moved to disk, in seconds.
ROOM_SECONDS: Final = 2.0
#: Longest wait for the room that a move has made, in seconds. Another client may have been faster.
EVICT_SECONDS: Final = 0.3
#: Longest wait for memory that other clients give back, where nothing was moved, in seconds.
TRIM_SECONDS: Final = 0.05
#: Time for which values go to disk without a request for room, after everything in memory was in use, in seconds.
CROWDED_SECONDS: Final = 1.0
#: Longest time between two looks at the socket while segments are copied, in seconds.
BUSY_SECONDS: Final = 0.05
#: Longest wait for the scheduler's order to move objects, in seconds.
ORDER_SECONDS: Final = 10.0
#: Largest number of requests to move objects, for one value.
MAX_ROUNDS: Final = 8
#: Smallest amount to move at a time, as a divisor of the store's capacity. Many objects cost no more than one.
SMALLEST_MOVE_DIVISOR: Final = 8


def pack_when_room(channel: Channel, packer: ValuePacker, pickled: Pickled) -> m.Inline | m.Stored:
    """Pack a value as soon as there is room. Raises ObjectStoreFullError, or OutOfDiskError where there is a disk."""
    if not packer.spills:
        return _wait_for_room(channel, packer, pickled)
    if pickled.size <= packer.capacity and time.monotonic() >= packer.crowded_until:
        packed = _move_others(channel, packer, pickled)
        if packed is not None:
            return packed
    try:
        return packer.pack_on_disk(pickled)
    except DiskFull as full:
        raise OutOfDiskError(
            f"No room for an object of {pickled.size / 1e6:,.1f} MB: the object store is full, and there is {full}. "
            "Drop refs that are not needed any more, make room on the disk, or start the cluster with "
            "object_spilling_directory= on another disk."
        ) from None


def _move_others(channel: Channel, packer: ValuePacker, pickled: Pickled) -> m.Inline | m.Stored | None:
    """Have cold objects moved to disk until there is room, and pack a value. Returns None if there is still no room."""
    spiller = channel.spiller
    needed = max(pickled.size + pickled.size // 8, packer.capacity // SMALLEST_MOVE_DIVISOR)
    for _ in range(MAX_ROUNDS):
        rounds, moved = spiller.rounds, spiller.moved
        channel.send(m.NoRoom(needed), now=True)
        deadline = time.monotonic() + ORDER_SECONDS
        # Copying has no deadline, because a disk may be slow.
        while spiller.rounds == rounds and (spiller.is_busy or time.monotonic() < deadline):
            if spiller.is_busy:
                spiller.wait(rounds, BUSY_SECONDS)
            else:
                channel.step(0.01)
        deadline = time.monotonic() + (EVICT_SECONDS if spiller.moved > moved else TRIM_SECONDS)
        while True:
            packed = _pack_after(channel, packer, pickled, 0.01)
            if packed is not None:
                return packed
            if time.monotonic() >= deadline:
                break
        if spiller.moved == moved:
            packer.crowded_until = time.monotonic() + CROWDED_SECONDS
            return None
    return None


def _wait_for_room(channel: Channel, packer: ValuePacker, pickled: Pickled) -> m.Inline | m.Stored:
    deadline = time.monotonic() + ROOM_SECONDS
    channel.send(m.NoRoom())
    while True:
        packed = _pack_after(channel, packer, pickled, 0.01)
        if packed is not None:
            return packed
        if time.monotonic() >= deadline:
            raise ObjectStoreFullError(
                f"No room for an object of {pickled.size / 1e6:,.1f} MB: {packer.fullness}. Drop refs that are not "
                "needed any more (in a notebook Out[...] and _ keep them too), or start the cluster with a larger "
                "object_store_memory, or with object_spilling_directory= on a disk."
            )


def _pack_after(
    channel: Channel, packer: ValuePacker, pickled: Pickled, seconds: float
) -> m.Inline | m.Stored | None:
    """Read the socket for at most so many seconds, then try to pack. Returns None if there is still no room."""
    channel.step(seconds)
    try:
        return packer.pack(pickled)
    except StoreFull as full:
        packer.fullness = str(full)
        return None
