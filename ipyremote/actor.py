"""Actors: the decorated class, handles of its instances, and their methods.

A handle is the id of an actor with a table of the methods that its class has, made when the class was decorated, so a
handle knows what can be called without knowing the class, in any process. An actor's id is also the id of the object
that stands for its creation.

Rules. Creating an actor and calling a method never wait. What is wrong with a call is said where the call stands: an
unknown method is an AttributeError, a wrong argument count a TypeError. A handle that is dropped, like a ref, only
appends its id to a queue of its backend. A weak one, such as `get_actor` gives, holds nothing: the actor may end while
it is there. Only creating an actor with a name waits, for the answer whether the name is free.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from ipyremote.backend import ActorOptions, Backend, Exported, NamedHandle, TaskOptions, current, required
from ipyremote.backend.current_task import exit_actor
from ipyremote.declare.call_limit import PendingCalls
from ipyremote.declare.exports import Export
from ipyremote.declare.methods import ActorRecord, MethodRecord, is_async, method, record_of
from ipyremote.declare.options import (
    ACTOR_OPTIONS,
    METHOD_OPTIONS,
    actor_options,
    check_group,
    check_options,
    check_stream,
    method_options,
    settled,
)
from ipyremote.declare.signatures import parameters_of_class
from ipyremote.exceptions import (
    ActorAlreadyExistsError,
    ActorClassInheritanceException,
    ActorHandleNotFoundError,
)
from ipyremote.refs import ObjectRef, refs_of
from ipyremote.streams import ObjectRefGenerator, stream_of

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]


class ActorClass:
    """A class whose instances live in processes of their own: `A.remote(...)` starts one and returns its handle."""

    # Pickled by default: an empty instance first, then its dictionary, since the class may refer to this very object.

    def __init__(self, cls: type, given: Mapping[str, Any]) -> None:
        """Made by `@remote`; `given` are checked options."""
        self._export = Export(cls, cls.__name__)
        self._given = settled(given)
        self._parameters = parameters_of_class(cls)
        self._creation, self._actor = actor_options(self._given, cls.__name__, is_async=is_async(cls))
        self._record = _record(cls, self._actor)
        functools.update_wrapper(self, cls, updated=())

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Start an actor without waiting. Raises TypeError when the arguments do not fit `__init__`."""
        return self._start(args, kwargs, self._creation, self._actor, self._record)

    def options(self, **given: Any) -> ConfiguredActorClass:
        """The same class with other options; only `.remote` can be used on it."""
        if "concurrency_groups" in given:
            raise ValueError(
                "concurrency_groups belongs to the class itself: give it to @remote, not to .options()"
            )
        check_options(given, ACTOR_OPTIONS, "an actor")
        return ConfiguredActorClass(self, {**self._given, **settled(given)})

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Task graphs are not there."""
        raise NotImplementedError(
            "bind: task graphs made ahead are not there; call .remote() and pass refs along"
        )

    def _start(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        creation: TaskOptions,
        actor: ActorOptions,
        record: ActorRecord,
    ) -> ActorHandle:
        parameters = self._parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        backend = current.backend()
        exported = self._export.to(backend)
        if actor.name or actor.get_if_exists:
            return _start_named(backend, exported, args, kwargs, creation, actor, record)
        actor_id, label = backend.create_actor(exported, args, kwargs, creation, actor)
        return ActorHandle(actor_id, backend, label, record)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._export.name
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise ActorClassInheritanceException(
            f"{self._export.name} is an actor class and cannot be inherited from. Inherit from the plain class, and "
            "decorate both: Sub = remote(PlainSub)."
        )

    def __getattr__(self, name: str) -> Any:
        # Constants and static methods of the class; the rest is an instance's, which is elsewhere.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._export.target, name)

    def __repr__(self) -> str:
        return f"ActorClass({self._export.name})"


class ConfiguredActorClass:
    """An actor class with the options of one `.options(...)`."""

    def __init__(self, base: ActorClass, given: dict[str, Any]) -> None:
        name = base._record.class_name
        self._base = base
        self._given = given
        cls: Any = base._export.target
        self._creation, self._actor = actor_options(given, name, is_async=is_async(cls))
        self._record = base._record
        if (self._actor.max_task_retries, self._actor.max_pending_calls) != (
            base._record.max_task_retries,
            base._record.max_pending_calls,
        ):
            self._record = _record(cls, self._actor)

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Start an actor without waiting."""
        return self._base._start(args, kwargs, self._creation, self._actor, self._record)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Task graphs are not there."""
        self._base.bind()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._base()

    def __repr__(self) -> str:
        return f"{self._base!r} with other options"


def _record(cls: type, actor: ActorOptions) -> ActorRecord:
    groups = tuple(name for name, _ in actor.groups)
    return record_of(cls, actor.max_task_retries, actor.max_pending_calls, groups)


def _start_named(
    backend: Backend,
    exported: Exported,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    creation: TaskOptions,
    actor: ActorOptions,
    record: ActorRecord,
) -> ActorHandle:
    """An actor with a name: asked for, and answered."""
    if not actor.name:
        raise ValueError("get_if_exists=True needs to know which one: give a name, too.")
    named_actors = required(backend.named_actors, backend.capabilities.named_actors)
    named, created = named_actors.create(exported, args, kwargs, creation, actor, record)
    if created:
        return ActorHandle(named.actor_id, backend, named.label, record)
    if actor.get_if_exists:
        return weak_handle(named, backend)
    raise ActorAlreadyExistsError(
        f"The name {named.name!r} (namespace={named.namespace!r}) is already taken. Please use a different name, or "
        f"get the existing actor by get_actor({named.name!r}, namespace={named.namespace!r})."
    )


def weak_handle(named: NamedHandle, backend: Backend) -> ActorHandle:
    """A handle of a named actor that does not keep it alive."""
    return ActorHandle(named.actor_id, backend, named.label, named.record, weak=True)


class ActorHandle:
    """An actor to call methods of: `handle.name.remote(...)`. Can be passed anywhere a value can."""

    __slots__ = ("__weakref__", "_backend", "_id", "_label", "_pending", "_record", "_weak")

    def __init__(
        self, actor_id: int, backend: Backend, label: str, record: ActorRecord, *, weak: bool = False
    ) -> None:
        """Take over one hold of `actor_id`, unless it is weak. Not for users."""
        self._weak = weak
        self._pending = PendingCalls(record.max_pending_calls) if record.max_pending_calls else None
        self._id = actor_id
        self._backend = backend
        self._label = label
        self._record = record

    def __del__(self) -> None:
        # When __init__ never ran there is no field.
        try:
            if not self._weak:
                self._backend.release(self._id)
        except AttributeError:
            return

    def __getattr__(self, name: str) -> ActorMethod:
        record = _record_of(self)
        found = record.methods.get(name)
        if found is None:
            raise AttributeError(f"{record.class_name!r} actor has no method {name!r}")
        return ActorMethod(self, found, found.options)

    def __dir__(self) -> list[str]:
        return sorted({*_record_of(self).methods, *object.__dir__(self)})

    def __repr__(self) -> str:
        return f"Actor({self._label})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and (other._id, other._backend.key) == (
            self._id,
            self._backend.key,
        )

    def __hash__(self) -> int:
        return hash(self._id)

    def __reduce__(self) -> tuple[Any, ...]:
        backend = owner(self)
        exported = backend.export_ref(self._id, weak=self._weak)
        return (_rebuild_handle, (backend.key, exported, self._label, self._record, self._weak))

    def __copy__(self) -> ActorHandle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ActorHandle:
        return self


def _record_of(handle: ActorHandle) -> ActorRecord:
    # Not `handle._record`: on a handle whose __init__ never ran that would ask __getattr__ again, for ever.
    record: ActorRecord = object.__getattribute__(handle, "_record")
    return record


def owner(handle: ActorHandle) -> Backend:
    """The running session of a handle. Raises ActorHandleNotFoundError when that has ended, or is another process's."""
    backend = handle._backend
    if backend is current.peek():
        return backend
    raise ActorHandleNotFoundError(
        f"{handle!r} belongs to a session that was shut down, or to the process that this one was forked from. "
        "Start the actor again in the running session."
    )


