"""The records of streams: how far each task that yields has come. Data only; `core.streams` decides.

A record is made when the first item comes, or when the stream's generator is released before that. The record goes
with its task.
"""

from __future__ import annotations

from ipyremote.ids import ClientId, TaskId

__all__ = ["StreamState", "StreamTable"]


class StreamState:
    """The stream of one task that has not ended."""

    __slots__ = ("closed", "consumed", "count")

    def __init__(self) -> None:
        #: Number of items that became objects. A later attempt yields the same items again; they are thrown away.
        self.count = 0
        #: Number of items taken from the generator; counted only for a stream with a limit.
        self.consumed = 0
        #: Whether the generator has been released.
        self.closed = False


class StreamTable:
    """All streams of a session."""

    __slots__ = ("known", "released")

    def __init__(self) -> None:
        #: Streams of tasks that have not ended, by task id.
        self.known: dict[TaskId, StreamState] = {}
        #: Pairs (task, client) of generators that a client has released, settled at the end of the present `handle`.
        #: Client 0: the task's own object was dropped.
        self.released: list[tuple[TaskId, ClientId]] = []
