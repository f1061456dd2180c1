"""Recycled segments that wait for their next object. Pure: it moves no files and unmaps nothing.

Faults on fresh shared memory cost several times the copy, so a segment whose pages exist, and are mapped, is worth
keeping. Rules: the pool is bounded in bytes and in segments of one size; what is pushed out is the segment that waited
longest; what is taken is the one of a size that waited least, since it is most likely still in the CPU's cache.
"""

from __future__ import annotations

import mmap
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Segment", "SegmentPool", "size_class"]

#: Smallest length of a segment.
SMALLEST: Final = 64 << 10
#: Segments of one size that are kept.
MOST_OF_A_SIZE: Final = 64


def size_class(size: int) -> int:
    """Length of the segment for that many bytes: rounded up to one of eight steps between powers of two, so that
    objects of about the same size can follow each other, at 6 % of waste on average and 12.5 % at most."""
    if size <= SMALLEST:
        return SMALLEST
    step = 1 << size.bit_length() - 4
    return -(-size // step) * step


@dataclass(slots=True)
class Segment:
    """A segment of this process."""

    #: File name in the session directory.
    name: str
    #: Length of the file.
    size: int
    #: Writable mapping; None before its first reuse.
    mapping: mmap.mmap | None = None
    #: When it came into the pool, for the order of leaving.
    turn: int = 0


class SegmentPool:
    """See the module docstring. Not thread-safe."""

    __slots__ = ("_by_size", "_limit", "_turn", "bytes")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_size: dict[int, deque[Segment]] = {}
        self._turn = 0
        #: Of all segments in the pool.
        self.bytes = 0

    def take(self, size: int) -> Segment | None:
        """Remove and return a segment for an object of `size` bytes that wastes at most a third of it."""
        most = max(SMALLEST, size + size // 2)
        best = min((length for length in self._by_size if size <= length <= most), default=None)
        return None if best is None else self._remove(best, newest=True)

    def add(self, segment: Segment) -> list[Segment]:
        """Keep a segment. Returns those that have to go, perhaps this one."""
        gone: list[Segment] = []
        same = self._by_size.get(segment.size)
        if same is not None and len(same) >= MOST_OF_A_SIZE:
            gone.append(self._remove(segment.size, newest=False))
        while self._by_size and self.bytes + segment.size > self._limit:
            oldest = min(self._by_size, key=lambda size: self._by_size[size][0].turn)
            gone.append(self._remove(oldest, newest=False))
        # A single segment may be larger than the limit, or the largest objects would always be slow.
        if segment.size > 2 * self._limit:
            return [*gone, segment]
        self._turn += 1
        segment.turn = self._turn
        self._by_size.setdefault(segment.size, deque()).append(segment)
        self.bytes += segment.size
        return gone

    def clear(self) -> list[Segment]:
        """Remove and return all."""
        gone = [segment for same in self._by_size.values() for segment in same]
        self._by_size.clear()
        self.bytes = 0
        return gone

    def _remove(self, size: int, *, newest: bool) -> Segment:
        same = self._by_size[size]
        segment = same.pop() if newest else same.popleft()
        if not same:
            del self._by_size[size]
        self.bytes -= size
        return segment
