"""The end of each task's output, and the task's progress bars. Bounded, for any thread.

A record is made with a task's first output, so a ref that is displayed later shows earlier output. A record is no log:
it has the last `_TEXT` characters of a task, and only the `_TASKS` tasks with the latest output have records.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from ipyremote.ids import TaskId
from ipyremote.notebook.display.html import Bar

__all__ = ["TaskRecord", "TaskRecords"]

_TEXT: Final = 16_000
_TASKS: Final = 500
_BARS: Final = 12


class TaskRecord:
    """The record of one task. Written under the lock of `TaskRecords`; readers without the lock take whole values."""

    __slots__ = ("bars", "lines_left_out", "text")

    def __init__(self) -> None:
        self.text = ""
        #: Number of earlier lines that are no longer in `text`.
        self.lines_left_out = 0
        #: Progress bars by number. A bar encloses the bars with larger numbers.
        self.bars: dict[int, Bar] = {}

    def write(self, text: str) -> None:
        """Add output of the task."""
        whole = self.text + text
        if len(whole) > 2 * _TEXT:
            cut = whole.find("\n", len(whole) - _TEXT) + 1 or len(whole) - _TEXT
            self.lines_left_out += whole.count("\n", 0, cut)
            whole = whole[cut:]
        self.text = whole

    def set_bar(self, number: int, bar: Bar) -> None:
        """Take the state of a bar. Of the closed bars, the last outermost one stays, so that users see its end."""
        bars = dict(self.bars)
        bars[number] = bar
        if bar.closed and any(other < number and not bars[other].closed for other in bars):
            del bars[number]
        elif not bar.closed:
            for other in [other for other, old in bars.items() if old.closed and other != number]:
                del bars[other]
        while len(bars) > _BARS:
            del bars[min(bars)]
        self.bars = dict(sorted(bars.items()))


class TaskRecords:
    """The records of all tasks, by session and task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_task: OrderedDict[tuple[int, int], TaskRecord] = OrderedDict()

    def get(self, backend: object, task_id: TaskId) -> TaskRecord | None:
        """Return the record of a task, or None before the task's first output."""
        return self._of_task.get((id(backend), task_id))

    def write(self, backend: object, task_id: TaskId, text: str) -> None:
        """Add output of a task."""
        with self._lock:
            self._record(backend, task_id).write(text)

    def set_bar(self, backend: object, task_id: TaskId, number: int, bar: Bar) -> None:
        """Take the state of a task's bar."""
        with self._lock:
            self._record(backend, task_id).set_bar(number, bar)

    def forget(self, backend: object) -> None:
        """Drop the records of a session that has ended: its `id` may soon be that of another session."""
        with self._lock:
            for key in [key for key in self._of_task if key[0] == id(backend)]:
                del self._of_task[key]

    def _record(self, backend: object, task_id: TaskId) -> TaskRecord:
        key = (id(backend), task_id)
        record = self._of_task.get(key)
        if record is None:
            record = self._of_task[key] = TaskRecord()
            if len(self._of_task) > _TASKS:
                self._of_task.popitem(last=False)
        else:
            self._of_task.move_to_end(key)
        return record
