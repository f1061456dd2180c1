"""Text that tasks print, shown below the cell that started them.

This is no log: text that is too much for a front end is held back, and a note says so.

- Every piece of text is published with the parent of its cell, in order, and before `on_output` returns: a `get` that
  returns later finds the text shown. Only while a cell prints very much is text collected, for up to `_COLLECT`
  seconds: Jupyter's server drops messages of a kernel that sends more than 1,000 messages or 1 MB a second. `flush`
  publishes collected text, and is called at the end of each cell.
- A line of a task begins with the task's label. Lines of a `%%remote` cell have no label: the cell itself prints them.
- A cell shows up to `_CELL_BYTES` characters or `_CELL_LINES` lines. A note counts the text that is held back
  afterwards.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ipyremote.backend import DisplayReport, TextReport
from ipyremote.notebook.display.updater import TokenBucket, UpdateScheduler
from ipyremote.notebook.output.frontend import Frontend, Parent

__all__ = ["CELL_LABEL", "CellOutput", "CellRuns"]

#: Beginning of the label of each `%%remote` cell. No Python name begins so; no function is mistaken for a cell.
CELL_LABEL: Final = "%%remote"

#: Number of runs of cells whose parents are remembered.
_MAX_CELLS: Final = 1_000
#: Text that one cell shows, in characters and in lines.
_CELL_BYTES: Final = 1_000_000
_CELL_LINES: Final = 50_000
#: Messages of one cell and stream: number that may be sent at once, and number a second after that.
_BURST: Final = 200
_RATE: Final = 10
#: Limits of collected text: time in seconds, and characters.
_COLLECT: Final = 0.1
_COLLECT_CHARACTERS: Final = 64_000
#: Time between two updates of the note about text held back, in seconds.
_NOTE_INTERVAL: Final = 1.0

_STREAMS: Final = {1: "stdout", 2: "stderr"}
#: Place where a line begins: after a newline, or after a carriage return that rewinds a line.
_LINE_START: Final = re.compile(r"(?:\n|\r(?!\n))(?=[^\r\n])")


class CellRuns:
    """Tokens for the runs of cells, and the request behind each of the latest `_MAX_CELLS` runs.

    The token of a run is the number that the notebook shows for it (7 for `In [7]`). A run without a number, and a run
    whose number was given before (after `%reset`), gets a negative token. So a token above 0 can be shown to users.
    """

    def __init__(self) -> None:
        #: The token of the latest run; 0 before the first.
        self.token = 0
        #: The highest token and the lowest one that were given.
        self._highest = self._lowest = 0
        #: Parent of the latest run.
        self.latest: Parent = {}
        self._parents: OrderedDict[int, Parent] = OrderedDict()

    def begin(self, parent: Parent, number: int = 0) -> int:
        """Return the token of a run that starts now; `number` is 0 for a run that the notebook does not number."""
        if number > self._highest:
            self.token = self._highest = number
        else:
            self._lowest -= 1
            self.token = self._lowest
        self.latest = self._parents[self.token] = parent
        if len(self._parents) > _MAX_CELLS:
            self._parents.popitem(last=False)
        return self.token

    def parent(self, token: int) -> Parent:
        """Return the parent of a run, or that of the latest run if the former is forgotten."""
        return self._parents.get(token, self.latest)


@dataclass(slots=True)
class _CellStream:
    """The text of one cell on one stream."""

    #: Label of the task whose line is unfinished; None after a complete line.
    open_line: str | None = None
    #: Text that waits for `flush`.
    collected: list[str] = field(default_factory=list)
    characters: int = 0
    budget: TokenBucket = field(default_factory=lambda: TokenBucket(_BURST, _RATE))


@dataclass(slots=True)
class _CellText:
    """The text of one cell on both streams."""

    streams: dict[int, _CellStream] = field(default_factory=lambda: {1: _CellStream(), 2: _CellStream()})
    #: Characters and lines that the cell has shown.
    size: int = 0
    lines: int = 0
    #: Characters and lines that were held back.
    held_size: int = 0
    held_lines: int = 0
    #: Time of the latest update of the note about held text; None before the first.
    noted: float | None = None
    #: Whether an update of the note is scheduled.
    note_due: bool = False


class CellOutput:
    """Publishes the text of tasks. Used by any thread."""

    def __init__(
        self,
        frontend: Frontend,
        cells: CellRuns,
        updater: UpdateScheduler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._frontend = frontend
        self._cells = cells
        self._updater = updater
        self._clock = clock
        self._shown: OrderedDict[int, _CellText] = OrderedDict()
        #: Cell and stream of all collected text, oldest text first.
        self._waiting: dict[tuple[int, int], None] = {}
        self._notices: OrderedDict[tuple[int, str], None] = OrderedDict()
        self._lock = threading.RLock()

    def on_output(self, output: TextReport) -> None:
        """Show text that a task wrote below the task's cell."""
        cell, label, stream, text, _ = output
        if not text:
            return
        with self._lock:
            shown = self._state(cell)
            state = shown.streams[2 if stream == 2 else 1]
            if shown.held_size or shown.size >= _CELL_BYTES or shown.lines >= _CELL_LINES:
                self._hold_back(cell, shown, text)
                return
            bare = not label or label.startswith(CELL_LABEL)
            text = _prefixed(text, label, "" if bare else f"({label}) ", state)
            shown.size += len(text)
            shown.lines += text.count("\n")
            state.collected.append(text)
            state.characters += len(text)
            if state.characters >= _COLLECT_CHARACTERS or state.budget.take(self._clock()):
                self._send(cell, stream, state)
            else:
                if not self._waiting:
                    self._updater.call_later(_COLLECT, self.flush)
                self._waiting[cell, stream] = None

    def on_display(self, display: DisplayReport) -> None:
        """Show what a task displays below the task's cell, after what the task printed before."""
        cell = display.cell
        with self._lock:
            for stream, state in self._state(cell).streams.items():
                self._send(cell, stream, state)
            self._frontend.content(self._cells.parent(cell), display.content)

    def on_notice(self, cell: int, text: str) -> None:
        """Show a sentence below its cell, once."""
        with self._lock:
            if (cell, text) in self._notices:
                return
            self._notices[cell, text] = None
            if len(self._notices) > _MAX_CELLS:
                self._notices.popitem(last=False)
            self.on_output(TextReport(cell, "", 2, f"ipyremote: {text}\n"))

    def flush(self) -> None:
        """Publish collected text."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            for cell, stream in waiting:
                self._send(cell, stream, self._state(cell).streams[stream])

    def _state(self, cell: int) -> _CellText:
        shown = self._shown.get(cell)
        if shown is None:
            shown = self._shown[cell] = _CellText()
            if len(self._shown) > _MAX_CELLS:
                self._shown.popitem(last=False)
        return shown

    def _send(self, cell: int, stream: int, state: _CellStream) -> None:
        if not state.collected:
            return
        text = "".join(state.collected)
        state.collected.clear()
        state.characters = 0
        self._frontend.stream(_STREAMS.get(stream, "stdout"), text, self._cells.parent(cell))

    def _hold_back(self, cell: int, shown: _CellText, text: str) -> None:
        shown.held_size += len(text)
        shown.held_lines += text.count("\n")
        if shown.note_due:
            return
        shown.note_due = True
        if shown.noted is None:
            self._note(cell)
        else:
            self._updater.call_later(_NOTE_INTERVAL, self._note, cell)

    def _note(self, cell: int) -> None:
        """Show or update the note about the text that is held back."""
        with self._lock:
            shown = self._state(cell)
            shown.note_due = False
            first = shown.noted is None
            shown.noted = self._clock()
            if first:
                for stream, state in shown.streams.items():
                    self._send(cell, stream, state)
            text = (
                f"ipyremote: this cell's tasks print too much to show. Held back so far: {shown.held_lines:,} lines, "
                f"{shown.held_size:,} characters. `%remote_log REF` shows the end of what a task has printed."
            )
            self._frontend.display_under(
                self._cells.parent(cell), {"text/plain": text}, f"ipyremote-held-{cell}", update=not first
            )


def _prefixed(text: str, label: str, prefix: str, stream: _CellStream) -> str:
    """Return the text with the prefix at each start of a line. The text continues what the stream has shown."""
    start = "\n" if stream.open_line not in (None, label) else ""
    if stream.open_line != label and text[0] not in "\r\n":
        start += prefix
    stream.open_line = None if text[-1] in "\r\n" else label
    return start + _LINE_START.sub(lambda match: match[0] + prefix, text)
