"""The part of the ledger about stored values: where each lies, and what is on its way to disk. No decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipyremote.messages import Stored

if TYPE_CHECKING:
    from ipyremote.core.state.ledger import Object

__all__ = ["Move", "Storage"]


class Move:
    """An object on its way to disk."""

    __slots__ = ("client", "creator", "obj", "size")

    def __init__(self, obj: Object, client: int) -> None:
        assert isinstance(obj.value, Stored)
        #: None once its value is not needed any more.
        self.obj: Object | None = obj
        #: The client that makes the copy.
        self.client = client
        #: The client that made the original.
        self.creator = obj.creator
        self.size = obj.value.size


class Storage:
    """What has a segment of its own and is in neither of the tables lies on disk."""

    __slots__ = ("disk_bytes", "freeing", "in_memory", "memory_bytes", "moves")

    def __init__(self) -> None:
        #: The objects that have a segment in memory and are not being moved, the coldest first.
        self.in_memory: dict[int, Object] = {}
        #: Those that are being moved to disk, by segment.
        self.moves: dict[str, Move] = {}
        #: Bytes of the segments in memory of all objects, also of those that are being moved.
        self.memory_bytes = 0
        #: Bytes of those on disk.
        self.disk_bytes = 0
        #: Objects whose values nobody needs once no task does.
        self.freeing: set[int] = set()
