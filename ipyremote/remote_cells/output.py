"""Text that user code writes: `sys.stdout` and `sys.stderr` of a worker.

Complete lines go to the scheduler, coalesced for a few milliseconds while more is coming; everything is sent before the
task's result is reported, on the same socket. Order between stdout and stderr is kept: what waits in one stream is sent
before the other stream is written to. The line that a thread has begun waits as long for its end, apart from the lines
of other threads: `print` writes the text and the line's end one after the other.

What C code and other programs write to descriptors 1 and 2 lands in the worker's log file. It is read from there, now
and then and when a task ends, and passed on as text on stdout. (The scheduler cuts the log when it is long: a flood of
megabytes may lose some.) A process that user code forks writes there too: the session is not its own.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["OutputCapture", "TextStream"]

STDOUT: Final = 1
STDERR: Final = 2

#: Text is sent when so many characters wait, or when it is so old (seconds).
CHUNK: Final = 16_384
LATE_SECONDS: Final = 0.02
#: The same for a line that is not complete.
LINE_SECONDS: Final = 0.1
#: The log is read in pieces of so many bytes.
LOG_CHUNK: Final = 1 << 20


class Part(Protocol):
    """Something else than text that tasks show."""

    def send_late(self) -> bool:
        """Send what has waited long enough. True: something still waits."""

    def finish(self, task_id: int) -> None:
        """The task has ended: send what it has left."""


class OutputCapture:
    """Both streams of a worker. Thread-safe.

    `owner()` is the task that the calling code belongs to; `send(owner, stream, text)` passes a chunk on; `wake()` asks
    for a call of `send_late` soon.
    """

    def __init__(
        self,
        owner: Callable[[], int],
        send: Callable[[int, int, str], None],
        wake: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._send = send
        self._wake = wake
        self._lock = threading.RLock()
        self._parts: list[str] = []
        self._size = 0
        #: The lines that are not complete, by thread.
        self._begun: dict[int, _Line] = {}
        #: Whose text waits, and of which stream.
        self._source = (0, STDOUT)
        self._last_sent = 0.0
        #: When the oldest text that waits was written.
        self._since = 0.0
        #: Whether this is a copy in a process that user code forked.
        self._forked = False
        #: What else tasks show, and the tasks that do: they have something to `finish`.
        self._others: list[Part] = []
        self.showing: set[int] = set()
        #: The log file, how much of it was passed on, and what makes text of it.
        self._log = -1
        self._log_read = 0
        self._log_text = codecs.getincrementaldecoder("utf-8")("replace")

    def install(self) -> None:
        """Replace `sys.stdout` and `sys.stderr`."""
        sys.stdout = TextStream(self, STDOUT, "<stdout>")
        sys.stderr = TextStream(self, STDERR, "<stderr>")

    def attach(self, part: Part) -> None:
        """Look after this as well."""
        self._others.append(part)

    def follow(self, fd: int, *, from_start: bool = False) -> None:
        """Pass on what is appended to this file from now on, or what is in it as well."""
        self._log = os.dup(fd)
        self._log_read = 0 if from_start else os.fstat(fd).st_size
        os.register_at_fork(after_in_child=self._on_forked)

    def _on_forked(self) -> None:
        # Another thread may have held the lock, and what waits is the parent's to send.
        self._forked = True
        self._lock = threading.RLock()
        self._parts.clear()
        self._begun.clear()

    def collect(self) -> None:
        """Take what has been appended to the log."""
        if self._log < 0 or os.fstat(self._log).st_size == self._log_read or self._forked:
            return
        with self._lock:
            if os.fstat(self._log).st_size < self._log_read:
                # It was cut.
                self._log_read = 0
            self._end_lines()
            while data := os.pread(self._log, LOG_CHUNK, self._log_read):
                self._log_read += len(data)
                self._take((self._owner(), STDOUT), self._log_text.decode(data))

    def send_late(self) -> bool:
        """Send what has waited long enough. True: something still waits."""
        self.collect()
        now = time.monotonic()
        with self._lock:
            late = [thread for thread, line in self._begun.items() if now - line.since > LINE_SECONDS]
            for thread in late:
                self._end_line(thread)
            if late or (self._parts and now - self._since > LATE_SECONDS):
                self._send_parts()
        waits = [part.send_late() for part in self._others]
        return self._has_text or any(waits)

    @property
    def waiting(self) -> bool:
        """Whether there may be something that was not sent."""
        return bool(self._has_text or self.showing)

    @property
    def _has_text(self) -> bool:
        return bool(self._parts or self._begun)

    def finish(self, task_id: int) -> None:
        """The task has ended: send all that it has shown."""
        if self._has_text:
            self.send_all()
        if task_id in self.showing:
            for part in self._others:
                part.finish(task_id)
            self.showing.discard(task_id)

    def write(self, stream: int, text: str) -> None:
        """Take text of user code."""
        if self._forked:
            os.write(stream, text.encode("utf-8", "replace"))
            return
        with self._lock:
            # What other programs wrote before comes before.
            self.collect()
            source = (self._owner(), stream)
            thread = threading.get_ident()
            line = self._begun.get(thread)
            if line is None and text.endswith("\n"):
                self._take(source, text)
                return
            if line is not None and line.source != source:
                self._end_line(thread)
                line = None
            if line is None:
                line = self._begun[thread] = _Line(source, time.monotonic())
                self._wake()
            line.parts.append(text)
            line.size += len(text)
            if text.endswith("\n") or line.size >= CHUNK:
                self._end_line(thread)

    def _end_line(self, thread: int) -> None:
        """Do not wait for the rest of a line."""
        line = self._begun.pop(thread)
        self._take(line.source, "".join(line.parts))

    def _end_lines(self) -> None:
        for thread in list(self._begun):
            self._end_line(thread)

    def _take(self, source: tuple[int, int], text: str) -> None:
        if source != self._source:
            self._send_parts()
            self._source = source
        if not self._parts:
            self._since = time.monotonic()
            self._wake()
        self._parts.append(text)
        self._size += len(text)
        if self._size >= CHUNK or ("\n" in text and time.monotonic() - self._last_sent > LATE_SECONDS):
            self._send_parts()

    def send_all(self) -> None:
        """Send what waits, with the lines that are not complete."""
        with self._lock:
            self._end_lines()
            self._send_parts()

    def _send_parts(self) -> None:
        if self._parts:
            text = "".join(self._parts)
            if not text.isascii():
                # A surrogate, as in a file name that is not UTF-8, cannot be sent.
                text = text.encode("utf-8", "replace").decode()
            self._parts.clear()
            self._size = 0
            self._last_sent = time.monotonic()
            self._send(*self._source, text)


class _Line:
    """What a thread has written since its last complete line."""

    __slots__ = ("parts", "since", "size", "source")

    def __init__(self, source: tuple[int, int], since: float) -> None:
        self.source = source
        self.since = since
        self.parts: list[str] = []
        self.size = 0


class TextStream(io.TextIOBase):
    """A text stream of user code."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, capture: OutputCapture, stream: int, name: str) -> None:
        self._capture = capture
        self._number = stream
        self.name = name
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._capture.write(self._number, text)
        return len(text)

    def flush(self) -> None:
        self._capture.send_all()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._number


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`: bytes, taken as UTF-8."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than typeshed's Buffer
        raw = bytes(data)
        self._stream.write(raw.decode("utf-8", "replace"))
        return len(raw)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True
