"""A rate limit for messages that replace one another, such as states of a progress bar: ten a second, the last always.

A message has a task and a key. The first message of a key is sent at once; a message that follows too soon waits, and
replaces a message of the key that waits already. Messages that wait when the task ends are sent before the task's
result.
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

#: Shortest time between two messages of a key, in seconds.
INTERVAL: Final = 0.1


class _Lane(Generic[Message]):
    """The messages of one key."""

    __slots__ = ("last", "pending")

    def __init__(self) -> None:
        #: Time of the last message that was sent, in seconds.
        self.last = float("-inf")
        #: Waiting message; None if no message waits.
        self.pending: Message | None = None


class Pacer(Generic[Message]):
    """The sender of messages with a rate limit for each key. Thread-safe. `wake()` asks for a call of `send_late`."""

    def __init__(self, send: Callable[[Message], None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        # Reentrant, because a finalizer may run in the middle of a method, on the same thread.
        self._lock = threading.RLock()
        self._lanes: dict[Hashable, dict[Hashable, _Lane[Message]]] = {}
        _pacers.add(self)

    def post(self, task: Hashable, key: Hashable, message: Message, *, now: bool = False) -> None:
        """Send a message: at once with `now`, or if the last message of the key is old enough, else later."""
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
        """Send the waiting messages of a task that has ended, and forget the task's keys."""
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
