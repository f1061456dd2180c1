"""Python objects to bytes and back: the only module that knows pickle and cloudpickle.

Values. `dumps` gives a `Pickled`: the pickle (protocol 5), the buffers that it left out, and the ids of the
refs inside. The caller copies the buffers (`inline` or the store) before it returns to user code, because they
are windows into the user's own objects. What comes back is read-only wherever it lies on such a buffer.

The C pickler goes first. cloudpickle, several times slower, takes over when the C pickler fails (lambdas, local
classes) and when its result names `__main__`: a notebook's functions and classes exist in no worker's
`__main__`, so they travel by value.

Functions. The payload of `dumps_function` is the pickle of

    (sources, body)      body: cloudpickle of the function or class, everything in-band
                         sources: {co_filename: (display name, source text)}

for code that was typed and not imported, so that tracebacks in workers show the lines of the notebook's cells.
Pickling an unchanged function again gives the same payload within a process, and thereby the same digest.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import io
import linecache
import os
import pickle
from collections import ChainMap
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakSet

import cloudpickle

from ipyremote.exceptions import IPyRemoteError, tracebacks
from ipyremote.serialization import diagnosis
from ipyremote.serialization.nested_refs import collecting, here

__all__ = [
    "INLINE_LIMIT",
    "Pickled",
    "Slot",
    "before_loading",
    "deregister",
    "digest",
    "dispatch_table",
    "dumps",
    "dumps_function",
    "dumps_whole",
    "inline_size",
    "joined",
    "loads",
    "loads_function",
    "loads_inline",
    "register",
    "why_not",
]

#: Values whose `inline_size` is at most this travel inside messages; larger ones go to the store.
INLINE_LIMIT: Final = 100 * 1024
#: Pickle and buffers inside `Inline.data` start at multiples of this.
_ALIGNMENT: Final = 16
_PROTOCOL: Final = 5

#: Source text of one file above this many characters stays at home.
_SOURCE_LIMIT: Final = 256 * 1024
#: The same for all files of one payload.
_SOURCES_LIMIT: Final = 1024 * 1024

Sources: TypeAlias = dict[str, tuple[str, str]]

#: Classes that were pickled by value here first, and classes that were loaded by value.
_residents: WeakSet[type] = WeakSet()
_visitors: WeakSet[type] = WeakSet()

#: How instances of some classes are pickled in this process, by `register`.
_reducers: dict[type, Any] = {}
#: For picklers that know these, cloudpickle's and that of C.
dispatch_table: Final = ChainMap(_reducers, *cloudpickle.Pickler.dispatch_table.maps)
_c_dispatch_table: Final[ChainMap[type, Any]] = ChainMap(_reducers, copyreg.dispatch_table)

_c_dumps = pickle.dumps
_c_loads = pickle.loads
_PICKLER_FILE: Final = cloudpickle.Pickler.dump.__code__.co_filename
_by_value_modules = cloudpickle.list_registry_pickle_by_value


class Slot:
    """Stands in pickled arguments for a top-level ref: the value of dependency `index` goes here."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[Slot], tuple[int]]:
        return Slot, (self.index,)

    def __eq__(self, other: object) -> bool:
        return type(other) is Slot and other.index == self.index

    def __hash__(self) -> int:
        return hash((Slot, self.index))

    def __repr__(self) -> str:
        return f"Slot({self.index})"


class Pickled:
    """A value taken apart. `buffers` are windows into the value: copy them before the user can change it."""

    __slots__ = ("buffers", "head", "refs")

    def __init__(self, head: bytes, buffers: list[memoryview], refs: tuple[int, ...]) -> None:
        #: The pickle, without its buffers.
        self.head = head
        #: Flat and contiguous, in the order in which the pickle asks for them.
        self.buffers = buffers
        #: Ids of the objects and actors referred to, in order of appearance, each once.
        self.refs = refs

    @property
    def size(self) -> int:
        """Bytes in all, without padding."""
        return len(self.head) + sum(buffer.nbytes for buffer in self.buffers)


class Joined(Protocol):
    """A value in one piece, as in a message."""

    @property
    def data(self) -> bytes:
        """The pickle and its buffers."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Their sizes; empty where there are no buffers."""


