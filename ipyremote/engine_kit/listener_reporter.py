"""A `Reporter` that tells a `Listener` at once: for tasks of this process, and for the driver's half of any engine.

The listener is called outside of the task, whose context the calling thread may have: what a listener prints is the
program's, and no text of the task once more.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ipyremote.backend import BarState, DisplayReport, Listener, ProgressReport, TextReport

__all__ = ["ListenerReporter", "ReportingTask"]

Report = TypeVar("Report", TextReport, DisplayReport, ProgressReport)


class ReportingTask(NamedTuple):
    """A task that reports: the key by which `remote_cells` knows the task."""

    #: The notebook layer's number of the cell that asked for the task; 0 outside notebooks.
    cell: int
    #: `name#number` of the task.
    label: str
    task_id: int


class ListenerReporter:
    """Reports to the listener of the moment. Method contracts are those of `backend.reporter.Reporter`."""

    def __init__(self, listener: Callable[[], Listener]) -> None:
        """`listener` returns who is told now."""
        self._listener = listener

    def started(self, task: ReportingTask) -> None:
        """Do nothing: whoever runs the task knows."""

    def text(self, task: ReportingTask, stream: int, text: str) -> None:
        self._tell(self._listener().on_output, TextReport(task.cell, task.label, stream, text, task.task_id))

    def display(self, task: ReportingTask, content: bytes) -> None:
        report = DisplayReport(task.cell, task.label, task.task_id, json.loads(content))
        self._tell(self._listener().on_display, report)

    def progress(self, task: ReportingTask, bar: BarState) -> None:
        self._tell(self._listener().on_progress, ProgressReport(task.cell, task.label, task.task_id, bar))

    def preview(self, task: ReportingTask, look: Mapping[str, Any]) -> None:
        """Do nothing: the notebook asks for a look by a task of its own, which returns the look."""

    def finished(self, task: ReportingTask) -> None:
        """Do nothing: whoever has run the task knows."""

    @staticmethod
    def _tell(method: Callable[[Report], object], report: Report) -> None:
        contextvars.Context().run(method, report)
