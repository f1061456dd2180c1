"""The scheduler's log: lines with a time, on standard error, which the driver has connected to a file.

The log is for people who wonder why a session ended; no program reads the log of a healthy session. Its size is
bounded, because the file lies in the session directory, which may be in memory.
"""

from __future__ import annotations

import os
import time
from typing import Final

__all__ = ["Journal"]

#: Largest size of the log, in bytes. Nothing is written after that, because the first errors matter most.
MAX_BYTES: Final = 1 << 20
_STDERR: Final = 2


class Journal:
    """A writer of log lines that never raises."""

    def __init__(self, fd: int = _STDERR, max_bytes: int = MAX_BYTES) -> None:
        self._fd = fd
        self._left = max_bytes

    def write(self, text: str) -> None:
        """Add a line to the log."""
        if self._left <= 0:
            return
        line = f"{time.strftime('%H:%M:%S')} {text}\n".encode(errors="replace")
        self._left -= len(line)
        if self._left <= 0:
            line = b"the log is full and ends here\n"
        try:
            os.write(self._fd, line)
        except OSError:
            # A full disk is no reason to stop working.
            self._left = 0