class _Bytes:
    """Large bytes at the top: left out of the pickle, like an array, which saves two copies."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[bytes | bytearray], tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


_BYTES: Final = (bytes, bytearray)


class _ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """cloudpickle that remembers which files the code it pickled came from."""

    dispatch_table = dispatch_table

    def __init__(
        self, file: io.BytesIO, leave_out: Callable[[pickle.PickleBuffer], object] | None = None
    ) -> None:
        super().__init__(file, protocol=_PROTOCOL, buffer_callback=leave_out)
        #: A dict for its order, which must be the same each time.
        self.files: dict[str, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            self.files[obj.co_filename] = None
            # cloudpickle 3.1.3 gives all code the file name "<dynamic-code>". A new string each time: whether two names
            # are one object would show in the pickle.
            return _code, ("".join(obj.co_filename), *self.dispatch_table[CodeType](obj))
        if kind is functools._lru_cache_wrapper and obj.__module__ == "__main__":
            # It would be pickled by its name, which no worker's __main__ has.
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == 6:
            return _at_home(obj, *reduced)
        return reduced


def _code(filename: str, make: Callable[..., CodeType], args: tuple[Any, ...]) -> CodeType:
    """Code that knows where it came from, so that tracebacks show its lines."""
    return make(*args).replace(co_filename=filename)


def _at_home(
    cls: type, make: Any, args: Any, state: tuple[dict[str, Any], Any], items: Any, pairs: Any, set_state: Any
) -> tuple[Any, ...]:
    """How to pickle a class by value, from how cloudpickle does it."""
    if cls not in _visitors:
        _residents.add(cls)
    # Pickle's own cache, which appears with the first instance that is pickled: the class did not change by it.
    state[0].pop("__slotnames__", None)
    return make, args, (set_state, state), items, pairs, _set_class_state


def _set_class_state(cls: type, setting: tuple[Callable[[type, Any], object], Any]) -> type:
    """Fill a class that was loaded. cloudpickle finds the class if this process has it already, and would now reset
    its attributes to what they were when it was pickled: right for a visitor, which follows its original, and wrong
    for the original, which would lose its changes to an instance that comes home."""
    if cls not in _residents:
        _visitors.add(cls)
        set_state, state = setting
        set_state(cls, state)
    return cls


def _cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """A function under a fresh `lru_cache`, as it was defined in the notebook."""
    return functools.lru_cache(**parameters)(fn)


# ----------------------------------------------------------------------------------------------------- values


def dumps(value: Any, names: Sequence[str] = ()) -> Pickled:
    """Take a value apart.

    `names`: what an error message calls the elements of the tuple `value`, such as ("args", "kwargs"). Raises
    TypeError, which names the part that cannot be pickled.
    """
    if type(value) in _BYTES and len(value) > INLINE_LIMIT:
        value = _Bytes(value)
    outer = here.ids
    ids: list[int] = []
    here.ids = ids
    left_out: list[pickle.PickleBuffer] = []
    try:
        head = (_dumps_reduced if _reducers else _c_dumps)(value, _PROTOCOL, buffer_callback=left_out.append)
        by_value = b"__main__" in head or _by_value_modules()
    except Exception:  # whatever user code raised: cloudpickle may know better, and else reports it
        by_value = True
    finally:
        here.ids = outer
    if by_value:
        ids, left_out = [], []
        head = _dumps_by_value(value, names, ids, left_out)
    buffers = [buffer.raw() for buffer in left_out] if left_out else []
    return Pickled(head, buffers, tuple(dict.fromkeys(ids)) if ids else ())


def register(cls: type, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """From now on, pickle instances of this class as `deserializer` and what `serializer` makes of them."""
    _reducers[cls] = lambda instance: (deserializer, (serializer(instance),))


def deregister(cls: type) -> None:
    """Undo `register`."""
    _reducers.pop(cls, None)


def _dumps_reduced(
    value: Any, protocol: int, *, buffer_callback: Callable[[pickle.PickleBuffer], object]
) -> bytes:
    """`pickle.dumps` that knows registered classes."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = _c_dispatch_table
    pickler.dump(value)
    return file.getvalue()


def dumps_whole(value: Any) -> Pickled:
    """The same with everything in-band, for data that is neither shared nor large."""
    pickled = dumps(value)
    if not pickled.buffers:
        return pickled
    ids: list[int] = []
    head = _dumps_by_value(value, (), ids, None)
    return Pickled(head, [], tuple(dict.fromkeys(ids)))


def _dumps_by_value(
    value: Any, names: Sequence[str], ids: list[int], left_out: list[pickle.PickleBuffer] | None
) -> bytes:
    file = io.BytesIO()
    with collecting() as collected:
        try:
            _ByValuePickler(file, None if left_out is None else left_out.append).dump(value)
        except IPyRemoteError as error:
            # A ref or handle inside cannot be used here, which is not the fault of pickling.
            raise _found(value, names, error) from None
        except Exception as error:  # user code raised it, from one of the pickle hooks
            raise _not_picklable(value, names, error) from _without_picklers(error)
    ids.extend(collected)
    return file.getvalue()


def loads(head: bytes | memoryview, buffers: Sequence[bytes | memoryview] = ()) -> Any:
    """Put a value together. It keeps those of `buffers` that it uses alive."""
    return _c_loads(head, buffers=buffers)


def inline_size(pickled: Pickled) -> int:
    """Length of `Inline.data` for it."""
    size = len(pickled.head)
    for buffer in pickled.buffers:
        size += -size % _ALIGNMENT + buffer.nbytes
    return size


