"""Recycled segments that wait for their next object. The pool itself moves no files and unmaps nothing.

Page faults on fresh shared memory cost several times as much as the copy, so a segment with existing, mapped pages is
worth keeping.

Rules. The pool is bounded in bytes and in the number of segments of one size. The segment that has waited longest is
pushed out first. Of all segments of one size, the one that has waited least is taken first, because it is most likely
still in the CPU's cache.
"""

from __future__ import annotations

import mmap
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Segment", "SegmentPool", "size_class"]

#: Smallest length of a segment, in bytes.
SMALLEST: Final = 64 << 10
#: Largest number of segments of one size in a pool.
MOST_OF_A_SIZE: Final = 64


def size_class(size: int) -> int:
    """Return the length of the segment for an object of `size` bytes, one of eight steps between powers of two.

    Objects of about the same size can follow each other in such a segment. The waste is 6 % on average and at most
    12.5 %.
    """
    if size <= SMALLEST:
        return SMALLEST
    step = 1 << size.bit_length() - 4
    return -(-size // step) * step


@dataclass(slots=True)
class Segment:
    """A segment of this process."""

    #: File name in the session directory.
    name: str
    #: Length of the file, in bytes.
    size: int
    #: Writable mapping; None before the segment is first reused.
    mapping: mmap.mmap | None = None
    #: Number of the segment in the order in which segments came into the pool.
    turn: int = 0


class SegmentPool:
    """The recycled segments of a process. Not thread-safe. The module's docstring has the rules."""

    __slots__ = ("_by_size", "_limit", "_turn", "bytes")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_size: dict[int, deque[Segment]] = {}
        self._turn = 0
        #: Length of all segments in the pool together, in bytes.
        self.bytes = 0

    def take(self, size: int) -> Segment | None:
        """Remove and return a segment for an object of `size` bytes; at most a third of the segment is wasted."""
        most = max(SMALLEST, size + size // 2)
        best = min((length for length in self._by_size if size <= length <= most), default=None)
        return None if best is None else self._remove(best, newest=True)

    def add(self, segment: Segment) -> list[Segment]:
        """Keep a segment. Returns the segments that have to go, perhaps this one among them."""
        gone: list[Segment] = []
        same = self._by_size.get(segment.size)
        if same is not None and len(same) >= MOST_OF_A_SIZE:
            gone.append(self._remove(segment.size, newest=False))
        while self._by_size and self.bytes + segment.size > self._limit:
            oldest = min(self._by_size, key=lambda size: self._by_size[size][0].turn)
            gone.append(self._remove(oldest, newest=False))
        # One segment alone may exceed the limit; otherwise the largest objects would always be slow.
        if segment.size > 2 * self._limit:
            return [*gone, segment]
        self._turn += 1
        segment.turn = self._turn
        self._by_size.setdefault(segment.size, deque()).append(segment)
        self.bytes += segment.size
        return gone

    def clear(self) -> list[Segment]:
        """Remove and return all segments."""
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
