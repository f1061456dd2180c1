"""Text that user code writes: `sys.stdout` and `sys.stderr` of a worker.

Complete lines are reported, collected for a few milliseconds while more text is coming; all text is reported before the
task's result. The order of stdout and stderr is kept: the waiting text of one stream is reported before text of the
other stream is taken. A line that a thread has begun waits for its end a little longer, apart from the lines of other
threads, because `print` writes a line and its end one after the other.

C code and other programs write to descriptors 1 and 2, and so to a file, the worker's log. The log is read now and then
and when a task ends, and its text is reported as text on stdout. (The owner of the log cuts a long log, so a flood of
megabytes may lose some text.) A process that user code forks writes to the log, too, because the way to the driver
belongs to the parent.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakSet

from ipyremote.backend.reporter import STDERR, STDOUT, Reporter
from ipyremote.remote_cells.changes import Changes

__all__ = ["OutputCapture", "TextStream"]

Task = TypeVar("Task", bound=Hashable)

#: Number of waiting characters from which text is reported at once.
CHUNK: Final = 16_384
#: Age from which waiting text is reported, in seconds.
LATE_SECONDS: Final = 0.02
#: Age from which an incomplete line is reported, in seconds.
LINE_SECONDS: Final = 0.1
#: Size of the pieces in which the log is read, in bytes.
LOG_CHUNK: Final = 1 << 20


class Part(Protocol):
    """A part of tasks' output besides text, such as progress bars."""

    def send_late(self) -> bool:
        """Report output that has waited long enough. Returns whether output still waits."""

    def finish(self, task: Hashable) -> None:
        """Report the remaining output of a task that has ended."""


