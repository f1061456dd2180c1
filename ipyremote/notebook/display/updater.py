"""The one thread that updates displays, and the token bucket that bounds their messages.

A callback on the backend's thread, a click or the user's cell hands a function over and goes on. The thread starts with
the first function and ends when there is nothing left to do. The thread starts with an empty context, so that ipykernel
does not tie its output to the cell that happened to be first. An exception that a function raises is logged.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["TokenBucket", "UpdateScheduler", "Updater"]

log = logging.getLogger(__name__)

#: Time that an idle thread stays for further work, in seconds.
_LINGER: Final = 1.0


class UpdateScheduler(Protocol):
    """The part of `Updater` that displays need. Functions run one at a time, in order."""

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a function soon."""

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> None:
        """Run a function after this number of seconds."""


class Updater:
    """Runs functions on one thread. `call` and `call_later` may be used from any thread and never wait."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        #: Heap of functions for later: time, tie breaker, function, arguments.
        self._timers: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Run a function soon."""
        self.call_later(0.0, fn, *args)

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> None:
        """Run a function after this number of seconds."""
        with self._wake:
            if self._closed:
                return
            if seconds <= 0:
                self._ready.append((fn, args))
            else:
                heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), fn, args))
            if self._thread is None:
                context = contextvars.Context()
                self._thread = threading.Thread(
                    target=context.run, args=(self._run,), name="ipyremote-updater", daemon=True
                )
                self._thread.start()
            else:
                self._wake.notify()

    def close(self, timeout: float = 5.0) -> None:
        """Run the functions that are due, drop the later ones, and end the thread."""
        with self._wake:
            self._closed = True
            self._timers.clear()
            thread = self._thread
            self._wake.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            fn, args = work
            try:
                fn(*args)
            except Exception:  # a display went wrong: the others, and the user's cells, go on
                log.debug("a display update failed", exc_info=True)
            del work, fn, args

    def _next(self) -> tuple[Callable[..., object], tuple[Any, ...]] | None:
        """What to do next, or None when the thread should end."""
        with self._wake:
            while True:
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    _, _, fn, args = heapq.heappop(self._timers)
                    self._ready.append((fn, args))
                if self._ready:
                    return self._ready.popleft()
                patience = self._timers[0][0] - now if self._timers else _LINGER
                woken = not self._closed and self._wake.wait(patience)
                if not (woken or self._ready or self._timers):
                    self._thread = None
                    return None


class TokenBucket:
    """A token bucket: `burst` messages at once, `rate` a second in the long run. Knows no clock."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._last: float | None = None

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Spend; False when there is not enough left for it."""
        self._refill(now)
        if self._tokens < min(cost, self._burst):
            return False
        self._tokens -= cost
        return True

    def wait(self, now: float, cost: float = 1.0) -> float:
        """Seconds until `take` will succeed."""
        self._refill(now)
        return max(0.0, (min(cost, self._burst) - self._tokens) / self._rate)

    def _refill(self, now: float) -> None:
        if self._last is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
