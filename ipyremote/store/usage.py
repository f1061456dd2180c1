"""How many bytes the segments of a session take, counted in a file that its processes share.

    offset 0   int64   bytes used
    offset 8   int64   1 while a process changes something, else 0

The segment files are the truth, and the count saves looking at them. A process changes files and count together,
under `flock` of this file. When it is killed in between, the kernel drops its lock but the mark at offset 8 stays:
the next process sees it and counts the files again. Nothing has to be cleaned up by anyone.

Not a limit on memory: a segment counts with the length of its file, whoever has it mapped.
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

SEGMENT_PREFIX: Final = "seg-"
_FORMAT: Final = struct.Struct("=qq")


class Usage:
    """One process's access to the count. Thread-safe.

    Not to be used in a child after a fork, which would share the lock with its parent.
    """

    def __init__(self, path: Path) -> None:
        self._directory = path
        self._fd = os.open(path / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # flock excludes other processes only.
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give up the file. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def bytes_used(self) -> int:
        """As of now, without waiting for processes that are changing it."""
        return self._read()[0]

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Exclude all others, without changing the number of bytes: nobody counts the files while one is renamed."""
        with self._lock:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Exclude all others. Create and unlink segment files in here only, and say so to the `Change`."""
        with self.excluding():
            used, interrupted = self._read()
            change = Change(self._directory, used)
            if interrupted:
                change.recount()
            os.pwrite(self._fd, _FORMAT.pack(change.used, 1), 0)
            # An exception leaves the mark: files and count may disagree.
            yield change
            os.pwrite(self._fd, _FORMAT.pack(change.used, 0), 0)

    def _read(self) -> tuple[int, int]:
        data = os.pread(self._fd, _FORMAT.size, 0)
        # A new file is empty.
        used, interrupted = _FORMAT.unpack(data) if len(data) == _FORMAT.size else (0, 1)
        return used, interrupted


class Change:
    """The count, while its lock is held."""

    __slots__ = ("_directory", "used")

    def __init__(self, directory: Path, used: int) -> None:
        self._directory = directory
        #: Bytes used. Add what you create, subtract what you unlink.
        self.used = used

    def recount(self) -> None:
        """Set the count to what the files say."""
        self.used = sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in os.scandir(self._directory)
            if entry.name.startswith(SEGMENT_PREFIX)
        )
