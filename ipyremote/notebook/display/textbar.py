"""A bar of text for terminals: how many of a group of refs have ended. Knows no notebook, so it serves plain programs.

[##########..........] 50/100 refs, 2 failed, 12/s, 4 s left
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

from ipyremote import refs as references
from ipyremote.notebook.display.html import seconds_text
from ipyremote.refs import ObjectRef

__all__ = ["TextBar", "bar_text", "follow"]

_WIDTH: Final = 30
_INTERVAL: Final = 0.2


def bar_text(ended: int, total: int, seconds: float) -> str:
    """The line, without its end."""
    full = _WIDTH * ended // total if total else _WIDTH
    parts = [f"{ended}/{total} ref{'' if total == 1 else 's'}"]
    if 0 < ended < total and seconds > 0:
        rate = ended / seconds
        parts += [
            f"{rate:.1f}/s" if rate < 10 else f"{rate:.0f}/s",
            f"{seconds_text((total - ended) / rate)} left",
        ]
    elif ended >= total:
        parts.append(seconds_text(seconds))
    return f"[{'#' * full}{'.' * (_WIDTH - full)}] {', '.join(parts)}"


class TextBar:
    """One line that is drawn again and again."""

    def __init__(self, refs: Sequence[ObjectRef[Any]], began: float, out: TextIO | None = None) -> None:
        self._refs = refs
        self._began = began
        self._out = out or sys.stderr
        self._lock = threading.Lock()
        self._drawn = 0
        self._cleared = False

    def draw(self, now: float) -> int:
        """Draw it; how many have ended."""
        ended = sum(1 for ref in self._refs if ref._backend is None or ref._backend.is_ready(ref._id))
        line = bar_text(ended, len(self._refs), now - self._began)
        with self._lock:
            if not self._cleared:
                self._write(f"\r{line:<{self._drawn}}")
                self._drawn = len(line)
        return ended

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            self._cleared = True
            if self._drawn:
                self._write(f"\r{'':<{self._drawn}}\r")

    def finish(self) -> None:
        """Leave the line as it is."""
        with self._lock:
            self._cleared = True
            self._write("\n")

    def _write(self, text: str) -> None:
        # A closed terminal is no reason for a program to fail.
        with suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()


def follow(refs: Sequence[ObjectRef[Any]], out: TextIO | None = None) -> None:
    """Wait until all refs have ended, with a bar meanwhile. Where there is no terminal, one line at the end."""
    stream = out or sys.stderr
    began = time.monotonic()
    bar = TextBar(refs, began, stream)
    unique = list({ref._id: ref for ref in refs}.values())
    backend = references.owner(unique[0])
    ids = references.ids_for(unique, backend)
    interactive = stream.isatty()
    try:
        while len(backend.wait(ids, len(ids), _INTERVAL)) < len(ids):
            if interactive:
                bar.draw(time.monotonic())
    finally:
        bar.draw(time.monotonic())
        bar.finish()
