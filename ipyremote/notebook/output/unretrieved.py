"""Failures that the user would miss, and waiting that the user broke off. Both are one line under their cell.

A task that failed and whose result nobody asked for says so when its last ref dies, or once its cell has ended and the
failure has had a moment to be seen: a `get`, an `await` or a display of the ref asks for it. The failures of one cell
are told together. Only the driver's own submissions count, and only on engines that know (`Backend.history`).
"""

from __future__ import annotations

import bisect
import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from ipyremote.backend import Backend, History
from ipyremote.exceptions import IPyRemoteError, TaskError, tracebacks
from ipyremote.notebook.display.updater import UpdateScheduler

__all__ = ["CellSubmissions", "UnretrievedFailures", "interrupted_lines", "interruption_note"]

#: Where `get` and `wait` are.
_API: Final = f"{tracebacks.PACKAGE}api.py"
#: Seconds that a failure has to be seen by itself.
_PATIENCE: Final = 1.0
#: Seconds over which the further failures of a cell are counted.
_TOGETHER: Final = 1.0
#: Labels of further failures that are named.
_NAMED: Final = 3
#: Runs of cells whose submissions are known.
_MAX_CELLS: Final = 10_000


class CellSubmissions:
    """Which run of which cell made an id: ids only ever increase."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        #: (first id, token of the run, the cell's own id), in order.
        self._runs: deque[tuple[int, int, str]] = deque(maxlen=_MAX_CELLS)

    def begin(self, backend: Backend | None, token: int, cell_id: str = "") -> None:
        """A cell starts to run."""
        if backend is not self._backend:
            self._backend = backend
            self._runs.clear()
        if backend is not None and backend.history is not None:
            self._runs.append((backend.history.next_id, token, cell_id))

    def token(self, any_id: int) -> int:
        """The run in which this id was made; 0: nobody knows."""
        place = bisect.bisect_right(self._runs, any_id, key=lambda run: run[0])
        return self._runs[place - 1][1] if place else 0

    def unfinished_of(self, cell_id: str) -> list[int]:
        """Ids of what earlier runs of a cell have submitted and what has not ended."""
        history = None if self._backend is None else self._backend.history
        if not cell_id or history is None:
            return []
        runs = [*self._runs, (history.next_id, 0, "")]
        found: list[int] = []
        for (first, _, owner), (last, _, _) in pairwise(runs):
            if owner == cell_id and last > first:
                found += history.unfinished(first, last)
        return found


class UnretrievedFailures:
    """See the module docstring. News come on any thread and are handled by the updater's."""

    def __init__(
        self, updater: UpdateScheduler, submissions: CellSubmissions, on_notice: Callable[[int, str], None]
    ) -> None:
        self._updater = updater
        self._submissions = submissions
        self._on_notice = on_notice
        self._history: History | None = None
        #: The run that is going on; 0 between cells.
        self._running = 0
        #: What failed during the cell that made it.
        self._early: list[int] = []
        #: By cell: labels of failures that were not told yet.
        self._further: dict[int, list[str]] = {}
        self._lock = threading.Lock()

    def follow(self, backend: Backend | None) -> None:
        """Look after this backend's failures; None: nobody's."""
        if self._history is not None:
            self._history.tell(None)
        self._history = None if backend is None else backend.history
        self._early.clear()
        if self._history is not None:
            self._history.tell(lambda object_id: self._updater.call(self._on_news, object_id))

    def begin(self, token: int) -> None:
        """A cell starts to run."""
        self._running = token

    def end(self) -> None:
        """The cell has ended."""
        self._running = 0
        with self._lock:
            early, self._early = self._early, []
        for object_id in early:
            self._updater.call_later(_PATIENCE, self._look, object_id)

    def _on_news(self, object_id: int) -> None:
        history = self._history
        if history is None or not history.is_unretrieved(object_id):
            return
        if not history.has_ref(object_id):
            self._tell(object_id)
        elif self._submissions.token(object_id) == self._running:
            with self._lock:
                self._early.append(object_id)
            if not self._running:
                self.end()
        else:
            self._updater.call_later(_PATIENCE, self._look, object_id)

    def _look(self, object_id: int) -> None:
        """A failure has had its time to be seen."""
        history = self._history
        if history is not None and history.is_unretrieved(object_id):
            self._tell(object_id)

    def _tell(self, object_id: int) -> None:
        assert self._history is not None, "somebody is followed"
        error = self._history.take_unretrieved(object_id)
        if error is None:
            return
        cell = self._submissions.token(object_id)
        label, reason = _described(error)
        further = self._further.get(cell)
        if further is not None:
            further.append(label)
            return
        self._further[cell] = []
        self._on_notice(cell, f"{label} failed, and nobody has asked for its result. {reason}")
        self._updater.call_later(_TOGETHER, self._tell_further, cell)

    def _tell_further(self, cell: int) -> None:
        labels = self._further.pop(cell, [])
        if labels:
            named = ", ".join(labels[:_NAMED])
            rest = f" and {len(labels) - _NAMED:,} more" if len(labels) > _NAMED else ""
            self._on_notice(cell, f"{named}{rest} failed as well.")


def _described(error: IPyRemoteError) -> tuple[str, str]:
    """Return (label of the task, what happened)."""
    if not isinstance(error, TaskError):
        return "A task", str(error).strip().partition("\n")[0]
    line = error.traceback_text.rstrip().rpartition("\n")[2]
    place = f" ({error.frames[-1].filename}, line {error.frames[-1].lineno})" if error.frames else ""
    return error.label or "A task", f"{line}{place}"


def interrupted_lines(error: KeyboardInterrupt) -> list[str]:
    """The traceback of an interrupted `get` or `wait`: the user's frames."""
    title = f"{'KeyboardInterrupt':<42}Traceback (most recent call last)"
    return ["-" * 75, title, *tracebacks.local_lines(error.__traceback__, until=_API), "KeyboardInterrupt"]


def interruption_note(function: str, count: int) -> str:
    """Return a sentence: `function` was interrupted, and the tasks of the `count` refs go on."""
    what = "the task goes on" if count == 1 else f"the {count:,} tasks go on"
    how = "cancel(ref)" if count == 1 else "%remote_cancel with the list's name"
    return f"{function}() was interrupted; {what}. To end them all: %remote_cancel --all (or {how})."
