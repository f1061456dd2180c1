"""Segments: files of the session directory that hold one large object each.

    seg-<creator's client number>-<number>     head (a pickle) at offset 0, buffers at multiples of 64

The store is no ledger: the user of a `SegmentStore` says when an object is needed no more.

Rules.
- Memory is allocated (`posix_fallocate`) before anything is written, so a full file system leads to an error
  (`StoreFull`) and never to the death of a process by SIGBUS.
- A reader maps an object once, read-only. This mapping pins the object: `read` promises an id in `released` when the
  last array, slice or memoryview on the mapping has died. Only then may the reader let go of the object, and only after
  all readers have done so may the creator `recycle` the segment.
- A recycled segment gets a new name with its next object, so a late reader gets `SegmentLost` and never wrong data.
- Segments outlive their creator. The scheduler removes the segments of a dead creator with `unlink` and `reap`.
- A segment may be moved to disk (`spill.py`). A reader looks in memory first, then on disk; the copy on disk is
  complete before the original is removed.
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
from operator import length_hint
from pathlib import Path
from typing import Final, Literal

from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import Stored
from ipyremote.store.directory import SPILL_LINK
from ipyremote.store.files import NO_ROOM, lay_out, needed, opened, write_all
from ipyremote.store.mapping import copy_into, map_file
from ipyremote.store.segment_pool import Segment, SegmentPool, size_class
from ipyremote.store.spill import SpillStore, pin, reap_disk, unlink_disk
from ipyremote.store.usage import SEGMENT_PREFIX, Change, Usage

__all__ = ["SegmentLost", "SegmentStore", "StoreFull", "reap", "unlink"]

#: Number of bytes that one system call allocates. A signal undoes the call that it interrupts, and no earlier calls.
_ALLOCATION: Final = 64 << 20
#: Largest number of writable mappings that a process keeps. Linux allows a process about 65,000 mappings in all.
_MOST_MAPPINGS: Final = 1024
#: Number of pins from which it pays to look for dead ones.
_FEW_PINS: Final = 64


class StoreFull(Exception):
    """There is no room for an object: the capacity of the store or of the file system is used up."""

    def __init__(self, needed: int, used: int, capacity: int, free: int) -> None:
        super().__init__(needed, used, capacity, free)
        #: Size of the object, in bytes.
        self.needed = needed
        #: Size of all segments of the session, in bytes, with the recycled ones of other processes, which `Trim` frees.
        self.used = used
        #: Capacity of the store, in bytes.
        self.capacity = capacity
        #: Free space on the file system, in bytes.
        self.free = free

    def __str__(self) -> str:
        return (
            f"no room for {self.needed:,} bytes: {self.used:,} of {self.capacity:,} bytes are used, "
            f"and the file system has {self.free:,} left"
        )


class SegmentLost(Exception):
    """The segment of an object does not exist (any more), or is too short."""


class _Pin:
    """A reader's mapping, whose death appends the object's id to `released`.

    A pin must be kept until then, since the death of a weak reference cancels its callback: while CPython unmaps the
    memory, other threads run, and the weak reference gives None already although its callback is still to come.
    """

    __slots__ = ("_steps", "mapping")

    def __init__(self, mapping: mmap.mmap, object_id: ObjectId, released: deque[ObjectId]) -> None:
        #: Iterator whose one step is the release.
        self._steps = iter((object_id,))
        #: Weak reference to the mapping. Its callback runs in C, so no interrupt strikes in the finalizer.
        self.mapping = weakref.ref(mapping, partial(next, map(released.append, self._steps)))

    @property
    def is_released(self) -> bool:
        """Whether the mapping has died, and its object's id was appended."""
        return not length_hint(self._steps)


