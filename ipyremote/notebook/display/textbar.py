"""A tqdm bar for terminals: how many of a group of refs have ended. Plain programs, without a notebook, have it too.

Example: ` 50%|###############               | 50/100 refs [00:04<00:04, 12.00/s]`
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

from tqdm.std import tqdm

from ipyremote import refs as references
from ipyremote.refs import ObjectRef

__all__ = ["TextBar", "bar_text", "follow"]

#: Seconds between two drawings.
_INTERVAL: Final = 0.2
#: The bar as tqdm fills it in; `%s` is "ref" or "refs".
_FORMAT: Final = (
    "{percentage:3.0f}%%|{bar:30}| {n_fmt}/{total_fmt} %s [{elapsed}<{remaining}, {rate_noinv_fmt}]"
)


def bar_text(ended: int, total: int, seconds: float) -> str:
    """Return the line of a bar: `ended` of `total` refs, after this number of seconds. The line has no newline."""
    text: str = tqdm.format_meter(ended, total, seconds, unit="", ascii=True, bar_format=_format(total))
    return text


def _format(total: int) -> str:
    return _FORMAT % ("ref" if total == 1 else "refs")


class _TerminalBar(tqdm):  # type: ignore[misc]  # tqdm has no hints
    """A bar without tqdm's own thread, which would draw slow bars again."""

    monitor_interval = 0


class TextBar:
    """One line of a terminal, drawn again and again. Another thread than the one that draws may end the bar."""

    def __init__(self, refs: Sequence[ObjectRef[Any]], seconds: float, out: TextIO | None = None) -> None:
        """Draw a bar for these refs, which have been waited for since `seconds` ago."""
        self._refs = refs
        #: Held while tqdm writes: tqdm's own lock would stay locked after an interrupt in `refresh`.
        self._lock = threading.Lock()
        # tqdm hides a bar in a terminal that does not tell its size.
        size = shutil.get_terminal_size()
        self._bar = _TerminalBar(
            total=len(refs),
            file=out or sys.stderr,
            unit="",
            bar_format=_format(len(refs)),
            smoothing=0,
            mininterval=0,
            ncols=size.columns,
            nrows=size.lines,
            disable=False,
        )
        self._bar.start_t -= seconds
        self.draw()

    def draw(self) -> None:
        """Draw the bar as it is now."""
        ended = sum(1 for ref in self._refs if ref._backend is None or ref._backend.is_ready(ref._id))
        # A closed terminal is no reason for a program to fail.
        with self._lock, suppress(OSError, ValueError):
            self._bar.n = ended
            self._bar.refresh(nolock=True)

    def end(self, *, leave: bool) -> None:
        """Leave the line as it is, or take the line away. The bar is not drawn again."""
        with self._lock, suppress(OSError, ValueError):
            self._bar.leave = leave
            self._bar.close()


def follow(refs: Sequence[ObjectRef[Any]], out: TextIO | None = None) -> None:
    """Wait until all refs have ended, with a bar meanwhile. Where there is no terminal, print one line at the end."""
    stream = out or sys.stderr
    began = time.monotonic()
    unique = list({ref._id: ref for ref in refs}.values())
    backend = references.owner(unique[0])
    ids = references.ids_for(unique, backend)
    bar = TextBar(unique, 0.0, stream) if stream.isatty() else None
    ended = 0
    try:
        while (ended := len(backend.wait(ids, len(ids), _INTERVAL))) < len(ids):
            if bar is not None:
                bar.draw()
    finally:
        if bar is not None:
            bar.draw()
            bar.end(leave=True)
        else:
            with suppress(OSError, ValueError):
                print(bar_text(ended, len(ids), time.monotonic() - began), file=stream, flush=True)
