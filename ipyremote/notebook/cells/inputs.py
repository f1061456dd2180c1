"""Large values that cells read: stored once, and used again as long as the values stay the same.

A value above the limit becomes an object of its own in the store; the cells that read the value get the object's ref.

- A value is the same when it is the same Python object with the same content. Arrays change in place, so the content is
  compared each time with the stored content. Comparing reads both once and is far quicker than storing again.
- Instances of classes that the notebook defines are sent with the other names of their cell, never separately.
- A stored value is dropped when the notebook's own value is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling
from ipyremote.serialization.pickling import Pickled

__all__ = ["LARGE", "SameObject", "StoredInputs"]

#: Size above which a value is stored, in bytes.
LARGE: Final = 10_000_000
#: Size of the pieces that are compared, in bytes.
_CHUNK: Final = 1 << 20
#: Types that are never large by themselves, or must not be separated from the cell.
_NEVER: Final = (ObjectRef, ActorHandle, FunctionType, type, bool, int, float, complex, type(None))


class SameObject:
    """A memory of one object. The object is not kept alive, if its type allows weak references."""

    __slots__ = ("_get",)

    def __init__(self, value: Any) -> None:
        self._get: Callable[[], Any]
        try:
            self._get = weakref.ref(value)
        except TypeError:
            self._get = lambda: value

    def is_(self, value: Any) -> bool:
        """Return whether `value` is the remembered object."""
        return self._get() is value

    @property
    def gone(self) -> bool:
        """Return whether the object is known to exist no more."""
        return self._get() is None


@dataclass(frozen=True, slots=True)
class _StoredInput:
    """A value in the store."""

    #: The notebook's own value.
    original: SameObject
    #: Ref of the stored copy.
    ref: ObjectRef[Any]
    #: Digest of the pickle without its buffers.
    digest: bytes


class StoredInputs:
    """The values that were stored for the cells of one notebook. Used by the user's cells only."""

    def __init__(self) -> None:
        #: Stored values by the `id` of the notebook's own value.
        self._stored: dict[int, _StoredInput] = {}

    def store_large(
        self, backend: Backend, values: Mapping[str, Any], limit: int = LARGE
    ) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """Replace large values by refs of stored copies.

        Returns the values, with refs in place of large ones, and the name and size of each value that was stored just
        now.
        """
        self.prune()
        replaced: dict[str, Any] = {}
        fresh: list[tuple[str, int]] = []
        for name, value in values.items():
            pickled = _large(value, limit)
            if pickled is None:
                replaced[name] = value
                continue
            known = self._stored.get(id(value))
            if known is None or not _is_current(known, value, pickled, backend):
                object_id, _ = backend.put(value)
                ref: ObjectRef[Any] = ObjectRef(object_id, backend, f"{name} of the notebook")
                known = _StoredInput(SameObject(value), ref, pickling.digest(pickled.head))
                self._stored[id(value)] = known
                fresh.append((name, pickled.size))
            replaced[name] = known.ref
        return replaced, fresh

    def prune(self, namespace: Mapping[str, Any] | None = None) -> int:
        """Drop the stored copies of values that are gone, and of values that have no name in the namespace, if given.

        Returns the number of copies dropped.
        """
        named = None if namespace is None else {id(value) for value in tuple(namespace.values())}
        gone = [
            key
            for key, stored in self._stored.items()
            if stored.original.gone or (named is not None and key not in named)
        ]
        for key in gone:
            del self._stored[key]
        return len(gone)

    def clear(self) -> None:
        """Drop all stored values."""
        self._stored.clear()


def _large(value: Any, limit: int) -> Pickled | None:
    """Return the pickle of a value that is large and can be stored by itself, else None."""
    if isinstance(value, _NEVER) or (isinstance(value, str | bytes | bytearray) and len(value) <= limit):
        return None
    try:
        pickled = pickling.dumps(value)
    except Exception:  # sending the cell fails in the same way, and tells the user
        return None
    return pickled if pickled.size > limit and b"__main__" not in pickled.head else None


def _is_current(stored: _StoredInput, value: Any, pickled: Pickled, backend: Backend) -> bool:
    """Return whether the store has this very value, with the present content."""
    if not stored.original.is_(value) or stored.ref._backend is not backend:
        return False
    # Pickles of the store's read-only arrays differ in their heads, so heads are compared by the digest of the
    # original.
    if pickling.digest(pickled.head) != stored.digest:
        return False
    if not pickled.buffers:
        return True
    try:
        there = pickling.dumps(backend.get([stored.ref._id])[0]).buffers
    except Exception:  # the stored copy was lost
        return False
    return len(there) == len(pickled.buffers) and all(
        mine.nbytes == other.nbytes and all(part == same for part, same in _chunks(mine, other))
        for mine, other in zip(pickled.buffers, there, strict=True)
    )


def _chunks(one: memoryview, other: memoryview) -> Iterator[tuple[bytes, bytes]]:
    # Copies are made because Python compares two `bytes` at once, but two views element by element.
    for start in range(0, one.nbytes, _CHUNK):
        yield bytes(one[start : start + _CHUNK]), bytes(other[start : start + _CHUNK])
