"""The records of streams: what is known of a task that yields. Data only; `yields.py` decides.

A record is made when the first item comes, or when something happens to the stream before that, and goes with its task.
"""

from __future__ import annotations

__all__ = ["Stream", "Streams"]


class Stream:
    """The stream of one task that has not ended."""

    __slots__ = ("closed", "consumed", "count")

    def __init__(self) -> None:
        #: Items that became objects. A later attempt gives these again, and they are thrown away.
        self.count = 0
        #: Items that were taken from the generator, where there is a limit.
        self.consumed = 0
        #: Whether the generator is gone.
        self.closed = False


class Streams:
    """All streams of a session."""

    __slots__ = ("known", "left")

    def __init__(self) -> None:
        #: By task id.
        self.known: dict[int, Stream] = {}
        #: (task, client) whose generator is gone, to be dealt with at the end of the present `handle`. Client 0: it
        #: is the task's own object that was dropped.
        self.left: list[tuple[int, int]] = []
