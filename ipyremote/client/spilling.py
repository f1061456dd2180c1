"""The thread that moves this client's share of the store to disk, and removes segments from the disk.

The thread exists only while it has work, and for a moment after. Moving takes as long as the disk needs, so no thread
moves segments while it holds the channel's lock. Nor does the thread that asked for room, because an interrupt of that
thread must not leave the scheduler without a reply. Every order gets a reply; segments that could not be moved are
reported as failed.
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

#: Time that the thread waits for further work before it ends, in seconds.
IDLE_SECONDS: Final = 0.5


class Spiller:
    """The mover of one client's segments, with its thread. Thread-safe."""

    def __init__(self, disk: SpillStore, report: Callable[[Spilled], None]) -> None:
        """`report` sends the reply to an order. It is called without any lock."""
        self._disk = disk
        self._report = report
        self._orders: deque[Spill | tuple[str, ...]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._working = False
        #: Number of `Spill` orders that were carried out.
        self.rounds = 0
        #: Number of segments that were moved for these orders.
        self.moved = 0

    def take(self, order: Spill | tuple[str, ...]) -> None:
        """Move the segments of a `Spill` to disk soon, or remove the segments of these names from it. Repeatable."""
        with self._changed:
            if self._closed:
                return
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ipyremote-spill", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether an order is being carried out or waits."""
        return self._working or bool(self._orders)

    def wait(self, rounds: int, seconds: float) -> None:
        """Wait until more than `rounds` orders were carried out, at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.rounds > rounds or self._closed, seconds)

    def close(self) -> None:
        """Finish the segment that is being copied, and end the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._orders.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._orders and not self._closed:
                    self._changed.wait(IDLE_SECONDS)
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
            # A segment that is gone, or that cannot be read or written, stays where it is.
            with contextlib.suppress(OSError, DiskFull):
                moved = not self._closed and self._disk.copy(stored)
            (done if moved else failed).append(stored.segment)
        if not self._closed and (done or failed):
            self._report(Spilled(tuple(done), tuple(failed)))
        with self._changed:
            self.moved += len(done)
            self.rounds += 1
            self._changed.notify_all()
