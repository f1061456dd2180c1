"""What tasks have said of themselves: the end of their text, and their progress bars. Bounded, for any thread.

A record is made with a task's first word, so a ref that is displayed later shows what was said before. It is not a log:
of each task the last `_TEXT` characters are kept, and of all tasks the `_TASKS` that spoke last.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from ipyremote.notebook.display.html import Bar

__all__ = ["TaskRecord", "TaskRecords"]

_TEXT: Final = 16_000
_TASKS: Final = 500
_BARS: Final = 12


class TaskRecord:
    """What one task has said. Written under the lock of `Records`; a reader takes whole values."""

    __slots__ = ("bars", "lines_left_out", "text")

    def __init__(self) -> None:
        self.text = ""
        #: Lines that are not in `text` any more.
        self.lines_left_out = 0
        #: By number; smaller numbers enclose larger ones.
        self.bars: dict[int, Bar] = {}

    def write(self, text: str) -> None:
        """The task printed this."""
        whole = self.text + text
        if len(whole) > 2 * _TEXT:
            cut = whole.find("\n", len(whole) - _TEXT) + 1 or len(whole) - _TEXT
            self.lines_left_out += whole.count("\n", 0, cut)
            whole = whole[cut:]
        self.text = whole

    def set_bar(self, number: int, bar: Bar) -> None:
        """State of a bar. Of the closed ones the last outermost stays, so that an end is seen to have been reached."""
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

    def get(self, backend: object, task_id: int) -> TaskRecord | None:
        """The record of a task that has said something."""
        return self._of_task.get((id(backend), task_id))

    def write(self, backend: object, task_id: int, text: str) -> None:
        """A task printed."""
        with self._lock:
            self._record(backend, task_id).write(text)

    def set_bar(self, backend: object, task_id: int, number: int, bar: Bar) -> None:
        """A task's bar moved."""
        with self._lock:
            self._record(backend, task_id).set_bar(number, bar)

    def forget(self, backend: object) -> None:
        """A session ended; its address may stand for another one soon."""
        with self._lock:
            for key in [key for key in self._of_task if key[0] == id(backend)]:
                del self._of_task[key]

    def _record(self, backend: object, task_id: int) -> TaskRecord:
        key = (id(backend), task_id)
        record = self._of_task.get(key)
        if record is None:
            record = self._of_task[key] = TaskRecord()
            if len(self._of_task) > _TASKS:
                self._of_task.popitem(last=False)
        else:
            self._of_task.move_to_end(key)
        return record
