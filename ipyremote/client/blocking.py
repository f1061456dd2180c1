"""A running task that waits says so, and its CPU is free for others until it goes on."""

from __future__ import annotations

from collections.abc import Callable

from ipyremote.client.channel import Channel
from ipyremote.messages import Blocked

__all__ = ["block"]


def block(channel: Channel, task_id: int, done: Callable[[], bool]) -> int:
    """Say that the task waits, and hand back what has not started here; `Unblocked` ends that.

    Gives the task's id; 0: nothing was said, since no task runs or `done()`, which is called with the lock held.
    """
    host = channel.host
    with channel.lock:
        if host is None or not task_id or done():
            return 0
        channel.connection.queue(Blocked(task_id, host.hand_back()))
        channel.flush()
    return task_id