def joined(pickled: Pickled) -> tuple[bytes, tuple[int, ...]]:
    """Put the parts of a value in one piece: (the bytes, the sizes); the format is that of `messages.Inline`."""
    if not pickled.buffers:
        return pickled.head, ()
    parts: list[bytes | memoryview] = [pickled.head]
    sizes = [len(pickled.head)]
    for buffer in pickled.buffers:
        parts.append(bytes(-sizes[-1] % _ALIGNMENT))
        parts.append(buffer)
        sizes.append(buffer.nbytes)
    return b"".join(parts), tuple(sizes)


def loads_inline(value: Joined) -> Any:
    """Return the value that `joined` has put in one piece. Arrays are read-only windows into `value.data`."""
    sizes = value.sizes
    if not sizes:
        return _c_loads(value.data)
    # The data of a bytes object begins at a multiple of 16, so its buffers do.
    data = memoryview(value.data)
    start = 0
    parts = []
    for size in sizes:
        parts.append(data[start : start + size])
        start += size + -size % _ALIGNMENT
    return _c_loads(parts[0], buffers=parts[1:])


# -------------------------------------------------------------------------------------------------- functions


def dumps_function(fn: Callable[..., Any]) -> tuple[bytes, tuple[int, ...]]:
    """Pickle a function or class: (payload, ids of the refs that it closes over).

    What `__main__` defines goes by value, with what it uses of its globals; what can be imported goes by name.
    Raises TypeError, which names the part that cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _ByValuePickler(file)
    with collecting() as ids:
        try:
            pickler.dump(fn)
        except IPyRemoteError as error:
            raise _found(fn, (), error) from None
        except Exception as error:  # user code raised it, from one of the pickle hooks
            raise _not_picklable(fn, (), error) from _without_picklers(error)
    payload = pickle.dumps(
        (_sources_of(pickler.files), tuple(_before_loading.values()), file.getvalue()), _PROTOCOL
    )
    return payload, tuple(dict.fromkeys(ids))


#: See `before_loading`.
_before_loading: dict[str, Callable[[], object]] = {}


def before_loading(what: str, prepare: Callable[[], object] | None) -> None:
    """Have whoever unpickles a function from this process call `prepare` first. It must be picklable; None: no more."""
    if prepare is None:
        _before_loading.pop(what, None)
    else:
        _before_loading[what] = prepare


def loads_function(payload: bytes) -> Any:
    """Return the function or class of a payload from `dumps_function`. Tracebacks show its lines from now on."""
    sources, preparations, body = _c_loads(payload)
    for prepare in preparations:
        prepare()
    for filename, (shown, text) in sources.items():
        tracebacks.register_source(filename, shown, text)
    return _c_loads(body)


def digest(payload: bytes) -> bytes:
    """16 bytes that identify a payload."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def _sources_of(files: dict[str, None]) -> Sources:
    """Name and text of the files that exist in this process only: cells, doctests, what a prompt read."""
    sources: Sources = {}
    total = 0
    for filename in files:
        if os.path.exists(filename):
            continue
        text = "".join(linecache.getlines(filename))
        if not text or len(text) > _SOURCE_LIMIT or total + len(text) > _SOURCES_LIMIT:
            continue
        total += len(text)
        # A worker that sends a function on has received the name that the notebook has for the cell.
        shown = tracebacks.display_name(filename) or tracebacks.received_names().get(filename)
        # The same object, not an equal one: pickle writes the two differently.
        sources[filename] = (filename if shown in (None, filename) else shown, text)
    return sources


# ----------------------------------------------------------------------------------------------------- errors


def _not_picklable(value: Any, names: Sequence[str], error: Exception) -> TypeError:
    """The error to raise: which part of `value` is to blame, what it is, and what pickle said."""
    path, part = diagnosis.find(value, names, _picklable)
    kind = type(part)
    shown = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if shown[:1] in "aeiouAEIOU" else "a"
    return TypeError(f"Could not serialize {path} ({article} {shown}): {error}")


def _found(value: Any, names: Sequence[str], error: IPyRemoteError) -> IPyRemoteError:
    """The error of a ref or handle, with a note of where in `value` that is."""
    path, _ = diagnosis.find(value, names, _picklable)
    error.add_note(f"It was found in {path}.")
    return error


def _without_picklers(error: Exception) -> Exception:
    """The error that pickling raised, without the frames of the picklers, which tell a user nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, _PICKLER_FILE):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _picklable(part: Any) -> bool:
    return why_not(part) is None


def why_not(part: Any) -> Exception | None:
    """Why a value cannot be pickled; None: it can."""
    left_out: list[pickle.PickleBuffer] = []
    with collecting():
        try:
            head = _dumps_reduced(part, _PROTOCOL, buffer_callback=left_out.append)
            by_value = b"__main__" in head or _by_value_modules()
        except Exception:  # user code raised it; so does the next line, if it is to blame
            by_value = True
        try:
            if by_value:
                _ByValuePickler(io.BytesIO(), left_out.append).dump(part)
        except Exception as problem:  # the answer
            return problem
    return None
