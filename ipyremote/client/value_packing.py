"""Values on their way between Python and the wire: small values inline, large values through the store.

`ValuePacker` packs arguments and results, and opens wire values. It keeps no objects: the caller that opens a stored
value is told whether memory was mapped for it, because the caller must hold the object as long as the mapping exists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ipyremote.backend import ActorOptions
from ipyremote.exceptions import ObjectLostError
from ipyremote.ids import NOBODY, ObjectId
from ipyremote.messages import ActorSpec, Inline, Stored
from ipyremote.serialization.pickling import (
    INLINE_LIMIT,
    Pickled,
    dumps_whole,
    inline_size,
    joined,
    loads,
    loads_inline,
)
from ipyremote.store.segments import SegmentLost, SegmentStore

__all__ = [
    "EMPTY",
    "NO_ARGUMENTS",
    "PackedArguments",
    "ValuePacker",
    "inline",
    "retry_types",
    "spec_of",
]

#: Arguments of a call without any.
NO_ARGUMENTS: Final = Inline(b"")


class PackedArguments:
    """Arguments ready for the wire: either `inline`, or an object of their own."""

    __slots__ = ("deps", "inline", "object_id", "refs")

    def __init__(
        self,
        deps: tuple[ObjectId, ...],
        refs: tuple[ObjectId, ...],
        inline_args: Inline,
        object_id: ObjectId = NOBODY,
    ) -> None:
        #: Ids of the top-level refs, by the index of their `Slot`.
        self.deps = deps
        #: Ids of the refs inside other arguments.
        self.refs = refs
        #: The arguments, unless they became an object.
        self.inline = inline_args
        #: Id of the object that large arguments became, which is the last of `deps`; 0 for inline arguments.
        self.object_id = object_id


#: Packed arguments of a call without any.
EMPTY: Final = PackedArguments((), (), NO_ARGUMENTS)


def inline(pickled: Pickled) -> Inline:
    """Return the value in one piece, as it travels inside messages."""
    return Inline(*joined(pickled)) if pickled.buffers else Inline(pickled.head)


@lru_cache(maxsize=256)
def retry_types(retry: bool | tuple[type[BaseException], ...]) -> bytes:
    """Return `TaskSpec.retry_on` for a task's option `retry_exceptions`."""
    if isinstance(retry, bool):
        return b"*" if retry else b""
    return dumps_whole(retry).head


def spec_of(actor: ActorOptions, record: bytes = b"") -> ActorSpec:
    """Return an actor's options as they travel on the wire."""
    return ActorSpec(
        class_name=actor.class_name,
        resources=actor.resources,
        max_restarts=actor.max_restarts,
        max_task_retries=actor.max_task_retries,
        max_concurrency=actor.max_concurrency,
        unordered=actor.unordered,
        groups=actor.groups,
        name=actor.name,
        namespace=actor.namespace,
        detached=actor.detached,
        record=record,
        max_pending_calls=actor.max_pending_calls,
    )


class ValuePacker:
    """The packer and opener of one process's values, with the segment store of the process."""

    def __init__(self, store: SegmentStore, released: deque[ObjectId]) -> None:
        self._store = store
        self._released = released
        #: Sentence part that says how full the store was when it last had no room; empty if it always had.
        self.fullness = ""
        #: Time before which a request for room would be in vain, in seconds of the monotonic clock.
        self.crowded_until = 0.0

    @property
    def capacity(self) -> int:
        """Largest size of the session's store in memory, in bytes."""
        return self._store.capacity

    @property
    def spills(self) -> bool:
        """Whether objects for which the memory has no room may go to disk."""
        return self._store.disk.exists

    def pack_on_disk(self, pickled: Pickled) -> Stored:
        """Write a value to the disk. Raises DiskFull."""
        return self._store.disk.write(pickled.head, pickled.buffers)

    def pack(self, pickled: Pickled) -> Inline | Stored:
        """Make a wire value of a pickle. Raises StoreFull if a large value has no room."""
        if inline_size(pickled) <= INLINE_LIMIT:
            return inline(pickled)
        return self._store.write(pickled.head, pickled.buffers)

    def open(self, object_id: ObjectId, value: Inline | Stored, on_mapped: Callable[[ObjectId], None]) -> Any:
        """Return the Python value of a wire value. Raises ObjectLostError.

        `on_mapped(object_id)` is called when memory was mapped for the value: until the id appears in `released`,
        something in this process may look at that memory.
        """
        if type(value) is Inline:
            return loads_inline(value)
        assert isinstance(value, Stored)
        try:
            head, buffers, fresh = self._store.read(value, object_id, self._released)
        except SegmentLost as lost:
            raise ObjectLostError(f"The value of object {object_id:#x} is gone: {lost}.") from lost
        if fresh:
            on_mapped(object_id)
        return loads(head, buffers)
