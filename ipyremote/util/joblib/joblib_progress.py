"""Progress of one `Parallel` call, for the notebook's display of what a cell waits for. Any thread."""

from __future__ import annotations

import threading

from ipyremote.backend import Work, current

__all__ = ["JoblibProgress"]


class JoblibProgress:
    """Counts of the calls of one `Parallel` call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"pending": 0, "running": 0, "resolved": 0, "failed": 0}
        #: The display of the progress; None: nobody looks on, or nothing was submitted yet.
        self._work: Work | None = None
        self._begun = False

    def submitted(self, name: str, count: int, total: int | None) -> None:
        """Count a batch that was submitted. `total`: calls in all batches, if that is known."""
        with self._lock:
            if not self._begun:
                self._begun = True
                waiting = current.waiting()
                self._work = None if waiting is None else waiting.work(name)
            counts = self._counts
            counts["running"] += count
            known = sum(counts.values()) - counts["pending"]
            counts["pending"] = max((total or 0) - known, 0)
            self._tell()

    def ended(self, count: int, *, failed: bool) -> None:
        """Count a batch that has ended."""
        with self._lock:
            self._counts["running"] -= count
            self._counts["failed" if failed else "resolved"] += count
            self._tell()

    def close(self) -> None:
        """End the count: the `Parallel` call has ended."""
        with self._lock:
            work, self._work = self._work, None
        if work is not None:
            work.end()

    def _tell(self) -> None:
        if self._work is not None:
            self._work.on_counts(self._counts)
