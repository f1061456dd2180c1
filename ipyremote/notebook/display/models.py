"""The models of displays: the state of a ref, a board or the cluster, as far as a backend's updates have told. Pure.

`on_update` takes an update into a model, `settled` says that no further update can come, and `html` draws the model.
The time is the argument `now`. A model does not know which displays show it. Only the updater's thread changes a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from ipyremote.backend import StateReport
from ipyremote.ids import ObjectId
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

#: State on screen by the state in a `StateReport`.
STATE_OF: Final = {
    "waiting": "pending",
    "ready": "pending",
    "running": "running",
    "blocked": "running",
    "done": "resolved",
    "failed": "failed",
    "cancelled": "cancelled",
}


#: Time between two samples of the number of ended refs, and time over which samples are compared; in seconds.
_PACE_STEP: Final = 0.5
_PACE_SPAN: Final = 10.0


class Model(Protocol):
    """The state behind one display."""

    @property
    def state(self) -> str:
        """Return the state as in `data-state`."""

    @property
    def settled(self) -> bool:
        """Return whether no further update can come from the backend."""

    @property
    def clickable(self) -> bool:
        """Return whether the display still has something to click once the model has settled."""

    def on_shown(self) -> None:
        """Note that a page shows the display."""

    def on_update(self, update: StateReport, now: float) -> None:
        """Take the new state of a watched task."""

    def on_ended(self, reason: str) -> None:
        """Note that the session has ended: every ref that has not settled is lost."""

    def html(self, now: float, *, timed: bool) -> str:
        """Return the model as HTML. Without `timed`, the HTML has nothing that differs from run to run."""


class RefModel:
    """The model of one ref."""

    __slots__ = ("_seconds", "_since", "_state", "detail", "error", "label", "note", "preview", "record")

    def __init__(self, label: str) -> None:
        self.label = label
        self._state = "pending"
        self._seconds = 0.0
        #: Time of the update that told `_seconds`.
        self._since = 0.0
        self.detail = ""
        self.preview: Preview | None = None
        self.error = ""
        #: Output and progress bars of the ref's task, once there are any.
        self.record: TaskRecord | None = None
        #: Sentence about a click that could not be carried out.
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
        """Do nothing: the HTML is all that a page needs."""

    def on_update(self, update: StateReport, now: float) -> None:
        if self.settled:
            return
        self._state = STATE_OF.get(update.state, "pending")
        self._seconds, self._since, self.detail = update.seconds, now, update.detail

    def on_ended(self, reason: str) -> None:
        if not self.settled:
            self._state, self.detail, self._seconds = "lost", reason, 0.0

    def on_retried(self, old: ObjectId, new: ObjectId) -> None:
        """Start again from pending, for the new task that the ref stands for."""
        self._state, self._seconds, self.detail = "pending", 0.0, ""
        self.preview, self.error, self.record, self.note = None, "", None, ""

    def html(self, now: float, *, timed: bool) -> str:
        return ref_html(self.view(now, timed=timed))

    def view(self, now: float, *, timed: bool) -> RefView:
        """Return the snapshot to draw."""
        seconds = self._seconds
        if self._state == "running":
            seconds += now - self._since
        shown = timed and (self._state == "running" or (self.settled and seconds > 0))
        # Output is left out where nothing may differ from run to run; the output stands below the cell already.
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
    """The model of a group of refs: a state for each, and the failures to list."""

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

    def __init__(self, labels: Mapping[ObjectId, str]) -> None:
        #: Labels by object id. Empty for a group too large to list.
        self._labels = dict(labels) if len(labels) <= ITEMS_SHOWN else {}
        self._states = dict.fromkeys(labels, "pending")
        #: Places in the group by object id.
        self._places = {object_id: place for place, object_id in enumerate(labels)}
        self.grid = Grid(len(labels))
        self._counts = {"pending": len(self._states)}
        #: Label and first line of each failure, by object id. At most `FAILURES_SHOWN` in a group too large to list.
        self._failures: dict[ObjectId, tuple[str, str]] = {}
        self._detail = ""
        self.note = ""
        #: Time when the first task of the group began to run, as far as updates have told.
        self._started: float | None = None
        #: Time when the last task of the group ended.
        self._stopped: float | None = None
        #: Samples of the last seconds: time, and number of refs that had ended.
        self._paces: deque[tuple[float, int]] = deque()

    @property
    def state(self) -> str:
        return self.view(0.0, timed=False).state

    @property
    def settled(self) -> bool:
        return not (self._counts.get("pending") or self._counts.get("running"))

    @property
    def clickable(self) -> bool:
        # Each ref of the board can be opened.
        return not self._counts.get("lost")

    def on_shown(self) -> None:
        """Do nothing: the screen sends the grid to the page."""

    def state_of(self, object_id: ObjectId) -> str:
        """Return the state of one ref of the group."""
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

    def on_retried(self, old: ObjectId, new: ObjectId) -> None:
        """Set one ref back to pending: it stands for a new task with a new id."""
        place = self._places.pop(old)
        self._places[new] = place
        if self._labels:
            # Rebuilt, so that the labels keep the order of the group.
            self._labels = {(new if key == old else key): label for key, label in self._labels.items()}
        self._failures.pop(old, None)
        self._states[new] = self._states.pop(old)
        self._move(new, self._states[new], "pending")
        self._stopped, self.note = None, ""
        self._paces.clear()

    def _move(self, object_id: ObjectId, old: str, new: str) -> None:
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
        # After a long time without an end, the pace is not known.
        if len(self._paces) < 2 or now - self._paces[-1][0] > _PACE_SPAN:
            return None
        (begin, before), (_, ended) = self._paces[0], self._paces[-1]
        return (ended - before) / max(now - begin, _PACE_STEP)

    def html(self, now: float, *, timed: bool) -> str:
        return board_html(self.view(now, timed=timed))

    def view(self, now: float, *, timed: bool) -> BoardView:
        """Return the snapshot to draw."""
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
    """The model of the cluster card: of the cluster that `%load_ext` starts, later of the clusters that replace it."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        #: Snapshot to draw, replaced as a whole by the extension.
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
        """Do nothing: the HTML is all that a page needs."""

    def on_update(self, update: StateReport, now: float) -> None:
        """Do nothing: there is no task behind the card."""

    def on_ended(self, reason: str) -> None:
        if not self.settled:
            self.view = ClusterView("stopped", detail=reason)

    def html(self, now: float, *, timed: bool) -> str:
        view = self.view
        return cluster_html(view if timed else ClusterView(view.state, (), view.detail))
