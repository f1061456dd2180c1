"""Segments: the files of the session directory in which large objects lie, one object in each.

    seg-<creator's client number>-<number>     head (a pickle) at offset 0, buffers at multiples of 64

Not a ledger: whoever uses a `SegmentStore` says when an object is needed no more.

Rules.
- Memory is allocated (`posix_fallocate`) before anything is written, so a full file system is an error (`StoreFull`)
  and never the death of a process by SIGBUS.
- A reader maps an object once, read-only, and this mapping is its pin: `read` promises an id in `released` when
  the last array, slice or memoryview on it has died. Only then may the reader let go of the object, and only after
  all readers did may the creator `recycle` it.
- A recycled segment gets a new name with its next object: to come too late is `SegmentLost`, not wrong data.
- Segments outlive their creator. What a dead creator leaves, the scheduler removes with `unlink` and `reap`.
- A segment may be moved to disk (`spill.py`). A reader looks in memory, then on disk; a copy on disk is complete before
  the original goes.
"""

from __future__ import annotations

import io
import itertools
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from ipyremote.messages import Stored
from ipyremote.store.directory import SPILL_LINK
from ipyremote.store.files import NO_ROOM, lay_out, needed, opened, write_all
from ipyremote.store.mapping import copy_into, map_file
from ipyremote.store.segment_pool import Segment, SegmentPool, size_class
from ipyremote.store.spill import SpillStore, pin, reap_disk, unlink_disk
from ipyremote.store.usage import SEGMENT_PREFIX, Change, Usage

__all__ = ["SegmentLost", "SegmentStore", "StoreFull", "reap", "unlink"]

#: Allocated in one system call. A signal undoes the call that it interrupts, not those before.
_ALLOCATION: Final = 64 << 20
#: Writable mappings kept for recycled segments. (Linux allows a process about 65,000 mappings in all.)
_MOST_MAPPINGS: Final = 1024
#: So many pins are not worth looking for dead ones among them.
_FEW_PINS: Final = 64


class StoreFull(Exception):
    """No room for an object: either the capacity is used up, or the file system is."""

    def __init__(self, needed: int, used: int, capacity: int, free: int) -> None:
        super().__init__(needed, used, capacity, free)
        #: Bytes that the object takes.
        self.needed = needed
        #: Bytes of all segments of the session, recycled ones of other processes included (`Trim` frees those).
        self.used = used
        self.capacity = capacity
        #: Bytes that the file system has left.
        self.free = free

    def __str__(self) -> str:
        return (
            f"no room for {self.needed:,} bytes: {self.used:,} of {self.capacity:,} bytes are used, "
            f"and the file system has {self.free:,} left"
        )


class SegmentLost(Exception):
    """The segment of an object is not there (any more), or is too short."""


