"""The thread that moves this client's share of the store to disk, and removes what lies there.

It exists only while it has something to do, plus a moment. Moving takes as long as the disk needs, so nobody who holds
the channel's lock does it, and neither does the thread that asked for room: an interrupt of that one cannot leave the
scheduler without an answer. It answers every order, whatever happens; what it could not move is reported as failed.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from ipyremote.messages import Spill, Spilled
from ipyremote.store.spill import DiskFull, SpillStore

__all__ = ["Spiller"]

#: How long the thread waits for more to do, in seconds.
IDLE_SECONDS: Final = 0.5


class Spiller:
    """See the module docstring."""

    def __init__(self, disk: SpillStore, report: Callable[[Spilled], None]) -> None:
        """`report` is called without any lock."""
        self._disk = disk
        self._report = report
        self._orders: deque[Spill | tuple[str, ...]] = deque()
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._working = False
        #: Number of `Spill` orders that were answered, and how many segments were moved for them.
        self.rounds = 0
        self.moved = 0

    def take(self, order: Spill | tuple[str, ...]) -> None:
        """Move segments to disk, or remove those of these names from it, soon. Harmless when repeated."""
        with self._news:
            if self._closed:
                return
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ipyremote-spill", daemon=True)
                self._thread.start()
            self._news.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether something is being moved or waits for it."""
        return self._working or bool(self._orders)

    def wait(self, rounds: int, seconds: float) -> None:
        """Wait until more than so many rounds are over, at most so long."""
        with self._news:
            self._news.wait_for(lambda: self.rounds > rounds or self._closed, seconds)

    def close(self) -> None:
        """Finish the segment that is being copied, and end the thread. Idempotent."""
        with self._news:
            self._closed = True
            self._orders.clear()
            self._news.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                if not self._orders and not self._closed:
                    self._news.wait(IDLE_SECONDS)
                if not self._orders:
                    self._thread = None
                    return
                self._working = True
                order = self._orders.popleft()
            if isinstance(order, Spill):
                self._move(order)
            else:
                # The directory may be gone with the session.
                with contextlib.suppress(OSError):
                    self._disk.remove(order)
            self._working = False

    def _move(self, order: Spill) -> None:
        done: list[str] = []
        failed: list[str] = []
        for stored in order.values:
            moved = False
            # Gone, or not to be read or written: it stays where it is.
            with contextlib.suppress(OSError, DiskFull):
                moved = not self._closed and self._disk.copy(stored)
            (done if moved else failed).append(stored.segment)
        if not self._closed and (done or failed):
            self._report(Spilled(tuple(done), tuple(failed)))
        with self._news:
            self.moved += len(done)
            self.rounds += 1
            self._news.notify_all()
