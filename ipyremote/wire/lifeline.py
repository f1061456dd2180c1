"""Lifelines, by which a process learns that another process is gone, for whatever reason.

A lifeline is a pipe on which nothing is ever written, and whose write end is held by exactly one process. End of file
at the read end therefore means that the holder is gone, without any polling of process ids, signals or exit handlers.

Rules. Both ends are closed on exec. A fork copies the write end, so a forked child that must not keep the lifeline
whole closes its copy before anything else.
"""

from __future__ import annotations

import os
import select

__all__ = ["Lifeline", "pair"]


def pair() -> tuple[int, int]:
    """Make a lifeline, and return (read end, write end)."""
    return os.pipe()


class Lifeline:
    """The read end of a lifeline. The object owns the descriptor."""

    __slots__ = ("_fd", "_poll")

    def __init__(self, fd: int) -> None:
        # A descriptor that came through exec is inheritable, but programs that this process starts have no use for it.
        os.set_inheritable(fd, False)
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor for a poll set. The descriptor is readable when the lifeline is cut."""
        return self._fd

    def is_cut(self) -> bool:
        """Return whether the holder of the write end is gone. Never blocks."""
        return bool(self._poll.poll(0))

    def wait_cut(self, timeout: float | None = None) -> bool:
        """Block until the holder is gone, at most `timeout` seconds. Returns whether the holder is gone."""
        return bool(self._poll.poll(None if timeout is None else int(timeout * 1000)))

    def close(self) -> None:
        """Close the read end. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
