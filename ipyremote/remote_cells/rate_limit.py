"""Messages that replace one another, such as the states of a progress bar: at most ten a second, the last never lost.

A message has a task and a key. The first of a key goes out at once; one that follows too soon waits, and takes the
place of one that waits already. What still waits when the task ends goes out before its result.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Pacer"]

Message = TypeVar("Message")

#: Seconds between two messages of a key.
INTERVAL: Final = 0.1


class _Slot(Generic[Message]):
    """What is known of a key."""

    __slots__ = ("last", "pending")

    def __init__(self) -> None:
        #: When its last message was sent.
        self.last = float("-inf")
        self.pending: Message | None = None


class Pacer(Generic[Message]):
    """Any thread. `wake()` asks for a call of `send_late` soon."""

    def __init__(self, send: Callable[[Message], None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        # A finalizer may run in the middle of anything, on the same thread.
        self._lock = threading.RLock()
        self._slots: dict[int, dict[Hashable, _Slot[Message]]] = {}
        os.register_at_fork(after_in_child=self._on_forked)

    def _on_forked(self) -> None:
        # Another thread may have held it.
        self._lock = threading.RLock()

    def post(self, task_id: int, key: Hashable, message: Message, *, now: bool = False) -> None:
        """Send it, or have it wait. `now`: do not have it wait."""
        with self._lock:
            slot = self._slots.setdefault(task_id, {}).setdefault(key, _Slot())
            moment = time.monotonic()
            if now or moment - slot.last >= INTERVAL:
                slot.pending = None
                slot.last = moment
                self._send(message)
                return
            first = slot.pending is None
            slot.pending = message
        if first:
            self._wake()

    def send_late(self) -> bool:
        """Send what has waited long enough. True: something still waits."""
        if not self._slots:
            return False
        with self._lock:
            latest = time.monotonic() - INTERVAL
            waits = False
            for slots in self._slots.values():
                for slot in slots.values():
                    if slot.last <= latest:
                        self._send_pending(slot)
                    waits = waits or slot.pending is not None
            return waits

    def finish(self, task_id: int) -> None:
        """The task has ended: send what waits, and forget its keys."""
        with self._lock:
            for slot in self._slots.pop(task_id, {}).values():
                self._send_pending(slot)

    def _send_pending(self, slot: _Slot[Message]) -> None:
        message = slot.pending
        if message is not None:
            slot.pending = None
            slot.last = time.monotonic()
            self._send(message)
