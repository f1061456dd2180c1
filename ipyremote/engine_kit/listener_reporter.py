"""A `Reporter` that calls a `Listener` at once: for tasks of this process, and for the driver's half of any engine.

The listener is called in an empty context, because the calling thread may have the context of the task: text that a
listener prints must not be captured as text of the task again.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ipyremote.backend import BarState, DisplayReport, Listener, ProgressReport, TextReport
from ipyremote.ids import TaskId

__all__ = ["ListenerReporter", "ReportingTask"]

Report = TypeVar("Report", TextReport, DisplayReport, ProgressReport)


class ReportingTask(NamedTuple):
    """The key by which `remote_cells` knows a task that reports."""

    #: The notebook layer's number of the cell that asked for the task; 0 outside notebooks.
    cell: int
    #: `name#number` of the task.
    label: str
    task_id: TaskId


class ListenerReporter:
    """Reports to the current listener. Method contracts are those of `backend.reporter.Reporter`."""

    def __init__(self, listener: Callable[[], Listener]) -> None:
        """Report to the listener that the function `listener` returns at each report."""
        self._listener = listener

    def started(self, task: ReportingTask) -> None:
        """Do nothing: the engine runs the task in this process and knows its start."""

    def text(self, task: ReportingTask, stream: int, text: str) -> None:
        self._tell(self._listener().on_output, TextReport(task.cell, task.label, stream, text, task.task_id))

    def display(self, task: ReportingTask, content: bytes) -> None:
        report = DisplayReport(task.cell, task.label, task.task_id, json.loads(content))
        self._tell(self._listener().on_display, report)

    def progress(self, task: ReportingTask, bar: BarState) -> None:
        self._tell(self._listener().on_progress, ProgressReport(task.cell, task.label, task.task_id, bar))

    def preview(self, task: ReportingTask, look: Mapping[str, Any]) -> None:
        """Do nothing: the notebook requests a preview by a task that returns the preview."""

    def finished(self, task: ReportingTask) -> None:
        """Do nothing: the engine has run the task in this process and knows its end."""

    @staticmethod
    def _tell(method: Callable[[Report], object], report: Report) -> None:
        contextvars.Context().run(method, report)
