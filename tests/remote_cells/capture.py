"""An `OutputCapture` that writes down what it sends, for tests of what else a worker shows."""

from __future__ import annotations

from typing import Any

from ipyremote.remote_cells.output import STDERR, STDOUT, OutputCapture, TextStream

__all__ = ["Clock", "Recorder"]


class Clock:
    """Stands still unless it is moved; takes the place of the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Recorder:
    """A worker's output with its two streams, and all that it has sent, in order."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.wakes = 0
        self.task = 7
        self.capture = OutputCapture(self.owner, lambda *chunk: self.sent.append(chunk), self.wake)
        self.out = TextStream(self.capture, STDOUT, "<stdout>")
        self.err = TextStream(self.capture, STDERR, "<stderr>")

    def owner(self) -> int:
        return self.task

    def wake(self) -> None:
        self.wakes += 1

    def taken(self) -> list[Any]:
        """What was sent since the last call."""
        sent, self.sent[:] = self.sent[:], []
        return sent
