"""The title of a worker's process: what the worker runs, or that it is idle.

The io thread looks now and then, and the thread that runs tasks pays nothing: a look compares clocks, and a new title
is set at most every `SECONDS`. A task that is shorter than that may never be seen in a title.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ipyremote.process_title import set_title
from ipyremote.worker.host import Assignment, Host

__all__ = ["WorkerTitle"]

#: Time between two looks at what runs, at least, in seconds.
SECONDS: Final = 0.05


class WorkerTitle:
    """The title of this process, kept up to date by whoever calls `update` now and then."""

    def __init__(
        self,
        host: Host,
        show: Callable[[str], object] = set_title,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._show = show
        self._clock = clock
        #: Label of the creation of the actor that this worker has become; empty in other workers.
        self._actor = ""
        self._shown = self._text()
        self._next_look = 0.0
        show(self._shown)

    def become_actor(self, label: str) -> None:
        """Name the actor while none of its methods runs."""
        self._actor = label

    def update(self) -> None:
        """Look at what runs, and change the title if it is another one. Called by one thread only."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS
        text = self._text()
        if text != self._shown:
            self._shown = text
            self._show(text)

    def _text(self) -> str:
        runs = self._host.running
        if not runs:
            return f"idle ({self._actor})" if self._actor else "idle"
        others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        return _name(runs[0]) + others


def _name(run: Assignment) -> str:
    """The label of a run and the number of the cell that asked for it, if the notebook has numbered that cell."""
    spec = run.message.spec
    return f"{spec.label} (cell {spec.cell})" if spec.cell > 0 else spec.label
