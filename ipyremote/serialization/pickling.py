"""Conversion of Python objects to bytes and back: the only module that knows pickle and cloudpickle.

Values. `dumps` returns a `Pickled`: the pickle (protocol 5), its out-of-band buffers, and the ids of the refs inside.
The buffers are windows into the user's own objects, so the caller copies the buffers (`joined` or the store) before
user code runs again. An unpickled object is read-only where its memory is such a buffer.

The C pickler is tried first. cloudpickle is several times slower, and is used when the C pickler fails (lambdas, local
classes) or when the pickle names `__main__`: a notebook's functions and classes exist in no worker's `__main__`, so
they are pickled by value.

Functions. The payload of `dumps_function` is the pickle of

    (sources, preparations, body)    sources: {co_filename: (shown name, source text)} of interactive code
                                     preparations: functions to call before the body is unpickled
                                     body: cloudpickle of the function or class, everything in-band

The sources let tracebacks in workers show the lines of the notebook's cells. Pickling an unchanged function again gives
the same payload within a process, and thereby the same digest.
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
from ipyremote.ids import ObjectId
from ipyremote.serialization import diagnosis
from ipyremote.serialization.nested_refs import collect, collecting, here

__all__ = [
    "INLINE_LIMIT",
    "Pickled",
    "PickledOnce",
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

#: Maximum `inline_size` of a value inside a message, in bytes; larger values go to the store.
INLINE_LIMIT: Final = 100 * 1024
#: Alignment of the pickle and the buffers inside `Inline.data`, in bytes.
_ALIGNMENT: Final = 16
_PROTOCOL: Final = 5

#: Maximum length of the source text of one file in a payload, in characters; a longer text is left out.
_SOURCE_LIMIT: Final = 256 * 1024
#: Maximum length of the source texts of all files in one payload, in characters.
_SOURCES_LIMIT: Final = 1024 * 1024

Sources: TypeAlias = dict[str, tuple[str, str]]

#: Classes that were defined in this process and pickled by value.
_own_classes: WeakSet[type] = WeakSet()
#: Classes that were defined in another process and unpickled by value in this one.
_received_classes: WeakSet[type] = WeakSet()

#: Reducer of the instances of each class given to `register`.
_reducers: dict[type, Any] = {}
#: Dispatch table of cloudpickle's pickler, with the registered reducers; `_c_dispatch_table` is the C pickler's.
dispatch_table: Final = ChainMap(_reducers, *cloudpickle.Pickler.dispatch_table.maps)
_c_dispatch_table: Final[ChainMap[type, Any]] = ChainMap(_reducers, copyreg.dispatch_table)

_c_dumps = pickle.dumps
_c_loads = pickle.loads
_PICKLER_FILE: Final = cloudpickle.Pickler.dump.__code__.co_filename
_by_value_modules = cloudpickle.list_registry_pickle_by_value


class Slot:
    """Placeholder of a top-level ref in pickled arguments, to be replaced by the value of dependency `index`."""

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
    """A pickled value. `buffers` are windows into the value: copy the buffers before user code can change the value."""

    __slots__ = ("buffers", "head", "refs")

    def __init__(self, head: bytes, buffers: list[memoryview], refs: tuple[ObjectId, ...]) -> None:
        #: The pickle without its out-of-band buffers.
        self.head = head
        #: Out-of-band buffers, flat and contiguous, in the order in which the pickle refers to them.
        self.buffers = buffers
        #: Ids of the objects and actors inside the value, in order of appearance, each once.
        self.refs = refs

    @property
    def size(self) -> int:
        """Total size of the pickle and its buffers without padding, in bytes."""
        return len(self.head) + sum(buffer.nbytes for buffer in self.buffers)


class PickledOnce:
    """A value together with its pickle, so that the value is pickled only once.

    The pickle of an instance contains the value's pickle, and unpickling returns the value itself. User code such as
    `__reduce__` therefore runs once for a value whose pickle is inspected before the value is sent.
    """

    __slots__ = ("pickled", "value")

    def __init__(self, value: Any, names: Sequence[str] = ()) -> None:
        """Pickle a value. The arguments and errors are those of `dumps`."""
        self.value = value
        self.pickled = dumps(value, names)

    def __reduce__(self) -> tuple[Any, ...]:
        for any_id in self.pickled.refs:
            collect(any_id)
        # The head becomes an out-of-band buffer of the new pickle: with `__main__` in the new pickle itself, `dumps`
        # would pickle all surrounding values again with cloudpickle.
        head = pickle.PickleBuffer(self.pickled.head)
        return _loads_parts, (head, *map(pickle.PickleBuffer, self.pickled.buffers))


def _loads_parts(head: bytes | memoryview, *buffers: bytes | memoryview) -> Any:
    return loads(head, buffers)


class Joined(Protocol):
    """A pickled value in one piece, as in a message."""

    @property
    def data(self) -> bytes:
        """The pickle and its buffers."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the pickle and of each buffer, in bytes; empty if there are no buffers."""


