"""Displays of the refs that a `get` waits for: below the cell, after a second, unless the refs are on screen anyway.

Every `get` that has to wait calls `begin` and `end` (see `backend.set_waiting`), so both only take notes. While a cell
runs, the updater looks at the notes a few times a second. In a terminal there is a bar of text instead.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ipyremote.notebook.display.call_board import CallBoard
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.notebook.output.frontend import Parent
from ipyremote.notebook.output.unretrieved import interrupted_lines, interruption_note
from ipyremote.refs import ObjectRef

if TYPE_CHECKING:
    from ipyremote.notebook.display.textbar import TextBar

__all__ = ["WaitingDisplays"]

#: Time that a `get` waits before its refs are shown, in seconds.
_PATIENCE: Final = 1.0
#: Time between two looks at the notes, in seconds.
_CHECK: Final = 0.25


@dataclass(slots=True, eq=False)
class _WaitingGet:
    """One `get` that has not returned."""

    refs: Sequence[ObjectRef[Any]]
    began: float
    parent: Parent = field(default_factory=dict)
    #: Function to call at the end of the wait; None while nothing is shown.
    end: Callable[[], None] | None = None
    #: Whether the updater has decided what to show.
    seen: bool = False
    #: Whether the `get` waits no longer.
    over: bool = False
    bar: TextBar | None = None


class WaitingDisplays:
    """See the module docstring. `begin` and `end` on any thread, the rest on the user's or the updater's."""

    def __init__(
        self,
        screen: Screen,
        updater: UpdateScheduler,
        parent: Callable[[], Parent],
        shows: Callable[[], bool],
        *,
        rich: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._updater = updater
        self._parent = parent
        #: Returns whether anything is shown at all.
        self._shows = shows
        self._rich = rich
        self._clock = clock
        self._open: dict[_WaitingGet, None] = {}
        #: Number of the running cell; 0 between cells.
        self._cell = 0
        #: Latest interrupt of a `get` or `wait` in the running cell, and the sentence about its tasks.
        self._interruption: tuple[KeyboardInterrupt, str] | None = None

    def begin(self, refs: Sequence[ObjectRef[Any]]) -> _WaitingGet:
        """Note that a `get` starts to wait."""
        wait = _WaitingGet(refs, self._clock(), self._parent())
        self._open[wait] = None
        return wait

    def end(self, wait: _WaitingGet) -> None:
        """Note that a `get` waits no longer, and end its display."""
        wait.over = True
        self._open.pop(wait, None)
        if wait.bar is not None:
            wait.bar.end(leave=False)
        if wait.end is not None:
            wait.end()

    def interrupted(self, error: KeyboardInterrupt, function: str, refs: Sequence[ObjectRef[Any]]) -> None:
        """Have IPython show the user's frames only, and note the sentence about the tasks for the end of the cell."""
        self._interruption = error, interruption_note(function, len(refs))
        error._render_traceback_ = functools.partial(interrupted_lines, error)  # type: ignore[attr-defined]  # it looks there

    def work(self, name: str) -> CallBoard:
        """Return the board of the calls of a function that the running cell waits for. Any thread."""
        work = CallBoard(name, self._screen, self._updater, self._parent(), self._clock)
        if self._rich and self._shows():
            self._updater.call_later(_PATIENCE, work.show)
        return work

    def cell_began(self, number: int) -> None:
        """Note that a cell runs now."""
        self._cell = number
        self._updater.call_later(_PATIENCE, self._check, number)

    def cell_ended(self, error: BaseException | None = None) -> str:
        """Note that the cell has ended with this error, if any.

        Returns a sentence about the tasks that go on when the error is the interrupt of a `get` or `wait`, else "".
        """
        self._cell = 0
        interruption, self._interruption = self._interruption, None
        return interruption[1] if interruption is not None and interruption[0] is error else ""

    def _check(self, number: int) -> None:
        if number != self._cell or not self._shows():
            return
        now = self._clock()
        for wait in tuple(self._open):
            if now - wait.began >= _PATIENCE and not wait.seen:
                wait.seen = True
                self._show(wait)
            elif wait.bar is not None and not wait.over:
                wait.bar.draw()
        self._updater.call_later(_CHECK, self._check, number)

    def _show(self, wait: _WaitingGet) -> None:
        if self._screen.shows(wait.refs):
            return
        if self._rich:
            wait.end = self._screen.show_waiting(wait.refs, wait.parent)
            if wait.over:
                wait.end()
        elif sys.stderr.isatty():
            # Imported here, because a notebook needs no bar of text.
            from ipyremote.notebook.display.textbar import TextBar

            wait.bar = TextBar(wait.refs, self._clock() - wait.began)
