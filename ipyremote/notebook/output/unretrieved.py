"""Notices about unretrieved failures and interrupted waits: one line below their cell.

A failure is unretrieved until a `get`, an `await` or a display of the ref asks for the result. A notice of an
unretrieved failure is shown when the task's last ref dies, or when the cell has ended and the user has had a moment to
ask. The failures of one cell are told together. Only tasks that the driver has submitted count, and only on engines
with a `Backend.history`.
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
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.updater import UpdateScheduler

__all__ = ["CellSubmissions", "UnretrievedFailures", "interrupted_lines", "interruption_note"]

#: File with `get` and `wait`.
_API: Final = f"{tracebacks.PACKAGE}api.py"
#: Time that a failure has to be retrieved before the notice is shown, in seconds.
_PATIENCE: Final = 1.0
#: Time over which further failures of a cell are collected for one notice, in seconds.
_TOGETHER: Final = 1.0
#: Number of labels in the notice about further failures.
_NAMED: Final = 3
#: Number of runs of cells whose submissions are remembered.
_MAX_CELLS: Final = 10_000


class CellSubmissions:
    """Which run of which cell has made an id. The search relies on ids that only increase."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        #: First id, number of the run and id of the cell for each run, in order.
        self._runs: deque[tuple[ObjectId, int, str]] = deque(maxlen=_MAX_CELLS)

    def begin(self, backend: Backend | None, token: int, cell_id: str = "") -> None:
        """Note that a cell starts to run."""
        if backend is not self._backend:
            self._backend = backend
            self._runs.clear()
        if backend is not None and backend.history is not None:
            self._runs.append((backend.history.next_id, token, cell_id))

    def token(self, any_id: ObjectId) -> int:
        """Return the number of the run that made this id, or 0 if it is not known."""
        place = bisect.bisect_right(self._runs, any_id, key=lambda run: run[0])
        return self._runs[place - 1][1] if place else 0

    def unfinished_of(self, cell_id: str) -> list[ObjectId]:
        """Return the ids of unfinished tasks that earlier runs of a cell have submitted."""
        history = None if self._backend is None else self._backend.history
        if not cell_id or history is None:
            return []
        runs = [*self._runs, (history.next_id, 0, "")]
        found: list[ObjectId] = []
        for (first, _, owner), (last, _, _) in pairwise(runs):
            if owner == cell_id and last > first:
                found += history.unfinished(first, last)
        return found


class UnretrievedFailures:
    """Shows the notices. News of failures come on any thread and are handled on the updater's thread."""

    def __init__(
        self, updater: UpdateScheduler, submissions: CellSubmissions, on_notice: Callable[[int, str], None]
    ) -> None:
        self._updater = updater
        self._submissions = submissions
        self._on_notice = on_notice
        self._history: History | None = None
        #: Number of the run that is going on; 0 between cells.
        self._running = 0
        #: Ids of failures that came while the cell that submitted the task was still running.
        self._early: list[int] = []
        #: Labels of failures that wait for the notice about further failures, by number of the run.
        self._further: dict[int, list[str]] = {}
        self._lock = threading.Lock()

    def follow(self, backend: Backend | None) -> None:
        """Follow the failures of this backend, or of none."""
        if self._history is not None:
            self._history.watch_unretrieved(None)
        self._history = None if backend is None else backend.history
        self._early.clear()
        if self._history is not None:
            self._history.watch_unretrieved(lambda object_id: self._updater.call(self._on_news, object_id))

    def begin(self, token: int) -> None:
        """Note that a cell starts to run."""
        self._running = token

    def end(self) -> None:
        """Note that the cell has ended: its failures have a last moment to be retrieved."""
        self._running = 0
        with self._lock:
            early, self._early = self._early, []
        for object_id in early:
            self._updater.call_later(_PATIENCE, self._tell_if_unretrieved, object_id)

    def _on_news(self, object_id: ObjectId) -> None:
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
            self._updater.call_later(_PATIENCE, self._tell_if_unretrieved, object_id)

    def _tell_if_unretrieved(self, object_id: ObjectId) -> None:
        """Tell of a failure unless it was retrieved meanwhile."""
        history = self._history
        if history is not None and history.is_unretrieved(object_id):
            self._tell(object_id)

    def _tell(self, object_id: ObjectId) -> None:
        assert self._history is not None, "a backend is followed"
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
    """Return the traceback of an interrupted `get` or `wait` with the user's frames only."""
    title = f"{'KeyboardInterrupt':<42}Traceback (most recent call last)"
    return ["-" * 75, title, *tracebacks.local_lines(error.__traceback__, until=_API), "KeyboardInterrupt"]


def interruption_note(function: str, count: int) -> str:
    """Return a sentence: `function` was interrupted, and the tasks of the `count` refs go on."""
    what = "the task goes on" if count == 1 else f"the {count:,} tasks go on"
    how = "cancel(ref)" if count == 1 else "%remote_cancel with the list's name"
    return f"{function}() was interrupted; {what}. To end them all: %remote_cancel --all (or {how})."
