"""The number of bytes that the segments of a session take, counted in a file that all processes share.

    offset 0   int64   number of bytes used
    offset 8   int64   1 while a process changes something, else 0

The segment files are the truth, and the count saves looking at them all. A process changes segment files and count
together, under `flock` of the count's file. If the process is killed in between, the kernel drops the lock but the mark
at offset 8 stays, and the next process sees the mark and counts the segment files again. Nobody has to clean up.

The count is no limit on memory: a segment counts with the length of its file, whichever processes have it mapped.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["SEGMENT_PREFIX", "Usage"]

#: Beginning of the names of segments in the session directory.
SEGMENT_PREFIX: Final = "seg-"
_FORMAT: Final = struct.Struct("=qq")


class Usage:
    """A process's access to the count. Thread-safe.

    A forked child must not use its parent's object, because parent and child would share one lock.
    """

    def __init__(self, path: Path) -> None:
        self._directory = path
        self._fd = os.open(path / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # flock excludes other processes, but no other threads of this process.
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def bytes_used(self) -> int:
        """Return the present count, without waiting for a process that is changing it."""
        return self._read()[0]

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Exclude all others without changing the count, so that nobody counts the files while one is renamed."""
        with self._lock:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Exclude all others. Segment files are created and unlinked in this block only, and noted in the `Change`."""
        with self.excluding():
            used, interrupted = self._read()
            change = Change(self._directory, used)
            if interrupted:
                change.recount()
            os.pwrite(self._fd, _FORMAT.pack(change.used, 1), 0)
            # After an exception the mark stays, because files and count may disagree.
            yield change
            os.pwrite(self._fd, _FORMAT.pack(change.used, 0), 0)

    def _read(self) -> tuple[int, int]:
        data = os.pread(self._fd, _FORMAT.size, 0)
        # A new file is empty.
        used, interrupted = _FORMAT.unpack(data) if len(data) == _FORMAT.size else (0, 1)
        return used, interrupted


class Change:
    """The count while its lock is held."""

    __slots__ = ("_directory", "used")

    def __init__(self, directory: Path, used: int) -> None:
        self._directory = directory
        #: Number of bytes used. Add the length of each file that you create, and subtract that of each one you unlink.
        self.used = used

    def recount(self) -> None:
        """Set the count to the length of all segment files together."""
        self.used = sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in os.scandir(self._directory)
            if entry.name.startswith(SEGMENT_PREFIX)
        )