class SegmentStore:
    """A process's access to the segments of its session. Thread-safe.

    A forked child must not use its parent's store, but needs a store with the child's own client number.
    """

    def __init__(self, path: Path, client_id: ClientId, capacity: int) -> None:
        """Use the session directory `path`. `capacity`: bytes that all processes of the session may use together."""
        #: The session directory.
        self.path = path
        self._prefix = f"{SEGMENT_PREFIX}{client_id}-"
        self._capacity = capacity
        self._numbers = itertools.count(1)
        self._usage = Usage(path)
        #: Store for objects that have no room in memory.
        self.disk = SpillStore(path, client_id)
        self._lock = threading.Lock()
        #: Segments of this process that hold an object, by name.
        self._live: dict[str, Segment] = {}
        self._pool = SegmentPool(capacity // 4)
        #: Number of writable mappings of live and of recycled segments.
        self._mapped = 0
        #: Readers' mappings by object id. Dead ones stay until `_bury`.
        self._pins: dict[int, _Pin] = {}
        #: Pins whose objects were mapped again while the former mapping was being unmapped.
        self._dying: list[_Pin] = []
        #: Number of pins from which `_bury` looks for dead ones.
        self._next_burial = _FEW_PINS

    def write(self, head: bytes, buffers: Sequence[bytes | bytearray | memoryview] = ()) -> Stored:
        """Store an object. Raises StoreFull; OSError if the session directory is gone."""
        parts, places, size = lay_out(head, buffers)
        segment = self._write_recycled(size, parts) or self._write_fresh(size, parts)
        with self._lock:
            self._live[segment.name] = segment
        return Stored(segment.name, segment.size, len(head), places)

    def read(
        self, stored: Stored, object_id: ObjectId, released: deque[ObjectId]
    ) -> tuple[memoryview, list[memoryview], bool]:
        """Return (pickle, buffers, whether the object was mapped anew) of an object, read-only and without a copy.

        For each new mapping `object_id` is appended to `released` once, perhaps by a finalizer, when nothing uses the
        mapping any more. The object may have been mapped again by then, so the caller must count. Raises SegmentLost.
        """
        with self._lock:
            self._bury()
            pin = self._pins.get(object_id)
            mapping = pin.mapping() if pin is not None else None
            fresh = mapping is None
            if mapping is None:
                mapping = self._open(stored)
                if pin is not None and not pin.is_released:
                    self._dying.append(pin)
                self._pins[object_id] = _Pin(mapping, object_id, released)
        view = memoryview(mapping)
        return view[: stored.head], [view[start : start + length] for start, length in stored.buffers], fresh

    @property
    def capacity(self) -> int:
        """Number of bytes that all processes of the session may use together."""
        return self._capacity

    def recycle(self, segment: str) -> bool:
        """Reuse a segment of this process whose object nobody needs any more. False for a segment not in memory."""
        with self._lock:
            found = self._live.pop(segment, None)
            gone = self._pool.add(found) if found is not None else []
        self._unlink(gone)
        return found is not None

    def evict(self, segments: Collection[str]) -> None:
        """Remove segments of this process without reuse. Readers that have one mapped can go on reading.

        Unknown names are ignored.
        """
        with self._lock:
            found = [self._live.pop(name) for name in segments if name in self._live]
        self._unlink(found)

    def trim(self) -> int:
        """Give the memory of recycled segments back to the system. Returns the number of bytes."""
        with self._lock:
            gone = self._pool.clear()
        return self._unlink(gone)

    def used_bytes(self) -> int:
        """Return the size of all segments of the session, with the recycled ones, in bytes."""
        return self._usage.bytes_used()

    def close(self) -> None:
        """Let go of everything but the objects and the readers' mappings of this process.

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
        """Write an object into a segment of the pool; None if no segment fits."""
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
            # After an interrupt, or without the session directory, the segment does not hold a whole object.
            self._unlink([segment])
            raise
        return segment

    def _refill(self, segment: Segment, parts: list[memoryview]) -> None:
        """Copy into a segment that was written before, through a mapping: its pages exist, so that is twice as fast."""
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
        """Write into a new segment. If room is scarce, the segment has the least size, and the pool is emptied."""
        for length in (size_class(size), -(-size // mmap.PAGESIZE) * mmap.PAGESIZE):
            segment = self._create(length, parts)
            if segment is None and self.trim():
                segment = self._create(length, parts)
            if segment is not None:
                return segment
        status = os.statvfs(self.path)
        raise StoreFull(size, self.used_bytes(), self._capacity, status.f_bavail * status.f_frsize)

    def _create(self, length: int, parts: list[memoryview]) -> Segment | None:
        """Make and fill a new segment; None if there is no room."""
        segment = Segment(self._next_name(), length)
        try:
            file = self._reserve(segment)
            if file is None:
                return None
            with file:
                _allocate(file.fileno(), length)
                # A fault on a fresh page of a mapping costs more than the page's share of this system call.
                write_all(file.fileno(), parts)
        except BaseException as error:
            self._unlink([segment])
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return None
            raise
        return segment

    def _reserve(self, segment: Segment) -> io.FileIO | None:
        """Create and count a file of full length without memory; None if that exceeds the capacity."""
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
        """Remove the files of segments, which may be gone already. Returns the number of bytes that became free."""
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
        """Forget dead pins once there are many pins. Needs the lock."""
        if len(self._pins) >= self._next_burial:
            self._pins = {object_id: pin for object_id, pin in self._pins.items() if not pin.is_released}
            self._dying = [pin for pin in self._dying if not pin.is_released]
            self._next_burial = max(_FEW_PINS, 2 * len(self._pins))


def unlink(
    path: Path, segments: Collection[str], where: Literal["everywhere", "memory", "disk"] = "everywhere"
) -> int:
    """Remove segments whose creator is gone. Returns the number of bytes of memory that became free."""
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


def reap(path: Path, client_id: ClientId, keep: Collection[str], keep_on_disk: Collection[str] = ()) -> int:
    """Remove the segments of a dead process that hold no known object, and count all segments of the session anew.

    Such segments were recycled, or were not announced to the scheduler yet. `keep` and `keep_on_disk` name the segments
    with objects. Returns the number of bytes of memory that became free.
    """
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
    """Make sure that the file system has memory, or disk space, for all bytes of the file."""
    for start in range(0, length, _ALLOCATION):
        size = min(_ALLOCATION, length - start)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, start, size)
        else:  # macOS
            write_all(fd, [memoryview(bytes(size))], start)


def _copy_all(mapping: mmap.mmap, parts: Sequence[memoryview]) -> None:
    """Copy parts one after the other to the start of a mapping."""
    offset = 0
    for part in parts:
        copy_into(mapping, offset, part)
        offset += part.nbytes
