"""Laying out, opening and writing the files of a session, for segments in memory and on disk alike."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ipyremote.messages import Stored

__all__ = ["NO_ROOM", "lay_out", "needed", "opened", "write_all"]

#: Alignment of buffers in a segment, in bytes.
_ALIGNMENT: Final = 64
#: Number of parts that one system call writes.
_PARTS: Final = 512
#: Error numbers that mean a full file system, or a quota or limit that is reached.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})


def lay_out(
    head: bytes, buffers: Sequence[bytes | bytearray | memoryview]
) -> tuple[list[memoryview], tuple[tuple[int, int], ...], int]:
    """Return (parts to write one after the other, offset and length of each buffer, number of bytes in all)."""
    parts = [memoryview(head)]
    places = []
    end = len(head)
    for buffer in buffers:
        view = memoryview(buffer)
        if view.nbytes == 0:
            view = memoryview(b"")  # a view with a zero in its shape cannot be cast
        elif view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        padding = -end % _ALIGNMENT
        if padding:
            parts.append(memoryview(bytes(padding)))
        parts.append(view)
        places.append((end + padding, view.nbytes))
        end += padding + view.nbytes
    return parts, tuple(places), end


def needed(stored: Stored) -> int:
    """Return how many bytes of its file an object takes."""
    return max(stored.head, *(start + length for start, length in stored.buffers), 1)


def opened(path: str | Path, mode: str, flags: int) -> io.FileIO:
    """Open a file of the session directory.

    The result is an object and not a number, because an interrupt right after the call would leave a number open.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    return io.FileIO(path, mode, opener=lambda name, _: os.open(name, flags, 0o600))


def write_all(fd: int, parts: Sequence[memoryview], start: int = 0) -> None:
    """Write parts one after the other from offset `start`, without the interpreter's lock."""
    left = [part for part in parts if part.nbytes]
    first = 0
    while first < len(left):
        written = os.pwritev(fd, left[first : first + _PARTS], start)
        start += written
        while first < len(left) and written >= left[first].nbytes:
            written -= left[first].nbytes
            first += 1
        if written:
            left[first] = left[first][written:]
