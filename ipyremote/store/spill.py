"""The part of the store on disk, for objects that were moved out of memory or found no room there.

    <session directory>/spill -> <spill directory>     a directory of the same kind on a disk; without the link nothing
                                                       is spilled
        seg-<creator's client number>-<number>         a complete copy of that segment
        disk-<creator's client number>-<number>        a segment that was made on disk
        part-<writer's client number>-<name>           a file that is being written

Rules. A file gets its name when it is complete, and nobody changes it afterwards, so a reader may map the file at any
time. Readers map the file on disk, and it is never moved back into memory: the system keeps its pages in memory while
there is room, and reading is then as fast as from shared memory (7 GB/s in both cases where this was measured; a cold
disk reads at the speed of the disk). A process that has a segment mapped holds a shared `flock` on the file, which
lasts as long as the mapping and ends with the process. Such a segment is not moved, because that would free no memory.
Space is not reserved before it is written to: a write fails cleanly on a full disk, and reserving space made copies ten
times as slow.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ipyremote import settings
from ipyremote.ids import ClientId
from ipyremote.messages import Stored
from ipyremote.store.directory import SPILL_LINK
from ipyremote.store.files import NO_ROOM, lay_out, needed, opened, write_all
from ipyremote.store.usage import SEGMENT_PREFIX

__all__ = ["DISK_PREFIX", "DiskFull", "SpillStore", "pin", "reap_disk", "unlink_disk"]

#: Beginning of the names of segments that were made on disk.
DISK_PREFIX: Final = "disk-"
_PART_PREFIX: Final = "part-"
#: Number of bytes that one system call copies.
_CHUNK: Final = 4 << 20


class DiskFull(Exception):
    """The disk has no room for an object, or is as full as the settings allow."""

    def __init__(self, size: int, path: Path, free: int, threshold: float) -> None:
        super().__init__(size, path, free, threshold)
        #: Size of the object, in bytes.
        self.size = size
        #: Spill directory of the session.
        self.path = path
        #: Free space on the file system, in bytes.
        self.free = free
        #: Share of the disk that may be used, from 0 to 1.
        self.threshold = threshold

    def __str__(self) -> str:
        return (
            f"no room for {self.size:,} bytes on the disk of {self.path}: {self.free:,} are free, "
            f"and at most {self.threshold:.0%} of a disk is filled"
        )


class SpillStore:
    """One process's access to the spill directory of its session. Thread-safe."""

    def __init__(self, session: Path, client_id: ClientId) -> None:
        self._session = session
        self._client = client_id
        self._link = session / SPILL_LINK
        self._numbers = itertools.count(1)

    @property
    def exists(self) -> bool:
        """Whether the session has a spill directory."""
        return os.path.islink(self._link)

    def write(self, head: bytes, buffers: Sequence[bytes | bytearray | memoryview] = ()) -> Stored:
        """Store an object on disk. Raises DiskFull; OSError if the directory is gone or cannot be written to."""
        parts, places, size = lay_out(head, buffers)
        name = f"{DISK_PREFIX}{self._client}-{next(self._numbers)}"
        self._check_room(size)
        part = self._part(name)
        try:
            with opened(part, "x+b", os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
                write_all(file.fileno(), parts)
            os.rename(part, self._link / name)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(part)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise self._full(size) from error
            raise
        return Stored(name, size, len(head), places)

    def copy(self, stored: Stored) -> bool:
        """Copy a segment of the session directory to disk, unless a process has the segment mapped.

        Returns whether there is a copy. Raises DiskFull; OSError if the segment or the copy cannot be opened.
        """
        name = stored.segment
        part = self._part(name)
        try:
            with opened(self._session / name, "rb", os.O_RDONLY) as source:
                if _is_pinned(source.fileno()):
                    return False
                self._fill(part, source.fileno(), needed(stored), name)
                # A process may have mapped the segment meanwhile.
                if _is_pinned(source.fileno()):
                    os.unlink(part)
                    return False
            os.rename(part, self._link / name)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(part)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise self._full(needed(stored)) from error
            raise
        return True

    def remove(self, segments: Collection[str]) -> None:
        """Remove segments that nobody needs any more. Unknown names are ignored."""
        _unlink(self._link, segments)

    def _fill(self, part: Path, source: int, size: int, name: str) -> None:
        with suppress(OSError):
            # If the session directory is on the same disk, a second name serves as a copy.
            os.link(self._session / name, part, follow_symlinks=False)
            return
        self._check_room(size)
        with opened(part, "x+b", os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
            done = 0
            while done < size:
                sent = os.sendfile(file.fileno(), source, done, min(_CHUNK, size - done))
                if not sent:
                    raise OSError(f"the segment {name} is shorter than its object")
                done += sent

    def _part(self, name: str) -> Path:
        return self._link / f"{_PART_PREFIX}{self._client}-{name}"

    def _check_room(self, size: int) -> None:
        status = os.statvfs(self._link)
        total = status.f_blocks * status.f_frsize
        left = status.f_bavail * status.f_frsize - size
        if left < total * (1 - settings.disk_threshold()):
            raise self._full(size)

    def _full(self, size: int) -> DiskFull:
        status = os.statvfs(self._link)
        path = Path(os.path.realpath(self._link))
        return DiskFull(size, path, status.f_bavail * status.f_frsize, settings.disk_threshold())


def pin(fd: int) -> None:
    """Mark an open segment as mapped, from before it is mapped until the mapping is gone.

    The descriptor may be closed afterwards.
    """
    # The lock is denied in the microseconds in which another process looks whether the segment is pinned. Then the
    # memory of a segment that is moved to disk is freed a little later than it is counted as free.
    # `try` is faster than contextlib, and every `get` of an array comes here.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return


def _is_pinned(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def unlink_disk(session: Path, segments: Collection[str]) -> None:
    """Remove segments of a session from its disk."""
    _unlink(session / SPILL_LINK, segments)


def reap_disk(session: Path, client_id: ClientId, keep: Collection[str]) -> None:
    """Remove the unfinished files of a dead process, and those of its segments that hold no object."""
    link = session / SPILL_LINK
    prefixes = tuple(f"{prefix}{client_id}-" for prefix in (SEGMENT_PREFIX, DISK_PREFIX, _PART_PREFIX))
    with suppress(FileNotFoundError):
        for name in os.listdir(link):
            if name.startswith(prefixes) and name not in keep:
                with suppress(FileNotFoundError):
                    os.unlink(link / name)


def _unlink(directory: Path, segments: Collection[str]) -> None:
    for name in segments:
        if name.startswith((SEGMENT_PREFIX, DISK_PREFIX)) and "/" not in name:
            with suppress(FileNotFoundError):
                os.unlink(directory / name)
