"""`ObjectRef`: a name for a value that a task will make, or that `put` has stored.

A ref is an id with its backend and a label for people; it never holds the value. Rules. Equality and hash are those of
the id, so a ref is a fine dictionary key, and no operator compares values. Arithmetic and `ref[key]` submit a small
task and return a *deferred* ref: a task that returns one resolves to its value, whereas any other ref that a task
returns, or that is inside a value, is a value itself. `__del__` only appends an id to a queue of the backend.
"""

from __future__ import annotations

import operator
import secrets
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NoReturn, TypeVar

from ipyremote.backend import Backend, IdKind, TaskOptions, current
from ipyremote.declare.exports import Export
from ipyremote.exceptions import ObjectLostError
from ipyremote.ids import NOBODY, ActorId, Identifier, ObjectId, TaskId, client_of, digits_of

__all__ = ["ObjectRef", "id_for"]

T_co = TypeVar("T_co", covariant=True)

_DEFERRED = TaskOptions(deferred=True)
#: Bytes of an object id, a task id and a job id, as in Ray.
_OBJECT_BYTES = 28


class ObjectRef(Generic[T_co]):
    """The name of a value that a task will make or has made. `get(ref)` and `await ref` give the value.

    A ref can be passed to tasks, which get the value, and be part of other values. Arithmetic and `ref[key]` submit a
    small task. The value lives as long as any ref of it. As a type, `ObjectRef[T]` names a value of type `T`.

    Examples
    --------
    >>> @ray.remote
    ... def primes():
    ...     return [2, 3, 5, 7]
    >>> ref = primes.remote()
    >>> ref
    ObjectRef(primes#1)
    >>> ray.get(ref[1] + 10)
    13
    """

    __slots__ = ("__weakref__", "_actor", "_backend", "_deferred", "_id", "_label", "_task")

    #: The object's id; 0 for the nil ref.
    _id: ObjectId
    #: The session of the object; None for the nil ref and random ones.
    _backend: Backend | None
    #: `name#number`, for people.
    _label: str
    #: Whether a task that returns this ref resolves to the ref's value.
    _deferred: bool
    #: Id of the task that makes the object (not the object's id for the second and later returns).
    _task: TaskId
    #: Id of the actor whose method makes the object; 0: no actor.
    _actor: ActorId

    def __init__(
        self,
        any_id: ObjectId,
        backend: Backend | None,
        label: str,
        deferred: bool = False,
        task: TaskId = NOBODY,
        actor: ActorId = NOBODY,
    ) -> None:
        """Take over one hold of `any_id`; `backend.hold` gives out further ones. Not for users."""
        self._id = any_id
        self._backend = backend
        self._label = label
        self._deferred = deferred
        self._task = task or any_id
        self._actor = actor

    def __del__(self) -> None:
        # When __init__ never ran there is no field, and the nil ref has no backend. Not contextlib: it costs a call.
        try:
            self._backend.release(self._id)  # type: ignore[union-attr]
        except AttributeError:
            return

    # ---- identity

    def hex(self) -> str:
        """Return 56 hexadecimal digits that name the object among those of all sessions."""
        return _digits(self, "object", self._id)

    def binary(self) -> bytes:
        """Return the 28 bytes of `hex`."""
        return bytes.fromhex(self.hex())

    def is_nil(self) -> bool:
        """Return whether this ref names no object."""
        return self._id == 0

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return a ref that names no object."""
        return cls(NOBODY, None, "nil")

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """Return a ref of no object, unlike every other ref."""
        return cls(ObjectId(secrets.randbits(62) | 1 << 62), None, "random")

    @classmethod
    def size(cls) -> int:
        """Return the number of bytes of an id."""
        return _OBJECT_BYTES

    def task_id(self) -> Identifier:
        """Return the id of the task that makes the value."""
        return Identifier("TaskID", _digits(self, "task", self._task))

    def job_id(self) -> Identifier:
        """Return the id of the session."""
        return Identifier("JobID", _digits(self, "job", 0))

    def owner_address(self) -> bytes:
        """Return the number of the process that made the ref, as 8 bytes."""
        return client_of(self._id).to_bytes(8, "big")

    def call_site(self) -> str:
        """Return an empty string: the line of code that makes a ref is not recorded."""
        return ""

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, ObjectRef) and other._id == self._id and _key(other) == _key(self)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"ObjectRef({self._label})"

    # ---- waiting for the value

    def future(self) -> Future[T_co]:
        """Return a `concurrent.futures.Future` of the value. Cancelling the future does not cancel the task."""
        backend = owner(self)
        future: Future[T_co] = Future()

        def settle(any_id: ObjectId) -> None:
            # The closure holds the ref, so the value lives until here. False: the future was cancelled.
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = backend.get((self._id,))[0]
            except Exception as error:  # It belongs to whoever asks the future, not to this thread.
                future.set_exception(error)
            else:
                future.set_result(value)

        backend.on_ready(self._id, settle)
        return future

    def as_future(self) -> Any:
        """Return an asyncio future of the value. Deprecated: use `await ref` or `asyncio.wrap_future(ref.future())`."""
        warnings.warn("as_future() is deprecated: await the ref itself", DeprecationWarning, stacklevel=2)
        import asyncio  # not at the top: it is a quarter of what `import ipyremote` would take

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._wait_value().__await__()

    async def _wait_value(self) -> T_co:
        backend = owner(self)
        if not backend.is_ready(self._id):
            await until_ready(backend, self._id)
        value: T_co = backend.get((self._id,))[0]
        return value

    def _on_completed(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(value)`, or `callback(error)`, once there is one, on any thread."""
        backend = owner(self)

        def settle(any_id: ObjectId) -> None:
            try:
                outcome = backend.get((self._id,))[0]
            except Exception as error:  # Handed on.
                outcome = error
            callback(outcome)

        backend.on_ready(self._id, settle)

    # ---- pickling and copying

    def __reduce__(self) -> tuple[Any, ...]:
        if self._backend is None:
            return (_rebuild, ("", self._id, self._label, self._task, self._actor))
        backend = owner(self)
        exported = backend.export_ref(self._id)
        return (_rebuild, (backend.key, exported, self._label, self._task, self._actor))

    def __copy__(self) -> ObjectRef[T_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ObjectRef[T_co]:
        return self

    # ---- what refs are not

    def __iter__(self) -> NoReturn:
        # Without this method Python would iterate by ref[0], ref[1], ... for ever.
        raise TypeError(
            f"{self!r} is not iterable: it stands for one value. Take the value with get(ref), or let the task "
            "return several refs with num_returns=N."
        )

    # ---- operators: each is a task, and its ref is deferred

    # An array or data frame on the left leaves the operator to the ref, instead of taking the ref for an element.
    __array_ufunc__ = None
    __pandas_priority__ = 10_000

    def __add__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_ADD, self, other)

    def __radd__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_ADD, other, self)

    def __sub__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_SUB, self, other)

    def __rsub__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_SUB, other, self)

    def __mul__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MUL, self, other)

    def __rmul__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MUL, other, self)

    def __truediv__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_TRUEDIV, self, other)

    def __rtruediv__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_TRUEDIV, other, self)

    def __floordiv__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_FLOORDIV, self, other)

    def __rfloordiv__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_FLOORDIV, other, self)

    def __mod__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MOD, self, other)

    def __rmod__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MOD, other, self)

    def __pow__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_POW, self, other)

    def __rpow__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_POW, other, self)

    def __matmul__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MATMUL, self, other)

    def __rmatmul__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_MATMUL, other, self)

    def __and__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_AND, self, other)

    def __rand__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_AND, other, self)

    def __or__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_OR, self, other)

    def __ror__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_OR, other, self)

    def __xor__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_XOR, self, other)

    def __rxor__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_XOR, other, self)

    def __lshift__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_LSHIFT, self, other)

    def __rlshift__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_LSHIFT, other, self)

    def __rshift__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_RSHIFT, self, other)

    def __rrshift__(self, other: Any) -> ObjectRef[Any]:
        return _submit(_RSHIFT, other, self)

    def __neg__(self) -> ObjectRef[Any]:
        return _submit(_NEG, self)

    def __pos__(self) -> ObjectRef[Any]:
        return _submit(_POS, self)

    def __abs__(self) -> ObjectRef[Any]:
        return _submit(_ABS, self)

    def __invert__(self) -> ObjectRef[Any]:
        return _submit(_INVERT, self)

    def __getitem__(self, key: Any) -> ObjectRef[Any]:
        return _submit(_GETITEM, self, key)