class _Bytes:
    """Wrapper of a large top-level bytes value that makes the bytes an out-of-band buffer, which saves two copies."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[type[bytes | bytearray], tuple[pickle.PickleBuffer]]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


_BYTES: Final = (bytes, bytearray)


class _ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """cloudpickle's pickler, extended to remember the files of the code that it pickles."""

    dispatch_table = dispatch_table

    def __init__(
        self, file: io.BytesIO, leave_out: Callable[[pickle.PickleBuffer], object] | None = None
    ) -> None:
        super().__init__(file, protocol=_PROTOCOL, buffer_callback=leave_out)
        #: Files of the pickled code; a dict, because the order must be the same in each payload of a function.
        self.files: dict[str, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            self.files[obj.co_filename] = None
            # cloudpickle 3.1.3 gives all code the file name "<dynamic-code>", so the real name is restored by `_code`.
            # `join` makes a new string each time: two names that are one object would change the bytes of the pickle.
            return _code, ("".join(obj.co_filename), *self.dispatch_table[CodeType](obj))
        if kind is functools._lru_cache_wrapper and obj.__module__ == "__main__":
            # cloudpickle would pickle the cached function by its name, which no worker's __main__ has.
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == 6:
            return _class_by_value(obj, *reduced)
        return reduced


def _code(filename: str, make: Callable[..., CodeType], args: tuple[Any, ...]) -> CodeType:
    """Return unpickled code with its original file name, so that tracebacks show its lines."""
    return make(*args).replace(co_filename=filename)


def _class_by_value(
    cls: type, make: Any, args: Any, state: tuple[dict[str, Any], Any], items: Any, pairs: Any, set_state: Any
) -> tuple[Any, ...]:
    """Return the reduction of a class that is pickled by value, made from cloudpickle's reduction of the class."""
    if cls not in _received_classes:
        _own_classes.add(cls)
    # `__slotnames__` is a cache that pickle adds to the class with the first pickled instance. The payload of an
    # unchanged class must not change with the cache.
    state[0].pop("__slotnames__", None)
    return make, args, (set_state, state), items, pairs, _set_class_state


def _set_class_state(cls: type, setting: tuple[Callable[[type, Any], object], Any]) -> type:
    """Set the attributes of an unpickled class, unless the class was defined in this process.

    cloudpickle returns the existing class if this process has the class already, and then resets its attributes to the
    values at the time of pickling. The reset is right for a class from another process, which must follow its original.
    The reset is wrong for the original itself: an instance that returns to its process would undo changes to its class.
    """
    if cls not in _own_classes:
        _received_classes.add(cls)
        set_state, state = setting
        set_state(cls, state)
    return cls


def _cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Return the function with a new, empty `lru_cache` that has the parameters of the notebook's definition."""
    return functools.lru_cache(**parameters)(fn)


# ----------------------------------------------------------------------------------------------------- values


def dumps(value: Any, names: Sequence[str] = ()) -> Pickled:
    """Pickle a value, with its large buffers out-of-band.

    `names` are the names of the elements of the tuple `value` in an error message, such as ("args", "kwargs"). Raises
    a TypeError that names the part that cannot be pickled.
    """
    if type(value) in _BYTES and len(value) > INLINE_LIMIT:
        value = _Bytes(value)
    outer = here.ids
    ids: list[ObjectId] = []
    here.ids = ids
    left_out: list[pickle.PickleBuffer] = []
    try:
        head = (_dumps_reduced if _reducers else _c_dumps)(value, _PROTOCOL, buffer_callback=left_out.append)
        by_value = b"__main__" in head or _by_value_modules()
    except Exception:  # user code may raise anything; cloudpickle is tried next and reports its own error
        by_value = True
    finally:
        here.ids = outer
    if by_value:
        ids, left_out = [], []
        head = _dumps_by_value(value, names, ids, left_out)
    buffers = [buffer.raw() for buffer in left_out] if left_out else []
    return Pickled(head, buffers, tuple(dict.fromkeys(ids)) if ids else ())


def register(cls: type, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """Pickle instances of this class as the result of `serializer`, which `deserializer` turns back, from now on."""
    _reducers[cls] = lambda instance: (deserializer, (serializer(instance),))


def deregister(cls: type) -> None:
    """Undo `register`."""
    _reducers.pop(cls, None)


def _dumps_reduced(
    value: Any, protocol: int, *, buffer_callback: Callable[[pickle.PickleBuffer], object]
) -> bytes:
    """Return `pickle.dumps(value)` with the reducers of registered classes in effect."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = _c_dispatch_table
    pickler.dump(value)
    return file.getvalue()


def dumps_whole(value: Any) -> Pickled:
    """Pickle a value with everything in-band, for data that is neither shared nor large."""
    pickled = dumps(value)
    if not pickled.buffers:
        return pickled
    ids: list[ObjectId] = []
    head = _dumps_by_value(value, (), ids, None)
    return Pickled(head, [], tuple(dict.fromkeys(ids)))


def _dumps_by_value(
    value: Any, names: Sequence[str], ids: list[ObjectId], left_out: list[pickle.PickleBuffer] | None
) -> bytes:
    file = io.BytesIO()
    with collecting() as collected:
        try:
            _ByValuePickler(file, None if left_out is None else left_out.append).dump(value)
        except IPyRemoteError as error:
            # A ref or handle inside cannot be used here. The value could be pickled otherwise, so the error is kept.
            raise _found(value, names, error) from None
        except Exception as error:  # the pickle hooks of user code may raise anything
            raise _not_picklable(value, names, error) from _without_picklers(error)
    ids.extend(collected)
    return file.getvalue()


def loads(head: bytes | memoryview, buffers: Sequence[bytes | memoryview] = ()) -> Any:
    """Return the value of a pickle and its buffers. The value keeps each buffer that it uses alive."""
    return _c_loads(head, buffers=buffers)


def inline_size(pickled: Pickled) -> int:
    """Return the length of `Inline.data` for a pickled value, in bytes."""
    size = len(pickled.head)
    for buffer in pickled.buffers:
        size += -size % _ALIGNMENT + buffer.nbytes
    return size


def joined(pickled: Pickled) -> tuple[bytes, tuple[int, ...]]:
    """Join the parts of a pickled value into (bytes, sizes of the parts), in the format of `messages.Inline`."""
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
    """Return the value whose parts `joined` has put in one piece. Arrays are read-only windows into `value.data`."""
    sizes = value.sizes
    if not sizes:
        return _c_loads(value.data)
    # The data of a bytes object begins at a multiple of 16, so each buffer inside the data does, too.
    data = memoryview(value.data)
    start = 0
    parts = []
    for size in sizes:
        parts.append(data[start : start + size])
        start += size + -size % _ALIGNMENT
    return _c_loads(parts[0], buffers=parts[1:])


# -------------------------------------------------------------------------------------------------- functions


def dumps_function(fn: Callable[..., Any]) -> tuple[bytes, tuple[ObjectId, ...]]:
    """Pickle a function or class, and return (payload, ids of the refs that the function closes over).

    A function of `__main__` is pickled by value, with the globals that it uses. An importable function is pickled by
    name. Raises a TypeError that names the part that cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _ByValuePickler(file)
    with collecting() as ids:
        try:
            pickler.dump(fn)
        except IPyRemoteError as error:
            raise _found(fn, (), error) from None
        except Exception as error:  # the pickle hooks of user code may raise anything
            raise _not_picklable(fn, (), error) from _without_picklers(error)
    payload = pickle.dumps(
        (_sources_of(pickler.files), tuple(_before_loading.values()), file.getvalue()), _PROTOCOL
    )
    return payload, tuple(dict.fromkeys(ids))


#: Functions to call before a function from this process is unpickled, by the key given to `before_loading`.
_before_loading: dict[str, Callable[[], object]] = {}


def before_loading(what: str, prepare: Callable[[], object] | None) -> None:
    """Make each process that unpickles a function from this process call `prepare` first.

    `prepare` must be picklable. None removes the function that was set for the key `what`.
    """
    if prepare is None:
        _before_loading.pop(what, None)
    else:
        _before_loading[what] = prepare


def loads_function(payload: bytes) -> Any:
    """Return the function or class of a payload from `dumps_function`, and make its source known to tracebacks."""
    sources, preparations, body = _c_loads(payload)
    for prepare in preparations:
        prepare()
    for filename, (shown, text) in sources.items():
        tracebacks.register_source(filename, shown, text)
    return _c_loads(body)


def digest(payload: bytes) -> bytes:
    """Return the 16 bytes that identify a payload."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def _sources_of(files: dict[str, None]) -> Sources:
    """Return shown name and text of each file that exists in this process only: cells, doctests, input of a prompt."""
    sources: Sources = {}
    total = 0
    for filename in files:
        if os.path.exists(filename):
            continue
        text = "".join(linecache.getlines(filename))
        if not text or len(text) > _SOURCE_LIMIT or total + len(text) > _SOURCES_LIMIT:
            continue
        total += len(text)
        # A worker that passes a function on has received the notebook's name of the cell with the function.
        shown = tracebacks.display_name(filename) or tracebacks.received_names().get(filename)
        # Reuse the object `filename` where the names are equal: pickle writes an equal, different object differently.
        sources[filename] = (filename if shown in (None, filename) else shown, text)
    return sources


# ----------------------------------------------------------------------------------------------------- errors


def _not_picklable(value: Any, names: Sequence[str], error: Exception) -> TypeError:
    """Return the error to raise: the part of `value` that is to blame, its type, and the message of pickle's error."""
    path, part = diagnosis.find(value, names, _picklable)
    kind = type(part)
    shown = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if shown[:1] in "aeiouAEIOU" else "a"
    return TypeError(f"Could not serialize {path} ({article} {shown}): {error}")


def _found(value: Any, names: Sequence[str], error: IPyRemoteError) -> IPyRemoteError:
    """Return the error of a ref or handle, with a note that says where in `value` the ref or handle is."""
    path, _ = diagnosis.find(value, names, _picklable)
    error.add_note(f"The ref or handle was found in {path}.")
    return error


def _without_picklers(error: Exception) -> Exception:
    """Return the error that pickling raised without the frames of the picklers, which do not help a user."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, _PICKLER_FILE):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _picklable(part: Any) -> bool:
    return why_not(part) is None


def why_not(part: Any) -> Exception | None:
    """Return the error that pickling a value raises, or None if the value can be pickled."""
    left_out: list[pickle.PickleBuffer] = []
    with collecting():
        try:
            head = _dumps_reduced(part, _PROTOCOL, buffer_callback=left_out.append)
            by_value = b"__main__" in head or _by_value_modules()
        except Exception:  # user code may raise anything; cloudpickle is tried next and reports its own error
            by_value = True
        try:
            if by_value:
                _ByValuePickler(io.BytesIO(), left_out.append).dump(part)
        except Exception as problem:  # the pickle hooks of user code may raise anything
            return problem
    return None
