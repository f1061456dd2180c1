"""All that tasks have printed, for `%remote_log`: what is shown below a cell may be cut, this is longer.

Bounded: of each task the end, `_TASK` characters, and `_ALL` in all; whoever spoke longest ago is forgotten first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

__all__ = ["TaskLogs"]

_TASK: Final = 1_000_000
_ALL: Final = 100_000_000


class _TaskLog:
    """Text of one task."""

    __slots__ = ("dropped", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        #: Characters that are not there any more.
        self.dropped = 0

    def write(self, text: str) -> int:
        """Returns by how much the log has grown."""
        before = self.size
        self.parts.append(text)
        self.size += len(text)
        # Cut when it is twice too long, so that cutting costs little for each character.
        if self.size > 2 * _TASK:
            self.cut()
        return self.size - before

    def cut(self) -> None:
        """Keep the end, from the beginning of a line if there is one."""
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
    """The logs of the tasks of one session. Any thread."""

    def __init__(self) -> None:
        self._logs: OrderedDict[int, _TaskLog] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def write(self, task_id: int, text: str) -> None:
        """A task printed this."""
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
        """The text of the first of these that has printed; None: none has, or it was forgotten."""
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
        """Forget everything: another session's ids may be the same."""
        with self._lock:
            self._logs.clear()
            self._size = 0
