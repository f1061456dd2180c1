"""`ObjectRefGenerator`: the refs of what a task yields, one after another, while it still runs.

Rules. It is an iterator and an async iterator of refs; nothing else of a generator's interface is there, since the one
that runs is in another process. It belongs to the process that made the call, and cannot be pickled. When it is
collected, the refs that nobody has taken go, and the producer is closed at its next `yield`, unless somebody holds the
`completed()` ref. Names and behaviour are Ray's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from ipyremote.backend import DYNAMIC, Backend, Streams, TaskOptions, current, required
from ipyremote.exceptions import ObjectRefStreamEndOfStreamError
from ipyremote.ids import NOBODY, ActorId, Identifier, ObjectId, TaskId
from ipyremote.refs import ObjectRef, foreign, until_ready

__all__ = ["DynamicObjectRefGenerator", "ObjectRefGenerator", "stream_of"]

T_co = TypeVar("T_co", covariant=True)


class ObjectRefGenerator(Generic[T_co]):
    """The refs of what a generator yields in another process: `for ref in gen`, `next(gen)`, `async for ref in gen`.

    `.remote()` of a generator function returns one. A step waits until the task has yielded. An exception of the task
    is raised by `get` of the last ref. `wait` takes generators among refs, and `cancel` cancels the task. As a type,
    `ObjectRefGenerator[T]` gives refs of type `ObjectRef[T]`.

    Examples
    --------
    >>> @ray.remote
    ... def count(n):
    ...     yield from range(n)
    >>> [ray.get(ref) for ref in count.remote(3)]
    [0, 1, 2]
    """

    __slots__ = ("__weakref__", "_actor", "_backend", "_id", "_label", "_task")

    #: Id under which the stream is waited for and released.
    _id: ObjectId
    _backend: Backend
    #: `name#number`, for people.
    _label: str
    _task: TaskId
    #: Id of the actor whose method yields; 0: no actor.
    _actor: ActorId

    def __init__(self, task_id: TaskId, backend: Backend, label: str, actor: ActorId = NOBODY) -> None:
        """Take over the hold of a stream. Not for users."""
        self._id = streams_of(backend).waitable(task_id)
        self._backend = backend
        self._label = label
        self._task = task_id
        self._actor = actor

    def __del__(self) -> None:
        # When __init__ never ran there is no field.
        with contextlib.suppress(AttributeError):
            self._backend.release(self._id)

    # ---- steps

    def __iter__(self) -> Iterator[ObjectRef[T_co]]:
        return self

    def __next__(self) -> ObjectRef[T_co]:
        backend = self._owner()
        while True:
            try:
                taken = streams_of(backend).take(self._task)
            except ObjectRefStreamEndOfStreamError:
                raise StopIteration from None
            if taken is not None:
                return self._ref(*taken)
            backend.wait((self._id,), 1)

    def __aiter__(self) -> AsyncIterator[ObjectRef[T_co]]:
        return self

    async def __anext__(self) -> ObjectRef[T_co]:
        backend = self._owner()
        while True:
            try:
                taken = streams_of(backend).take(self._task)
            except ObjectRefStreamEndOfStreamError:
                raise StopAsyncIteration from None
            if taken is not None:
                return self._ref(*taken)
            await until_ready(backend, self._id)

    def _ref(self, object_id: ObjectId, index: int) -> ObjectRef[T_co]:
        label = self._label if object_id == self._task else f"{self._label}[{index}]"
        return ObjectRef(object_id, self._backend, label, False, self._task, self._actor)

    # ---- questions, none of which waits

    def completed(self) -> ObjectRef[None]:
        """Return a ref that is ready when the task has ended: the value is None, or `get` raises the task's failure."""
        backend = self._owner()
        backend.hold(self._task)
        return ObjectRef(self._task, backend, self._label, False, self._task, self._actor)

    def next_ready(self) -> bool:
        """Return whether `next(gen)` gives a ref at once; False also after the last ref (see `is_finished`)."""
        backend = self._owner()
        return backend.is_ready(self._id) and not streams_of(backend).is_finished(self._task)

    def is_finished(self) -> bool:
        """Return whether the task has ended and all its refs were taken, so that `next(gen)` raises StopIteration."""
        return streams_of(self._owner()).is_finished(self._task)

    def task_id(self) -> Identifier:
        """Return the id of the task that yields."""
        return self.completed().task_id()

    def _owner(self) -> Backend:
        backend = self._backend
        if backend is current.peek():
            return backend
        raise foreign(self)

    # ---- what it is not

    def send(self, value: Any) -> NoReturn:
        """Raise NotImplementedError: the generator runs in another process."""
        self._refuse("send")

    def throw(self, *exception: Any) -> NoReturn:
        """Raise NotImplementedError: use `cancel(gen)`."""
        self._refuse("throw")

    def close(self) -> NoReturn:
        """Raise NotImplementedError: use `cancel(gen)`, or drop the generator."""
        self._refuse("close")

    async def asend(self, value: Any) -> NoReturn:
        """Raise NotImplementedError: the generator runs in another process."""
        self._refuse("asend")

    async def athrow(self, *exception: Any) -> NoReturn:
        """Raise NotImplementedError: use `cancel(gen)`."""
        self._refuse("athrow")

    async def aclose(self) -> NoReturn:
        """Raise NotImplementedError: use `cancel(gen)`, or drop the generator."""
        self._refuse("aclose")

    def _refuse(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"{name}() is not there for {self!r}: the generator runs in another process. Use cancel(gen) to stop it, "
            "and an actor to talk to a running program."
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled, so it cannot be passed to a task or returned from one. Pass the refs that it "
            "gives, or list(gen)."
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._label})"


class DynamicObjectRefGenerator:
    """The value of a task with `num_returns="dynamic"`: the refs of all that the task yielded. It can be pickled.

    Deprecated, as in Ray: with "streaming", which generator functions have by default, refs arrive while the task runs.

    Examples
    --------
    >>> import warnings
    >>> @ray.remote
    ... def letters():
    ...     yield from "ab"
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     ref = letters.options(num_returns="dynamic").remote()
    >>> ray.get(list(ray.get(ref)))
    ['a', 'b']
    """

    __slots__ = ("_refs",)

    def __init__(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self._refs = tuple(refs)

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self)} refs)"


def streams_of(backend: Backend) -> Streams:
    """Return the streams of a backend. Raises NotImplementedError where it has none."""
    return required(backend.streams, backend.capabilities.streams)


def stream_of(
    task_id: TaskId, label: str, backend: Backend, options: TaskOptions, actor: ActorId = NOBODY
) -> ObjectRef[Any] | ObjectRefGenerator[Any]:
    """Return the result of `.remote()` for a call with `options.stream`."""
    if options.stream == DYNAMIC:
        return ObjectRef(task_id, backend, label, False, task_id, actor)
    return ObjectRefGenerator(task_id, backend, label, actor)
