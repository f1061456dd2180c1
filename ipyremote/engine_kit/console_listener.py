"""The listener of a plain program: prints the text of tasks on stdout and stderr, each line after the task's label.

A display of a task is printed as text. A progress bar of a task, unless it is inside another bar, is printed as one
line when the bar is closed.

A stream that is closed, or that cannot encode a character, lets no call of the program fail.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from ipyremote.backend import DisplayReport, ProgressReport, StateReport, TextReport

__all__ = ["PlainListener"]


class PlainListener:
    """The listener of a session that nobody else listens to."""

    def __init__(self) -> None:
        #: Label and stream of the unfinished line; None if every line has ended.
        self._open: tuple[str, int] | None = None
        #: Numbers of the open progress bars, by task id.
        self._bars: dict[int, set[int]] = {}

    def on_output(self, output: TextReport) -> None:
        """Print text of a task. A line that arrives in pieces stays one line unless another task writes in between."""
        self._print(output.label, output.stream, output.text)

    def _print(self, label: str, stream: int, text: str) -> None:
        out = sys.stderr if stream == 2 else sys.stdout
        prefix = f"({label}) " if label else ""
        source = (label, stream)
        parts: list[str] = []
        if self._open is not None and self._open != source:
            parts.append("\n")
            self._open = None
        for line in text.splitlines(keepends=True):
            parts.append(line if self._open is not None else prefix + line)
            self._open = None if line.endswith("\n") else source
        _write(out, "".join(parts))

    def on_display(self, display: DisplayReport) -> None:
        """Print the text of a display. Printed text stays as it is, so updates of a display are left out."""
        content = display.content
        text = content.get("data", {}).get("text/plain") if content.get("kind") == "display_data" else None
        if isinstance(text, str) and text:
            self._print(display.label, 1, f"{text}\n")

    def on_progress(self, progress: ProgressReport) -> None:
        """Print a line about a bar that was closed, unless the bar is inside another bar."""
        bar = progress.bar
        bars = self._bars.setdefault(progress.task_id, set())
        if not bar.closed:
            bars.add(bar.number)
            return
        bars.discard(bar.number)
        if not bars:
            del self._bars[progress.task_id]
        if all(number > bar.number for number in bars):
            amount = f"{bar.done:g}" if bar.total is None else f"{bar.done:g}/{bar.total:g}"
            words = f"{bar.description}: {amount}" if bar.description else amount
            self._print(progress.label, 2, f"{words}\n")

    def on_update(self, update: StateReport) -> None:
        """Show nothing: a plain program has no display of its tasks' states."""

    def on_notice(self, cell: int, text: str) -> None:
        """Print a sentence for the user."""
        print(f"ipyremote: {text}", file=sys.stderr)

    def flush(self) -> None:
        """Do nothing: everything is printed at once."""

    def on_lost(self, reason: str) -> None:
        """Do nothing: the calls that wait for the session raise an exception with the reason."""


def _write(out: TextIO | None, text: str) -> None:
    # The program was started without this stream.
    if out is None:
        return
    # A closed stream, or one whose reader is gone, is an error of the program's own prints only.
    with contextlib.suppress(OSError, ValueError):
        try:
            out.write(text)
        except UnicodeEncodeError:
            out.write(text.encode(out.encoding, "backslashreplace").decode(out.encoding))
        out.flush()