class SegmentStore:
    """One process's access to the segments of its session. Thread-safe.

    Not to be used in a child after a fork: make another one there, with the child's own client number.
    """

    def __init__(self, path: Path, client_id: int, capacity: int) -> None:
        """`path`: the session directory. `capacity`: bytes that all processes of the session may use together."""
        #: The session directory.
        self.path = path
        self._prefix = f"{SEGMENT_PREFIX}{client_id}-"
        self._capacity = capacity
        self._numbers = itertools.count(1)
        self._usage = Usage(path)
        #: What has no room in memory.
        self.disk = SpillStore(path, client_id)
        self._lock = threading.Lock()
        #: Segments of this process that hold an object, by name.
        self._live: dict[str, Segment] = {}
        self._pool = SegmentPool(capacity // 4)
        #: Number of writable mappings, of live and of recycled segments.
        self._mapped = 0
        #: Readers' mappings by object id; dead ones stay until `_bury`.
        self._pins: dict[int, weakref.ref[mmap.mmap]] = {}
        #: Number of pins at which the dead ones are looked for.
        self._next_burial = _FEW_PINS

    def write(self, head: bytes, buffers: Sequence[bytes | bytearray | memoryview] = ()) -> Stored:
        """Store an object. Raises StoreFull; OSError when the session directory is gone."""
        parts, places, size = lay_out(head, buffers)
        segment = self._write_recycled(size, parts) or self._write_fresh(size, parts)
        with self._lock:
            self._live[segment.name] = segment
        return Stored(segment.name, segment.size, len(head), places)

    def read(
        self, stored: Stored, object_id: int, released: deque[int]
    ) -> tuple[memoryview, list[memoryview], bool]:
        """(pickle, buffers, whether it was mapped anew) of an object, read-only and without a copy.

        For each new mapping `object_id` is appended to `released` once, perhaps by a finalizer, when nothing uses that
        mapping any more. By then the object may have been mapped again, so the caller counts. Raises SegmentLost.
        """
        with self._lock:
            self._bury()
            pin = self._pins.get(object_id)
            mapping = pin() if pin is not None else None
            fresh = mapping is None
            if mapping is None:
                mapping = self._open(stored)
                # All in C, so that no interrupt can strike inside the finalizer: the iterator's one step is the append.
                on_death = partial(next, map(released.append, (object_id,)))
                self._pins[object_id] = weakref.ref(mapping, on_death)
        view = memoryview(mapping)
        return view[: stored.head], [view[start : start + length] for start, length in stored.buffers], fresh

    @property
    def capacity(self) -> int:
        """Bytes that all processes of the session may use together."""
        return self._capacity

    def recycle(self, segment: str) -> bool:
        """The object in this segment of ours is needed no more, by anyone. False: it does not lie in memory."""
        with self._lock:
            found = self._live.pop(segment, None)
            gone = self._pool.add(found) if found is not None else []
        self._unlink(gone)
        return found is not None

    def evict(self, segments: Collection[str]) -> None:
        """Remove these segments of ours without reuse: who has one mapped reads on. Unknown ones are ignored."""
        with self._lock:
            found = [self._live.pop(name) for name in segments if name in self._live]
        self._unlink(found)

    def trim(self) -> int:
        """Give the memory of recycled segments back to the system. Returns how many bytes."""
        with self._lock:
            gone = self._pool.clear()
        return self._unlink(gone)

    def used_bytes(self) -> int:
        """Bytes of all segments of the session, recycled ones included."""
        return self._usage.bytes_used()

    def close(self) -> None:
        """Let go of everything but the objects: they stay, as does what readers in this process have mapped.

        Idempotent. Nothing may be written afterwards.
        """
        self.trim()
        with self._lock:
            live = list(self._live.values())
            self._live.clear()
        for segment in live:
            self._unmap(segment)
        self._usage.close()

    # ---- writing

    def _write_recycled(self, size: int, parts: list[memoryview]) -> Segment | None:
        """Write into a segment of the pool. None: there is none that fits."""
        with self._lock:
            segment = self._pool.take(size)
        if segment is None:
            return None
        try:
            name = self._next_name()
            with self._usage.excluding():
                os.rename(self._file(segment.name), self._file(name))
            segment.name = name
            self._refill(segment, parts)
        except BaseException:
            # An interrupt, or the directory is gone: what the segment holds now is no object.
            self._unlink([segment])
            raise
        return segment

    def _refill(self, segment: Segment, parts: list[memoryview]) -> None:
        """Copy into a segment that was written before. Through a mapping, since its pages are there: twice as fast."""
        if segment.mapping is None:
            with opened(self._file(segment.name), "r+b", os.O_RDWR) as file:
                if self._mapped >= _MOST_MAPPINGS:
                    write_all(file.fileno(), parts)
                    return
                segment.mapping = map_file(file.fileno(), segment.size, writable=True, populate=True)
            with self._lock:
                self._mapped += 1
        _copy_all(segment.mapping, parts)

    def _write_fresh(self, size: int, parts: list[memoryview]) -> Segment:
        """Write into a new segment; when there is no room, of the least size, and at the expense of the pool."""
        for length in (size_class(size), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE):
            segment = self._create(length, parts)
            if segment is None and self.trim():
                segment = self._create(length, parts)
            if segment is not None:
                return segment
        status = os.statvfs(self.path)
        raise StoreFull(size, self.used_bytes(), self._capacity, status.f_bavail * status.f_frsize)

    def _create(self, length: int, parts: list[memoryview]) -> Segment | None:
        """A new segment, filled. None: there is no room."""
        segment = Segment(self._next_name(), length)
        try:
            file = self._reserve(segment)
            if file is None:
                return None
            with file:
                _allocate(file.fileno(), length)
                # Not through a mapping: each fault on a fresh page costs more than its share of this system call.
                write_all(file.fileno(), parts)
        except BaseException as error:
            self._unlink([segment])
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return None
            raise
        return segment

    def _reserve(self, segment: Segment) -> io.FileIO | None:
        """Create the file, at its full length but without memory, and count it. None: it exceeds the capacity."""
        with self._usage.changing() as change:
            if change.used + segment.size > self._capacity:
                change.recount()
            if change.used + segment.size > self._capacity:
                return None
            change.used += segment.size
            file = opened(self._file(segment.name), "x+b", os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.ftruncate(file.fileno(), segment.size)
            return file

    def _next_name(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"

    # ---- letting go

    def _unlink(self, segments: list[Segment]) -> int:
        """Remove these files, which may be gone already. Returns how many bytes that freed."""
        if not segments:
            return 0
        for segment in segments:
            self._unmap(segment)
        with self._usage.changing() as change:
            return _unlink(self.path, [segment.name for segment in segments], change)

    def _unmap(self, segment: Segment) -> None:
        with self._lock:
            mapping, segment.mapping = segment.mapping, None
            self._mapped -= mapping is not None
        if mapping is not None:
            mapping.close()

    # ---- reading

    def _open(self, stored: Stored) -> mmap.mmap:
        if "/" in stored.segment:
            raise SegmentLost(f"{stored.segment!r} is not the name of a segment")
        try:
            file = opened(self._file(stored.segment), "rb", os.O_RDONLY)
        except FileNotFoundError:
            file = self._open_on_disk(stored.segment)
        with file:
            size = needed(stored)
            if file.seek(0, os.SEEK_END) < size:
                raise SegmentLost(f"the segment {stored.segment} is shorter than its object")
            pin(file.fileno())
            return map_file(file.fileno(), size, writable=False)

    def _open_on_disk(self, segment: str) -> io.FileIO:
        try:
            return opened(self._file(f"{SPILL_LINK}/{segment}"), "rb", os.O_RDONLY)
        except FileNotFoundError as error:
            raise SegmentLost(f"the segment {segment} is gone") from error

    def _bury(self) -> None:
        """Forget dead pins once there are many. The lock is held."""
        if len(self._pins) >= self._next_burial:
            self._pins = {object_id: pin for object_id, pin in self._pins.items() if pin() is not None}
            self._next_burial = max(_FEW_PINS, 2 * len(self._pins))


def unlink(
    path: Path, segments: Collection[str], where: Literal["everywhere", "memory", "disk"] = "everywhere"
) -> int:
    """Remove segments of a session whose creator is gone. Returns how many bytes of memory that freed."""
    if where != "memory":
        unlink_disk(path, segments)
    if where == "disk":
        return 0
    usage = Usage(path)
    try:
        with usage.changing() as change:
            return _unlink(path, segments, change)
    finally:
        usage.close()


def reap(path: Path, client_id: int, keep: Collection[str], keep_on_disk: Collection[str] = ()) -> int:
    """Remove the segments of a dead process except those that hold objects: its recycled ones, and what it did not
    come round to announce. Counts anew. Returns how many bytes of memory that freed."""
    reap_disk(path, client_id, keep_on_disk)
    prefix = f"{SEGMENT_PREFIX}{client_id}-"
    usage = Usage(path)
    try:
        with usage.changing() as change:
            names = [name for name in os.listdir(path) if name.startswith(prefix) and name not in keep]
            freed = _unlink(path, names, change)
            change.recount()
            return freed
    finally:
        usage.close()


def _unlink(path: Path, names: Collection[str], change: Change) -> int:
    freed = 0
    for name in names:
        if not name.startswith(SEGMENT_PREFIX) or "/" in name:
            continue
        with suppress(FileNotFoundError):
            size = os.stat(path / name, follow_symlinks=False).st_size
            os.unlink(path / name)
            freed += size
    change.used -= freed
    return freed


def _allocate(fd: int, length: int) -> None:
    """Make sure that the file has memory, or disk, behind all its bytes."""
    for start in range(0, length, _ALLOCATION):
        size = min(_ALLOCATION, length - start)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, start, size)
        else:  # macOS
            write_all(fd, [memoryview(bytes(size))], start)


def _copy_all(mapping: mmap.mmap, parts: Sequence[memoryview]) -> None:
    """Copy parts one after the other from the start of a mapping."""
    offset = 0
    for part in parts:
        copy_into(mapping, offset, part)
        offset += part.nbytes
