"""Large values that cells read: stored once, and used again as long as they are the same.

A value above the limit becomes an object of its own, and the cells that read it get its ref. Rules. The same means: the
same Python object, with the same content. Arrays change in place, so the content is compared each time with what was
stored; that reads both once, which is still far quicker than storing it again. Instances of the notebook's own classes
and functions are not separated: they belong together with the other names of their cell. A stored value is dropped when
the notebook's own one is gone.
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

#: Bytes above which a value is stored.
LARGE: Final = 10_000_000
#: Bytes compared at a time.
_CHUNK: Final = 1 << 20
#: Nothing large in itself, or not to be separated from the cell.
_NEVER: Final = (ObjectRef, ActorHandle, FunctionType, type, bool, int, float, complex, type(None))


class SameObject:
    """Remembers an object, without keeping it alive where that is possible."""

    __slots__ = ("_get",)

    def __init__(self, value: Any) -> None:
        self._get: Callable[[], Any]
        try:
            self._get = weakref.ref(value)
        except TypeError:
            self._get = lambda: value

    def is_(self, value: Any) -> bool:
        """Whether this is the object."""
        return self._get() is value

    @property
    def gone(self) -> bool:
        """Whether the object exists no more, as far as one can know."""
        return self._get() is None


@dataclass(frozen=True, slots=True)
class _StoredInput:
    """A value in the store."""

    original: SameObject
    ref: ObjectRef[Any]
    #: Of the pickle without its buffers.
    digest: bytes


class StoredInputs:
    """What was stored for the cells of one notebook. Used by the user's cells only."""

    def __init__(self) -> None:
        self._stored: dict[int, _StoredInput] = {}

    def store_large(
        self, backend: Backend, values: Mapping[str, Any], limit: int = LARGE
    ) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """(the values, large ones replaced by refs; name and size of those that had to be stored)."""
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
        """Drop what was stored for objects that are gone; with a namespace also for those that have no name in it.
        Returns how many."""
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
        """Drop everything."""
        self._stored.clear()


def _large(value: Any, limit: int) -> Pickled | None:
    """The value taken apart if it is large and can stand alone."""
    if isinstance(value, _NEVER) or (isinstance(value, str | bytes | bytearray) and len(value) <= limit):
        return None
    try:
        pickled = pickling.dumps(value)
    except Exception:  # whoever sends the cell will say so
        return None
    return pickled if pickled.size > limit and b"__main__" not in pickled.head else None


def _is_current(stored: _StoredInput, value: Any, pickled: Pickled, backend: Backend) -> bool:
    """Whether the store has exactly this."""
    if not stored.original.is_(value) or stored.ref._backend is not backend:
        return False
    # Arrays of the store are read-only, which the pickle mentions with each buffer.
    if pickling.digest(pickled.head) != stored.digest:
        return False
    if not pickled.buffers:
        return True
    try:
        there = pickling.dumps(backend.get([stored.ref._id])[0]).buffers
    except Exception:  # it was lost
        return False
    return len(there) == len(pickled.buffers) and all(
        mine.nbytes == other.nbytes and all(part == same for part, same in _chunks(mine, other))
        for mine, other in zip(pickled.buffers, there, strict=True)
    )


def _chunks(one: memoryview, other: memoryview) -> Iterator[tuple[bytes, bytes]]:
    # Copies, because two `bytes` are compared by memcmp and two views element by element.
    for start in range(0, one.nbytes, _CHUNK):
        yield bytes(one[start : start + _CHUNK]), bytes(other[start : start + _CHUNK])