def _export(fn: Callable[..., Any]) -> Export:
    return Export(fn, fn.__name__.strip("_"))


_ADD = _export(operator.add)
_SUB = _export(operator.sub)
_MUL = _export(operator.mul)
_TRUEDIV = _export(operator.truediv)
_FLOORDIV = _export(operator.floordiv)
_MOD = _export(operator.mod)
_POW = _export(operator.pow)
_MATMUL = _export(operator.matmul)
_AND = _export(operator.and_)
_OR = _export(operator.or_)
_XOR = _export(operator.xor)
_LSHIFT = _export(operator.lshift)
_RSHIFT = _export(operator.rshift)
_NEG = _export(operator.neg)
_POS = _export(operator.pos)
_ABS = _export(operator.abs)
_INVERT = _export(operator.invert)
_GETITEM = _export(operator.getitem)


def _submit(export: Export, *args: Any) -> ObjectRef[Any]:
    """Submit the task of one operator, and return its deferred ref."""
    for arg in args:
        if isinstance(arg, ObjectRef):
            backend = owner(arg)
    first, label = backend.submit(export.to(backend), args, {}, _DEFERRED)
    return ObjectRef(first, backend, label, True)


# ---- which session a ref belongs to


def _digits(ref: ObjectRef[Any], kind: IdKind, any_id: int) -> str:
    """Return the hexadecimal digits of an id that a ref names; those of no session for a ref without one."""
    backend = ref._backend
    return digits_of("", kind, any_id) if backend is None else backend.hex_of(kind, any_id)