class OutputCapture(Generic[Task]):
    """The capture of both streams of a worker. Thread-safe.

    `owner()` returns the task that the calling code belongs to. `wake()` asks for a call of `send_late` soon.
    """

    def __init__(
        self,
        reporter: Reporter[Task],
        owner: Callable[[], Task],
        wake: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        """Report text to `reporter`. With `shared`, text for which `owner()` is None goes to the former streams."""
        self._owner = owner
        self._shared = shared
        self._report = reporter.text
        self._wake = wake
        self._lock = threading.RLock()
        #: Waiting text, and its number of characters.
        self._parts: list[str] = []
        self._size = 0
        #: Incomplete lines by thread.
        self._begun: dict[int, _Line[Task]] = {}
        #: Task and stream of the waiting text; None before the first text.
        self._source: tuple[Task, int] | None = None
        #: Time of the last report, in seconds.
        self._last_sent = 0.0
        #: Time of the oldest waiting text, in seconds.
        self._since = 0.0
        #: Whether this capture is a copy in a process that user code forked.
        self._forked = False
        #: Parts of tasks' output besides text.
        self._others: list[Part] = []
        #: Tasks with output in one of the other parts, which must `finish` at the task's end.
        self.showing: set[Task] = set()
        #: Descriptor of the log file; -1 if there is none.
        self._log = -1
        #: Number of bytes of the log that were reported.
        self._log_read = 0
        self._log_text = codecs.getincrementaldecoder("utf-8")("replace")
        _captures.add(self)

    def install(self, changes: Changes) -> None:
        """Replace `sys.stdout` and `sys.stderr`."""
        changes.replace(
            sys,
            stdout=self._stream(STDOUT, "<stdout>", sys.stdout),
            stderr=self._stream(STDERR, "<stderr>", sys.stderr),
        )

    def _stream(self, number: int, name: str, former: Any) -> TextStream:
        if not self._shared:
            return TextStream(self, number, name)
        return SharedStream(self, number, name, former, lambda: self._owner() is None)

    def attach(self, part: Part) -> None:
        """Add another part of tasks' output, which is reported together with text."""
        self._others.append(part)

    def follow(self, fd: int, *, from_start: bool = False) -> None:
        """Report text that is appended to this file from now on; with `from_start`, also the text in the file now."""
        self._log = os.dup(fd)
        self._log_read = 0 if from_start else os.fstat(fd).st_size

    def unfollow(self) -> None:
        """Report the text in the log, and stop reporting the log."""
        self.collect()
        self.send_all()
        with self._lock:
            log, self._log = self._log, -1
            if log >= 0:
                os.close(log)

    def cut_log(self, limit: int) -> None:
        """Empty the log if more than `limit` bytes were reported. Text that comes at that moment is lost."""
        with self._lock:
            if self._log >= 0 and self._log_read > limit and not self._forked:
                os.ftruncate(self._log, 0)
                self._log_read = 0

    def collect(self) -> None:
        """Take text that has been appended to the log."""
        if self._log < 0 or os.fstat(self._log).st_size == self._log_read or self._forked:
            return
        with self._lock:
            if self._log < 0:  # another thread has just called `unfollow`
                return
            if os.fstat(self._log).st_size < self._log_read:
                # The log was cut.
                self._log_read = 0
            self._end_lines()
            while data := os.pread(self._log, LOG_CHUNK, self._log_read):
                self._log_read += len(data)
                self._take((self._owner(), STDOUT), self._log_text.decode(data))

    def send_late(self) -> bool:
        """Report output that has waited long enough. Returns whether output still waits."""
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
        """Whether there may be output that was not reported."""
        return bool(self._has_text or self.showing)

    @property
    def _has_text(self) -> bool:
        return bool(self._parts or self._begun)

    def finish(self, task: Task) -> None:
        """Report all output of a task that has ended."""
        if self._has_text:
            self.send_all()
        if task in self.showing:
            for part in self._others:
                part.finish(task)
            self.showing.discard(task)

    def write(self, stream: int, text: str) -> None:
        """Take text of user code."""
        if self._forked:
            os.write(stream, text.encode("utf-8", "replace"))
            return
        with self._lock:
            # Text of other programs may have come before this text.
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
        """Take the incomplete line of a thread, without waiting for the line's end."""
        line = self._begun.pop(thread)
        self._take(line.source, "".join(line.parts))

    def _end_lines(self) -> None:
        for thread in list(self._begun):
            self._end_line(thread)

    def _take(self, source: tuple[Task, int], text: str) -> None:
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
        """Report all waiting text, incomplete lines included."""
        with self._lock:
            self._end_lines()
            self._send_parts()

    def _send_parts(self) -> None:
        if self._parts and self._source is not None:
            text = "".join(self._parts)
            if not text.isascii():
                # A surrogate, as in a file name that is not UTF-8, cannot be sent.
                text = text.encode("utf-8", "replace").decode()
            self._parts.clear()
            self._size = 0
            self._last_sent = time.monotonic()
            self._report(*self._source, text)

    def _on_forked(self) -> None:
        self._forked = True
        # Another thread of the parent may have held the lock, and the waiting text is the parent's to report.
        self._lock = threading.RLock()
        self._parts.clear()
        self._begun.clear()


#: All captures of this process.
_captures: WeakSet[OutputCapture[Any]] = WeakSet()


def _on_forked() -> None:
    for capture in tuple(_captures):
        capture._on_forked()


os.register_at_fork(after_in_child=_on_forked)


class _Line(Generic[Task]):
    """The text that a thread has written since its last complete line."""

    __slots__ = ("parts", "since", "size", "source")

    def __init__(self, source: tuple[Task, int], since: float) -> None:
        self.source = source
        #: Time of the line's first character, in seconds.
        self.since = since
        self.parts: list[str] = []
        #: Number of characters.
        self.size = 0


class TextStream(io.TextIOBase):
    """A text stream of user code."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, capture: OutputCapture[Any], stream: int, name: str) -> None:
        self._capture = capture
        self._number = stream
        self.name = name
        self.buffer = _ByteStream(self)

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


class SharedStream(TextStream):
    """A text stream of user code in a process that other code shares; other code writes to the former stream."""

    def __init__(
        self,
        capture: OutputCapture[Any],
        stream: int,
        name: str,
        former: Any,
        is_outside: Callable[[], bool],
    ) -> None:
        """Send text to `capture`, or to `former` if `is_outside()`: the calling code belongs to no task."""
        super().__init__(capture, stream, name)
        self._former = former
        self._is_outside = is_outside

    def write(self, text: str) -> int:
        if self._is_outside():
            return int(self._former.write(text))
        return super().write(text)

    def flush(self) -> None:
        if self._is_outside():
            self._former.flush()
        else:
            super().flush()

    def isatty(self) -> bool:
        return self._is_outside() and bool(self._former.isatty())

    def __getattr__(self, name: str) -> Any:
        # Attributes that a kernel's stream has besides those of a plain stream.
        return getattr(self._former, name)


class _ByteStream(io.RawIOBase):
    """The `buffer` of a text stream, which decodes bytes as UTF-8."""

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
