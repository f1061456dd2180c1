"""A `Reporter` that records all reports, with an `OutputCapture` in front of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ipyremote.backend.reporter import STDERR, STDOUT, BarState
from ipyremote.remote_cells.output import OutputCapture, TextStream

__all__ = ["Clock", "Recorder"]


class Clock:
    """A clock in place of the module `time`, which stands still unless a test moves it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Recorder:
    """A worker's output with its two streams, and all reports in order."""

    def __init__(self) -> None:
        #: (task, stream, text), (task, content of a display) and (task, state of a bar).
        self.sent: list[Any] = []
        #: Number of calls of `wake`.
        self.wakes = 0
        #: Task that the calling code belongs to.
        self.task = 7
        self.capture = OutputCapture(self, self.owner, self.wake)
        self.out = TextStream(self.capture, STDOUT, "<stdout>")
        self.err = TextStream(self.capture, STDERR, "<stderr>")

    def owner(self) -> int:
        return self.task

    def wake(self) -> None:
        self.wakes += 1

    def taken(self) -> list[Any]:
        """Return the reports since the last call."""
        sent, self.sent[:] = self.sent[:], []
        return sent

    def started(self, task: int) -> None:
        self.sent.append((task, "started"))

    def text(self, task: int, stream: int, text: str) -> None:
        self.sent.append((task, stream, text))

    def display(self, task: int, content: bytes) -> None:
        self.sent.append((task, json.loads(content)))

    def progress(self, task: int, bar: BarState) -> None:
        self.sent.append((task, bar))

    def preview(self, task: int, look: Mapping[str, Any]) -> None:
        self.sent.append((task, look))

    def finished(self, task: int) -> None:
        self.sent.append((task, "finished"))