def _rebuild_handle(
    key: str, exported: Any, label: str, record: ActorRecord, weak: bool = False
) -> ActorHandle:
    """Unpickles a handle: a further holder in this process, unless it is weak, which it stays."""
    backend = current.peek()
    if backend is None or backend.key != key:
        raise ActorHandleNotFoundError(
            f"Actor({label}) belongs to another session than the one running here, so it cannot be called."
        )
    actor_id = backend.import_ref(exported, weak=weak)
    return ActorHandle(actor_id, backend, label, record, weak=weak)


class ActorMethod:
    """A method of one actor: `.remote(...)` calls it, `.options(...)` changes how."""

    __slots__ = ("_handle", "_options", "_record")

    def __init__(self, handle: ActorHandle, record: MethodRecord, options: TaskOptions) -> None:
        self._handle = handle
        self._record = record
        self._options = options

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it without waiting. Returns a ref; of a generator an `ObjectRefGenerator`.

        As `num_returns` says, it is a list of refs or None instead.
        """
        handle = self._handle
        record = self._record
        backend = handle._backend
        if current.peek() is not backend:
            owner(handle)
        parameters = record.parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        options = self._options
        class_name = handle._record.class_name
        if handle._pending is not None:
            return self._call_limited(handle._pending, args, kwargs)
        first, label = backend.call(handle._id, class_name, record.name, args, kwargs, options)
        if options.stream:
            return stream_of(first, label, backend, options, handle._id)
        if options.returns == 1:
            return ObjectRef(first, backend, label, False, first, handle._id)
        return refs_of(first, label, backend, options, handle._id)

    def _call_limited(self, pending: PendingCalls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a handle with `max_pending_calls`."""
        handle, record, options = self._handle, self._record, self._options
        class_name, backend = handle._record.class_name, handle._backend
        pending.admit(backend, f"{class_name}.{record.name}")
        # One without returns ends unheard, so it is given one.
        heard = options if options.returns else replace(options, returns=1)
        first, label = backend.call(handle._id, class_name, record.name, args, kwargs, heard)
        if options.stream:
            given = stream_of(first, label, backend, options, handle._id)
            # Not the generator, whose items would be kept.
            pending.add(first, given.completed() if isinstance(given, ObjectRefGenerator) else given, backend)
            return given
        refs = refs_of(first, label, backend, heard, handle._id)
        pending.add(first, refs, backend)
        return refs if options.returns else None

    def options(self, **given: Any) -> ActorMethod:
        """The same method with other options for its calls; see `METHOD_OPTIONS`."""
        check_options(given, METHOD_OPTIONS, "a method")
        record = self._record
        merged = {**record.given, **given}
        check_group(merged.get("concurrency_group") or "", self._handle._record.groups, record.name)
        check_stream(merged, record.name, is_generator=record.generator is not False)
        retries = self._handle._record.max_task_retries
        options = method_options(merged, retries, is_generator=bool(record.generator))
        return ActorMethod(self._handle, record, options)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Task graphs are not there."""
        raise NotImplementedError(
            "bind: task graphs made ahead are not there; call .remote() and pass refs along"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._record.name
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'handle.{name}()', "
            f"try 'handle.{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._handle._label}.{self._record.name})"
