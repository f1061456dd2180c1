"""What is known of the things on screen, from the updates that a backend sent. Pure state; `now` is an argument.

A model has `on_update` for what it learns, `settled` for "no update can follow", and `html` for its look. It does not
know who shows it, or when. Only the updater's thread changes a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from ipyremote.backend import StateReport
from ipyremote.notebook.display.grid import Grid
from ipyremote.notebook.display.html import (
    END_STATES,
    FAILURES_SHOWN,
    ITEMS_SHOWN,
    BoardView,
    ClusterView,
    Preview,
    RefView,
    board_html,
    cluster_html,
    ref_html,
)
from ipyremote.notebook.display.task_records import TaskRecord

__all__ = ["STATE_OF", "BoardModel", "ClusterModel", "Model", "RefModel"]

#: `messages.TaskUpdate.state` to the state that is shown.
STATE_OF: Final = {
    "waiting": "pending",
    "ready": "pending",
    "running": "running",
    "blocked": "running",
    "done": "resolved",
    "failed": "failed",
    "cancelled": "cancelled",
}


#: Seconds between two samples of how many have ended, and seconds over which they are compared.
_PACE_STEP: Final = 0.5
_PACE_SPAN: Final = 10.0


class Model(Protocol):
    """Something that can be on screen."""

    @property
    def state(self) -> str:
        """As in `data-state`."""

    @property
    def settled(self) -> bool:
        """Whether the backend has nothing more to tell of it."""

    @property
    def clickable(self) -> bool:
        """Whether something can be done with it when it has settled."""

    def on_shown(self) -> None:
        """A page shows it."""

    def on_update(self, update: StateReport, now: float) -> None:
        """A watched task changed its state."""

    def on_ended(self, reason: str) -> None:
        """The session ended: what has not settled is lost."""

    def html(self, now: float, *, timed: bool) -> str:
        """How it looks. Not `timed`: without anything that differs from run to run."""


class RefModel:
    """One ref."""

    __slots__ = ("_seconds", "_since", "_state", "detail", "error", "label", "note", "preview", "record")

    def __init__(self, label: str) -> None:
        self.label = label
        self._state = "pending"
        self._seconds = 0.0
        #: When `_seconds` was true.
        self._since = 0.0
        self.detail = ""
        self.preview: Preview | None = None
        self.error = ""
        #: What its task has said; None: nothing yet.
        self.record: TaskRecord | None = None
        #: What came of a click.
        self.note = ""

    @property
    def state(self) -> str:
        return self._state

    @property
    def settled(self) -> bool:
        return self._state in END_STATES

    @property
    def clickable(self) -> bool:
        return self._state in ("failed", "cancelled")

    def on_shown(self) -> None:
        """Its HTML is all there is."""

    def on_update(self, update: StateReport, now: float) -> None:
        if self.settled:
            return
        self._state = STATE_OF.get(update.state, "pending")
        self._seconds, self._since, self.detail = update.seconds, now, update.detail

    def on_ended(self, reason: str) -> None:
        if not self.settled:
            self._state, self.detail, self._seconds = "lost", reason, 0.0

    def on_retried(self, old: int, new: int) -> None:
        """It runs again, as another task."""
        self._state, self._seconds, self.detail = "pending", 0.0, ""
        self.preview, self.error, self.record, self.note = None, "", None, ""

    def html(self, now: float, *, timed: bool) -> str:
        return ref_html(self.view(now, timed=timed))

    def view(self, now: float, *, timed: bool) -> RefView:
        """The snapshot."""
        seconds = self._seconds
        if self._state == "running":
            seconds += now - self._since
        shown = timed and (self._state == "running" or (self.settled and seconds > 0))
        # What was printed stands below the cell already; where nothing may differ from run to run, it is left out.
        record = self.record if timed else None
        return RefView(
            self.label,
            self._state,
            seconds if shown else None,
            self.detail,
            self.preview,
            self.error,
            () if record is None else tuple(record.bars.values()),
            "" if record is None else record.text,
            0 if record is None else record.lines_left_out,
            self.note,
        )


class BoardModel:
    """A group of refs: a state for each, and the failures to list."""

    __slots__ = (
        "_counts",
        "_detail",
        "_failures",
        "_labels",
        "_paces",
        "_places",
        "_started",
        "_states",
        "_stopped",
        "grid",
        "note",
    )

    def __init__(self, labels: Mapping[int, str]) -> None:
        #: By object id. Empty for a group too large to list.
        self._labels = dict(labels) if len(labels) <= ITEMS_SHOWN else {}
        self._states = dict.fromkeys(labels, "pending")
        #: Object id to its place in the group.
        self._places = {object_id: place for place, object_id in enumerate(labels)}
        self.grid = Grid(len(labels))
        self._counts = {"pending": len(self._states)}
        #: (label, first line) by object id. At most `FAILURES_SHOWN` in a group too large to list.
        self._failures: dict[int, tuple[str, str]] = {}
        self._detail = ""
        self.note = ""
        #: When the first one was seen to run.
        self._started: float | None = None
        #: When the last one ended.
        self._stopped: float | None = None
        #: (time, how many had ended) during the last seconds.
        self._paces: deque[tuple[float, int]] = deque()

    @property
    def state(self) -> str:
        return self.view(0.0, timed=False).state

    @property
    def settled(self) -> bool:
        return not (self._counts.get("pending") or self._counts.get("running"))

    @property
    def clickable(self) -> bool:
        # Each of its refs can be opened.
        return not self._counts.get("lost")

    def on_shown(self) -> None:
        """The grid is sent by whoever shows it."""

    def state_of(self, object_id: int) -> str:
        """The state of one of them."""
        return self._states.get(object_id, "lost")

    def on_update(self, update: StateReport, now: float) -> None:
        object_id = update.object_id
        old = self._states.get(object_id)
        new = STATE_OF.get(update.state, "pending")
        if old is None or old in END_STATES:
            return
        self._move(object_id, old, new)
        if self._started is None and new != "pending":
            self._started = now - update.seconds
        if new == "failed" and (self._labels or len(self._failures) < FAILURES_SHOWN):
            self._failures[object_id] = (self._labels.get(object_id, update.label), update.detail)
        if new in END_STATES:
            self._note_pace(now)
            if self.settled:
                self._stopped = now

    def on_ended(self, reason: str) -> None:
        for object_id, state in self._states.items():
            if state not in END_STATES:
                self._move(object_id, state, "lost")
                self._detail = reason

    def on_retried(self, old: int, new: int) -> None:
        """One of them runs again, as another task."""
        place = self._places.pop(old)
        self._places[new] = place
        if self._labels:
            # In their order, which is that of the group.
            self._labels = {(new if key == old else key): label for key, label in self._labels.items()}
        self._failures.pop(old, None)
        self._states[new] = self._states.pop(old)
        self._move(new, self._states[new], "pending")
        self._stopped, self.note = None, ""
        self._paces.clear()

    def _move(self, object_id: int, old: str, new: str) -> None:
        if old == new:
            return
        self._states[object_id] = new
        self._counts[old] -= 1
        self._counts[new] = self._counts.get(new, 0) + 1
        self.grid.set(self._places[object_id], new)

    def _note_pace(self, now: float) -> None:
        paces = self._paces
        ended = len(self._states) - self._counts.get("pending", 0) - self._counts.get("running", 0)
        if not paces:
            paces.append((self._started if self._started is not None else now, 0 if ended == 1 else ended))
        if now - paces[-1][0] >= _PACE_STEP:
            paces.append((now, ended))
            while now - paces[0][0] > _PACE_SPAN:
                paces.popleft()

    def _rate(self, now: float) -> float | None:
        # Nothing has ended for so long that there is no telling.
        if len(self._paces) < 2 or now - self._paces[-1][0] > _PACE_SPAN:
            return None
        (begin, before), (_, ended) = self._paces[0], self._paces[-1]
        return (ended - before) / max(now - begin, _PACE_STEP)

    def html(self, now: float, *, timed: bool) -> str:
        return board_html(self.view(now, timed=timed))

    def view(self, now: float, *, timed: bool) -> BoardView:
        """The snapshot."""
        until = self._stopped if self._stopped is not None else now
        seconds = until - self._started if timed and self._started is not None else None
        others = [
            (label, self._states[object_id])
            for object_id, label in self._labels.items()
            if object_id not in self._failures
        ]
        failures = tuple(self._failures.values())
        rate = self._rate(now) if timed else None
        return BoardView(dict(self._counts), failures, seconds, self._detail, tuple(others), rate, self.note)


class ClusterModel:
    """The cluster that a card is about: the one that `%load_ext` starts, later those that take its place."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        #: Replaced as a whole by whoever starts the cluster.
        self.view = ClusterView("starting")

    @property
    def state(self) -> str:
        return self.view.state

    @property
    def settled(self) -> bool:
        return self.view.state != "starting"

    @property
    def clickable(self) -> bool:
        return False

    def on_shown(self) -> None:
        """Its HTML is all there is."""

    def on_update(self, update: StateReport, now: float) -> None:
        """There is no task behind it."""

    def on_ended(self, reason: str) -> None:
        if not self.settled:
            self.view = ClusterView("stopped", detail=reason)

    def html(self, now: float, *, timed: bool) -> str:
        view = self.view
        return cluster_html(view if timed else ClusterView(view.state, (), view.detail))
