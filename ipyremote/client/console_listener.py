"""What a plain program shows of its tasks: their text, each line after the task's label, on stdout and stderr.

Of what a task displays it shows the text; of a task's outermost progress bars how far they had come when they were
closed.

Where that cannot be written, because the stream is closed or knows fewer characters, no call of the program fails.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO

from ipyremote.messages import ProgressUpdate

__all__ = ["PlainListener"]


class PlainListener:
    """The listener of a session that nobody else listens to."""

    def __init__(self) -> None:
        #: Label and stream of the line that was begun and not ended; None: none was.
        self._open: tuple[str, int] | None = None
        #: Open progress bars by task.
        self._bars: dict[int, set[int]] = {}

    def on_output(self, cell: int, label: str, stream: int, text: str, task_id: int = 0) -> None:
        """Print text of a task. A line that arrives in pieces stays one line unless another task writes in between."""
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

    def on_display(self, cell: int, label: str, task_id: int, content: dict[str, Any]) -> None:
        """Print the text of what is displayed. What was printed stays as it is: updates are left out."""
        text = content.get("data", {}).get("text/plain") if content.get("kind") == "display_data" else None
        if isinstance(text, str) and text:
            self.on_output(cell, label, 1, f"{text}\n", task_id)

    def on_progress(
        self, task_id: int, bar: int, description: str, done: float, total: float, unit: str, closed: bool
    ) -> None:
        """Print a line about a bar that is closed."""
        self.on_bar(ProgressUpdate(0, "", task_id, bar, description, done, total, unit, closed))

    def on_bar(self, update: ProgressUpdate) -> None:
        """The same, of a task with a label."""
        bars = self._bars.setdefault(update.task_id, set())
        if not update.closed:
            bars.add(update.bar)
            return
        bars.discard(update.bar)
        if not bars:
            del self._bars[update.task_id]
        if all(bar > update.bar for bar in bars):
            amount = f"{update.done:g}/{update.total:g}" if update.total >= 0 else f"{update.done:g}"
            words = f"{update.description}: {amount}" if update.description else amount
            self.on_output(update.cell, update.label, 2, f"{words}\n", update.task_id)

    def on_update(self, object_id: int, state: str, label: str, seconds: float, detail: str) -> None:
        """Nothing is on screen here."""

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
