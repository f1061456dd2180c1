"""Messages that replace one another, such as the states of a progress bar: at most ten a second, the last never lost.

A message has a task and a key. The first message of a key is sent at once; a message that follows too soon waits, and
takes the place of one that waits already. What still waits when the task ends is sent before the task's result.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

__all__ = ["Pacer"]

Message = TypeVar("Message")

#: Seconds between two messages of a key.
INTERVAL: Final = 0.1


class _Lane(Generic[Message]):
    """The messages of one key."""

    __slots__ = ("last", "pending")

    def __init__(self) -> None:
        #: Time of the last message that was sent, in seconds.
        self.last = float("-inf")
        #: The message that waits, if one does.
        self.pending: Message | None = None


class Pacer(Generic[Message]):
    """Sends the messages of many keys, none too often. Thread-safe. `wake()` asks for a call of `send_late` soon."""

    def __init__(self, send: Callable[[Message], None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        # A finalizer may run in the middle of anything, on the same thread.
        self._lock = threading.RLock()
        self._lanes: dict[Hashable, dict[Hashable, _Lane[Message]]] = {}
        _pacers.add(self)

    def post(self, task: Hashable, key: Hashable, message: Message, *, now: bool = False) -> None:
        """Send a message, at once if `now` or if its key was silent for long enough, else later."""
        with self._lock:
            lane = self._lanes.setdefault(task, {}).setdefault(key, _Lane())
            moment = time.monotonic()
            if now or moment - lane.last >= INTERVAL:
                lane.pending = None
                lane.last = moment
                self._send(message)
                return
            first = lane.pending is None
            lane.pending = message
        if first:
            self._wake()

    def send_late(self) -> bool:
        """Send the messages that have waited long enough. Returns whether any message still waits."""
        if not self._lanes:
            return False
        with self._lock:
            latest = time.monotonic() - INTERVAL
            waits = False
            for lanes in self._lanes.values():
                for lane in lanes.values():
                    if lane.last <= latest:
                        self._send_pending(lane)
                    waits = waits or lane.pending is not None
            return waits

    def finish(self, task: Hashable) -> None:
        """Send what waits of a task that has ended, and forget the task's keys."""
        with self._lock:
            for lane in self._lanes.pop(task, {}).values():
                self._send_pending(lane)

    def _send_pending(self, lane: _Lane[Message]) -> None:
        message = lane.pending
        if message is not None:
            lane.pending = None
            lane.last = time.monotonic()
            self._send(message)


#: All pacers of this process.
_pacers: WeakSet[Pacer[Any]] = WeakSet()


def _on_forked() -> None:
    """Give the pacers of a forked process fresh locks: another thread of the parent may have held one."""
    for pacer in tuple(_pacers):
        pacer._lock = threading.RLock()


os.register_at_fork(after_in_child=_on_forked)