def _key(ref: ObjectRef[Any]) -> str:
    return ref._backend.key if ref._backend is not None else ""


def owner(ref: Any) -> Backend:
    """Return the running session of a ref or generator. Raises ObjectLostError for one of another session."""
    backend: Backend | None = ref._backend
    if backend is not None and backend is current.peek():
        return backend
    raise foreign(ref)


def id_for(ref: ObjectRef[Any], backend: Backend) -> ObjectId:
    """Return the id of a ref that `backend` is about to use. Raises ObjectLostError for a ref of another session."""
    if ref._backend is backend:
        return ref._id
    raise foreign(ref)


_id_of = operator.attrgetter("_id")
_backend_of = operator.attrgetter("_backend")


def ids_for(many: Sequence[Any], backend: Backend) -> list[ObjectId]:
    """Return the ids of refs that `backend` is about to use. Raises ObjectLostError for a ref of another session."""
    if set(map(_backend_of, many)) - {backend}:
        raise foreign(next(ref for ref in many if ref._backend is not backend))
    return list(map(_id_of, many))


def foreign(ref: Any) -> ObjectLostError:
    """Return the error for the use of a ref, or of a generator of refs, whose session is not the running one."""
    if ref._backend is None:
        return ObjectLostError(f"{ref!r} names no object.")
    return ObjectLostError(
        f"{ref!r} belongs to a session that was shut down, or to the process that this one was forked from: its value "
        "is lost. Submit the task again in the running session."
    )


def _rebuild(key: str, exported: Any, label: str, task: TaskId, actor: ActorId) -> ObjectRef[Any]:
    """Unpickle a ref, which is one more holder in this process. A ref from inside a value is never deferred."""
    if not key:
        return ObjectRef(exported, None, label)
    backend = current.peek()
    if backend is None or backend.key != key:
        raise ObjectLostError(
            f"ObjectRef({label}) belongs to another session than the one running here, so its value cannot be had."
        )
    return ObjectRef(backend.import_ref(exported), backend, label, False, task, actor)


def refs_of(
    first: TaskId, label: str, backend: Backend, options: TaskOptions, actor: ActorId = NOBODY
) -> ObjectRef[Any] | list[ObjectRef[Any]] | None:
    """Return the result of `.remote()` for a task whose first return has the id `first`."""
    count = options.returns
    if count == 1:
        return ObjectRef(first, backend, label, options.deferred, first, actor)
    if count == 0:
        return None
    return [
        ObjectRef(first + i, backend, f"{label}[{i}]", False, first, actor)  # type: ignore[arg-type]  # an id plus an index is an id
        for i in range(count)
    ]


async def until_ready(backend: Backend, any_id: ObjectId) -> None:
    """Wait in the running event loop until an object, or the next item of a stream, is there."""
    import asyncio  # not at the top: it is a quarter of what `import ipyremote` would take

    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake(any_id: ObjectId) -> None:
        # A loop that was closed meanwhile has nobody left to wake.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    backend.on_ready(any_id, wake)
    await ready
