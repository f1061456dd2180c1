"""The `Reporter` of our own workers: each report is a message to the scheduler, on the socket of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipyremote.backend.reporter import BarState
from ipyremote.client.channel import Channel
from ipyremote.ids import TaskId
from ipyremote.messages import Display, Output, Progress

__all__ = ["ChannelReporter"]


class ChannelReporter:
    """Reports over a session's channel. A task is known by its id; 0 stands for text that no task has written."""

    def __init__(self, channel: Channel) -> None:
        self._send = channel.send

    def started(self, task: TaskId) -> None:
        """Do nothing: the scheduler infers which task runs, and the progress page tells it after a crash."""

    def text(self, task: TaskId, stream: int, text: str) -> None:
        """Send a piece of text."""
        self._send(Output(task, stream, text))

    def display(self, task: TaskId, content: bytes) -> None:
        """Send a display."""
        self._send(Display(task, content))

    def progress(self, task: TaskId, bar: BarState) -> None:
        """Send the state of a progress bar."""
        total = -1.0 if bar.total is None else bar.total
        self._send(Progress(task, bar.number, bar.description, bar.done, total, bar.unit, bar.closed))

    def preview(self, task: TaskId, look: Mapping[str, Any]) -> None:
        """Do nothing: the notebook asks for a look by a task of its own, which returns the look."""

    def finished(self, task: TaskId) -> None:
        """Do nothing: the report of the run, which the runner sends, says that the run has ended."""
