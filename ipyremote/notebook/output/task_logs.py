"""The output of tasks for `%remote_log`, which is longer than the part that is shown below a cell.

Of each task, the last `_TASK` characters are kept, and `_ALL` characters of all tasks together. The task whose latest
output is oldest is forgotten first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ipyremote.ids import TaskId

__all__ = ["TaskLogs"]

#: Limits of the text, in characters: of one task, and of all tasks.
_TASK: Final = 1_000_000
_ALL: Final = 100_000_000


class _TaskLog:
    """The text of one task."""

    __slots__ = ("dropped", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        #: Number of characters that were dropped.
        self.dropped = 0

    def write(self, text: str) -> int:
        """Add text. Returns the growth of the log in characters, which is negative after a cut."""
        before = self.size
        self.parts.append(text)
        self.size += len(text)
        # The text is cut only when it is twice too long, so that cutting costs little for each character.
        if self.size > 2 * _TASK:
            self.cut()
        return self.size - before

    def cut(self) -> None:
        """Keep the end of the text, from the beginning of a line if possible."""
        whole = "".join(self.parts)
        start = len(whole) - _TASK
        if start <= 0:
            return
        line = whole.find("\n", start) + 1
        kept = whole[line or start :] or whole[start:]
        self.dropped += len(whole) - len(kept)
        self.parts = [kept]
        self.size = len(kept)


class TaskLogs:
    """The logs of the tasks of one session. Used by any thread."""

    def __init__(self) -> None:
        self._logs: OrderedDict[int, _TaskLog] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def write(self, task_id: TaskId, text: str) -> None:
        """Add output of a task."""
        if not task_id:
            return
        with self._lock:
            log = self._logs.get(task_id)
            if log is None:
                log = self._logs[task_id] = _TaskLog()
            self._logs.move_to_end(task_id)
            self._size += log.write(text)
            while self._size > _ALL and len(self._logs) > 1:
                _, old = self._logs.popitem(last=False)
                self._size -= old.size

    def read(self, task_ids: Sequence[int]) -> str | None:
        """Return the text of the first of these tasks that has a log, or None if no task has one."""
        with self._lock:
            for task_id in task_ids:
                log = self._logs.get(task_id)
                if log is not None:
                    before = log.size
                    log.cut()
                    self._size += log.size - before
                    text = "".join(log.parts)
                    return f"… {log.dropped:,} characters left out …\n{text}" if log.dropped else text
        return None

    def clear(self) -> None:
        """Forget everything: tasks of another session may have the same ids."""
        with self._lock:
            self._logs.clear()
            self._size = 0
