"""A board of calls that have no refs, such as those of joblib: a bar, the number of calls in each state, and the pace.

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
    """The `Model` of many calls of one function."""

    def __init__(self, name: str, began: float) -> None:
        self._name = name
        self._began = began
        #: Time when the calls ended; None before.
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
        """Do nothing: the HTML is all that a page needs."""

    def on_update(self, update: StateReport, now: float) -> None:
        """Do nothing: there is no ref behind the board."""

    def on_counts(self, counts: Mapping[str, int]) -> None:
        """Take the present number of calls in each state."""
        if not self.settled:
            self._counts = {state: count for state, count in counts.items() if count}

    def on_end(self, now: float) -> None:
        """Note the end: calls that have not ended by now never will, and count as cancelled."""
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
        # The number of calls to come is not known, so the board shows the pace instead of the time that is left.
        pace = f"{done / seconds:.1f} calls/s" if timed and seconds and done else ""
        return BoardView(
            dict(self._counts),
            seconds=seconds if timed else None,
            note=pace,
            what=(f"call of {self._name}", f"calls of {self._name}"),
        )


class CallBoard:
    """The board below the cell that waits for the calls; see `backend.Work`."""

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
        """Take the present number of calls in each state. Any thread."""
        self._updater.call(self._on_counts, dict(counts))

    def end(self) -> None:
        """Make the board final. Any thread."""
        self._updater.call(self._on_end)

    def show(self) -> None:
        """Display the board, unless the calls have ended. On the updater's thread."""
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
