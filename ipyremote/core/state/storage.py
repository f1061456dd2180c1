"""The records of stored values: where each segment lies, and which objects are on their way to disk. Data only."""

from __future__ import annotations

from ipyremote.core.state.objects import Object
from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import Stored

__all__ = ["Move", "Storage"]


class Move:
    """An object on its way to disk."""

    __slots__ = ("client", "creator", "obj", "size")

    def __init__(self, obj: Object, client: ClientId) -> None:
        assert isinstance(obj.value, Stored)
        #: The object that is moved; None once its value is not needed any more.
        self.obj: Object | None = obj
        #: The client that makes the copy.
        self.client = client
        #: The client that made the original.
        self.creator = obj.creator
        #: Size of the segment in bytes.
        self.size = obj.value.size


class Storage:
    """Where segments lie. An object with a segment of its own that is in neither table has its segment on disk."""

    __slots__ = ("disk_bytes", "freeing", "in_memory", "memory_bytes", "moves")

    def __init__(self) -> None:
        #: Objects whose segment is in memory and is not being moved, by id; the object used longest ago is first.
        self.in_memory: dict[ObjectId, Object] = {}
        #: Moves under way, by segment.
        self.moves: dict[str, Move] = {}
        #: Bytes of all segments in memory, those being moved included.
        self.memory_bytes = 0
        #: Bytes of all segments on disk.
        self.disk_bytes = 0
        #: Ids of objects whose values are to be freed as soon as no task needs them.
        self.freeing: set[ObjectId] = set()
