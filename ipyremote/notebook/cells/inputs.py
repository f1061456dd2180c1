"""The values that a cell reads, packed for a worker: each is pickled once, and large ones are stored for later cells.

Small values are pickled together, with the globals of the functions among them. A value above the limit becomes an
object of its own in the store; the cells that read the value get the object's ref.

- Only a pickle tells how large a value is. What seems large is pickled by itself, all else together; a value that turns
  out to be large only then is pickled a second time, by itself.
- A value is the same when it is the same Python object with the same content. Arrays change in place, so the content is
  compared each time with the stored content. Comparing reads both once and is far quicker than storing again.
- Instances of classes that the notebook defines are sent with the other names of their cell, never separately.
- A stored value is dropped when the notebook's own value is gone.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import FunctionType
from typing import Any, Final

from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.cell import CellInputs
from ipyremote.remote_cells.preview import size_of
from ipyremote.serialization import pickling
from ipyremote.serialization.pickling import Pickled, PickledOnce

__all__ = ["LARGE", "PackedInputs", "SameObject", "StoredInputs"]

#: Size above which a value is stored, in bytes.
LARGE: Final = 10_000_000
#: Size of the pieces that are compared, in bytes.
_CHUNK: Final = 1 << 20
#: Number of a value's parts that are looked at to guess whether the value is large.
_PARTS: Final = 1000
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


@dataclass(slots=True)
class PackedInputs:
    """The inputs of one cell, ready to be sent."""

    #: The `CellInputs`: the home, and all values but those in `refs`.
    inputs: PickledOnce = field(init=False)
    #: Refs of stored values, and refs that were among the values, by name.
    refs: dict[str, ObjectRef[Any]] = field(default_factory=dict)
    #: Name and size in bytes of each value that was stored just now.
    fresh: list[tuple[str, int]] = field(default_factory=list)


class StoredInputs:
    """The values that were stored for the cells of one notebook. Used by the user's cells only."""

    def __init__(self) -> None:
        #: Stored values by the `id` of the notebook's own value.
        self._stored: dict[int, _StoredInput] = {}

    def pack(
        self, backend: Backend, home: FunctionType, values: Mapping[str, Any], limit: int = LARGE
    ) -> PackedInputs:
        """Pickle the values that a cell reads, and store those above the limit unless the store has them already.

        The cell runs in the globals of `home`. Raises TypeError when a value cannot be pickled.
        """
        self.prune()
        packed = PackedInputs()
        together: dict[str, Any] = {}
        #: Names of the values that seemed large, and whose pickles were not.
        known_small: set[str] = set()
        for name, value in values.items():
            if isinstance(value, ObjectRef):
                packed.refs[name] = value
            elif not self._seems_large(value, limit):
                together[name] = value
            elif not self._store(backend, name, value, limit, packed):
                together[name] = value
                known_small.add(name)
        packed.inputs = _pickled(home, together)
        if packed.inputs.pickled.size > limit:
            small = {
                name: value
                for name, value in together.items()
                if name in known_small or not self._store(backend, name, value, limit, packed)
            }
            if len(small) < len(together):
                packed.inputs = _pickled(home, small)
        return packed

    def _seems_large(self, value: Any, limit: int) -> bool:
        """Return whether a value was stored before, or seems to have more data than the limit."""
        try:
            return id(value) in self._stored or _has_data(value, limit)
        except Exception:  # raised by user code: a property, or the iterator of a container
            return False

    def _store(self, backend: Backend, name: str, value: Any, limit: int, packed: PackedInputs) -> bool:
        """Add the ref of a value's stored copy to `packed`, if the value is large. Returns whether it is."""
        once = _large(value, limit)
        if once is None:
            return False
        known = self._stored.get(id(value))
        if known is None or not _is_current(known, value, once.pickled, backend):
            object_id, _ = backend.put(once)
            ref: ObjectRef[Any] = ObjectRef(object_id, backend, f"{name} of the notebook")
            known = _StoredInput(SameObject(value), ref, pickling.digest(once.pickled.head))
            self._stored[id(value)] = known
            packed.fresh.append((name, once.pickled.size))
        packed.refs[name] = known.ref
        return True

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


def _pickled(home: FunctionType, values: Mapping[str, Any]) -> PickledOnce:
    # The home is in front, so that the C pickler, which cannot pickle the home, gives up before it comes to a value.
    return PickledOnce(CellInputs(home, values), ("home", "inputs"))


def _has_data(value: Any, limit: int) -> bool:
    """Return whether the data of a value is larger than the limit, as far as a quick look can tell.

    Arrays, tables and strings have data, and so have containers and instances with such parts. A wrong answer costs
    one more pickle, and no more.
    """
    total = 0
    seen: set[int] = set()
    pending = deque((value,))
    for _ in range(_PARTS):
        if not pending:
            break
        part = pending.popleft()
        if id(part) in seen or isinstance(part, _NEVER):
            continue
        seen.add(id(part))
        if type(part).__module__ == "__main__":
            return False
        total += len(part) if isinstance(part, str) else size_of(part) or 0
        if total > limit:
            return True
        pending.extend(islice(_parts(part), _PARTS))
    return False


def _parts(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list() | tuple() | set() | frozenset() | deque():
            return value
        case _:
            found = getattr(value, "__dict__", None)
            return found.values() if type(found) is dict else ()


def _large(value: Any, limit: int) -> PickledOnce | None:
    """Return the pickle of a value that is large and can be stored by itself, else None."""
    if isinstance(value, _NEVER) or (isinstance(value, str | bytes | bytearray) and len(value) <= limit):
        return None
    if type(value).__module__ == "__main__":
        return None
    try:
        once = PickledOnce(value)
    except Exception:  # pickling the value with the other inputs fails in the same way, and tells the user
        return None
    return once if once.pickled.size > limit and b"__main__" not in once.pickled.head else None


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
