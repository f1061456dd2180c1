"""Lifelines: how a process learns that another is gone, however that one went.

A lifeline is a pipe whose write end exactly one process holds and on which nothing is ever written. End of file at the
read end therefore means that the holder is gone: no polling of process ids, no signal, no exit handler is involved.

Rules. Both ends are closed on exec. A fork copies the write end, so a child that is not meant to keep the lifeline
whole closes its copy first of all.
"""

from __future__ import annotations

import os
import select

__all__ = ["Lifeline", "pair"]


def pair() -> tuple[int, int]:
    """A new lifeline: (read end, write end)."""
    return os.pipe()


class Lifeline:
    """The read end of a lifeline. It owns the descriptor."""

    __slots__ = ("_fd", "_poll")

    def __init__(self, fd: int) -> None:
        # A descriptor that came through exec is inheritable; what this process starts has no use for it.
        os.set_inheritable(fd, False)
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def fileno(self) -> int:
        """For a poll set: readable means cut."""
        return self._fd

    def is_cut(self) -> bool:
        """Whether the holder of the write end is gone. Never blocks."""
        return bool(self._poll.poll(0))

    def wait_cut(self, timeout: float | None = None) -> bool:
        """Block until the holder is gone, at most `timeout` seconds; whether it is."""
        return bool(self._poll.poll(None if timeout is None else int(timeout * 1000)))

    def close(self) -> None:
        """Close the read end. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
