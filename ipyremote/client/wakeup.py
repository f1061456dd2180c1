"""A descriptor by which one thread ends the `poll` of another: an eventfd on Linux, a pipe on other Unix systems."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

__all__ = ["Wakeup"]

#: The number 1 as an eventfd takes it; a pipe takes any bytes.
_ONE: Final = (1).to_bytes(8, sys.byteorder)
#: Largest number of bytes to read at once: an eventfd gives 8, a pipe one `_ONE` for each call of `set`.
_READ_BYTES: Final = 4096


class Wakeup:
    """A signal that any thread can set: `fd` is readable until somebody clears the signal."""

    __slots__ = ("_write_fd", "fd")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            #: The descriptor to poll; -1 after `close`.
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def set(self) -> None:
        """End the polls of `fd`. Does nothing after `close`."""
        if self._write_fd >= 0:
            # A full pipe is readable already.
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, _ONE)

    def clear(self) -> None:
        """Let the next `poll` of `fd` wait again. Harmless when another thread has cleared it already."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, _READ_BYTES)

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        fd, self.fd = self.fd, -1
        write_fd, self._write_fd = self._write_fd, -1
        for open_fd in {fd, write_fd} - {-1}:
            os.close(open_fd)
