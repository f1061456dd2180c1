"""What a plain program shows of its tasks: their text, each line after the task's label, on stdout and stderr.

Of what a task displays it shows the text; of a task's outermost progress bars how far they had come when they were
closed.

Where that cannot be written, because the stream is closed or knows fewer characters, no call of the program fails.
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
        #: Label and stream of the line that was begun and not ended; None: none was.
        self._open: tuple[str, int] | None = None
        #: Open progress bars by task.
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
        """Print the text of what is displayed. What was printed stays as it is: updates are left out."""
        content = display.content
        text = content.get("data", {}).get("text/plain") if content.get("kind") == "display_data" else None
        if isinstance(text, str) and text:
            self._print(display.label, 1, f"{text}\n")

    def on_progress(self, progress: ProgressReport) -> None:
        """Print a line about a bar that is closed, unless the bar is inside of another one."""
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
        """Show nothing: no display of a task is on screen here."""

    def on_notice(self, cell: int, text: str) -> None:
        """Print a sentence for the user."""
        print(f"ipyremote: {text}", file=sys.stderr)

    def flush(self) -> None:
        """Nothing is held back."""

    def on_lost(self, reason: str) -> None:
        """Whoever waits gets an exception that says it."""


def _write(out: TextIO | None, text: str) -> None:
    # None: the program was started without this stream.
    if out is None:
        return
    # It was closed, or its reader is gone, which the program learns from its own prints.
    with contextlib.suppress(OSError, ValueError):
        try:
            out.write(text)
        except UnicodeEncodeError:
            out.write(text.encode(out.encoding, "backslashreplace").decode(out.encoding))
        out.flush()
