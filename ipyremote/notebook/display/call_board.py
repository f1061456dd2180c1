"""A board of calls that have no refs of their own, such as those of joblib: a bar, counts, and how fast they end.

`WorkModel` is pure state; `ShownWork` is told on any thread and hands over to the updater's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipyremote.backend import StateReport, current
from ipyremote.notebook.display.displays import ScreenDisplay
from ipyremote.notebook.display.html import BoardView, board_html
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.notebook.output.frontend import Parent

__all__ = ["CallBoard", "CallBoardModel"]


class CallBoardModel:
    """A `Model` of so many calls of one function."""

    def __init__(self, name: str, began: float) -> None:
        self._name = name
        self._began = began
        #: When it ended; None: it has not.
        self._ended: float | None = None
        self._counts: dict[str, int] = {}

    @property
    def state(self) -> str:
        return self._view(0.0, timed=False).state

    @property
    def settled(self) -> bool:
        return self._ended is not None

    @property
    def clickable(self) -> bool:
        return False

    def on_shown(self) -> None:
        """Its HTML is all there is."""

    def on_update(self, update: StateReport, now: float) -> None:
        """There is no ref behind it."""

    def on_counts(self, counts: Mapping[str, int]) -> None:
        """How many are in which state by now."""
        if not self.settled:
            self._counts = {state: count for state, count in counts.items() if count}

    def on_end(self, now: float) -> None:
        """What has not ended by now never will."""
        if self.settled:
            return
        counts = self._counts
        lost = counts.pop("pending", 0) + counts.pop("running", 0)
        if lost:
            counts["cancelled"] = counts.get("cancelled", 0) + lost
        self._ended = now

    def on_ended(self, reason: str) -> None:
        self.on_end(self._began)

    def html(self, now: float, *, timed: bool) -> str:
        return board_html(self._view(now, timed=timed))

    def _view(self, now: float, *, timed: bool) -> BoardView:
        seconds = max((now if self._ended is None else self._ended) - self._began, 0.0)
        done = self._counts.get("resolved", 0)
        # How many there will be is not known, so there is no time left to tell; the pace is.
        pace = f"{done / seconds:.1f} calls/s" if timed and seconds and done else ""
        return BoardView(
            dict(self._counts),
            seconds=seconds if timed else None,
            note=pace,
            what=(f"call of {self._name}", f"calls of {self._name}"),
        )


class CallBoard:
    """See `backend.Work`."""

    def __init__(
        self, name: str, screen: Screen, updater: UpdateScheduler, parent: Parent, clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._screen = screen
        self._updater = updater
        self._parent = parent
        self._clock = clock
        self._model = CallBoardModel(name, clock())
        self._display: ScreenDisplay | None = None

    def on_counts(self, counts: Mapping[str, int]) -> None:
        """How many are in which state by now. Any thread."""
        self._updater.call(self._on_counts, dict(counts))

    def end(self) -> None:
        """Nothing changes any more. Any thread."""
        self._updater.call(self._on_end)

    def show(self) -> None:
        """It has taken long enough to be worth a look. On the updater's thread, as the rest."""
        if not self._model.settled:
            plain = f"calls of {self._name}"
            self._display = self._screen.show_under(self._model, plain, current.peek(), self._parent)

    def _on_counts(self, counts: Mapping[str, int]) -> None:
        self._model.on_counts(counts)
        if self._display is not None:
            self._screen.touch(self._display)

    def _on_end(self) -> None:
        self._model.on_end(self._clock())
        if self._display is not None:
            self._screen.touch(self._display, final=True)
