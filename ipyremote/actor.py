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
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, NoReturn, ParamSpec, TypeVar, overload

from ipyremote.backend import ActorOptions, Backend, Exported, NamedHandle, TaskOptions, current, required
from ipyremote.backend.current_task import exit_actor
from ipyremote.declare.call_limit import PendingCalls
from ipyremote.declare.exports import Export
from ipyremote.declare.methods import ActorRecord, MethodRecord, is_async, method, record_of
from ipyremote.declare.options import (
    ACTOR_OPTIONS,
    METHOD_OPTIONS,
    ClassOptions,
    MethodOptions,
    actor_options,
    check_group,
    check_options,
    check_stream,
    method_options,
    settled,
)
from ipyremote.declare.remote_help import documented, given_by, signature_from, signature_of
from ipyremote.declare.signatures import Parameters, parameters_of_class
from ipyremote.exceptions import (
    ActorAlreadyExistsError,
    ActorClassInheritanceException,
    ActorHandleNotFoundError,
)
from ipyremote.ids import ActorId
from ipyremote.refs import ObjectRef, refs_of
from ipyremote.streams import ObjectRefGenerator, stream_of

if TYPE_CHECKING:
    from typing import Unpack

    from ipyremote.call_types import Gives, GivesList, RemoteCall
    from ipyremote.streams import DynamicObjectRefGenerator

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]

P = ParamSpec("P")
C = TypeVar("C")
T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
Class_co = TypeVar("Class_co", covariant=True)


class _Creation:
    """How actors of one class are created: its export, the parameters of `__init__`, and the options of the actors.

    It knows no `ActorClass`, so that a bound `remote`, which is kept there, makes no circle.
    """

    __slots__ = ("actor", "export", "options", "parameters", "record")

    def __init__(
        self,
        export: Export,
        parameters: Parameters | None,
        options: TaskOptions,
        actor: ActorOptions,
        record: ActorRecord,
    ) -> None:
        self.export = export
        self.parameters = parameters
        self.options = options
        self.actor = actor
        self.record = record

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle[Any]:
        """Start an actor without waiting, and return its handle.

        An argument is a value or the ref of one. Raises TypeError when the arguments do not fit `__init__`, or cannot
        be pickled.
        """
        parameters = self.parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        backend = current.backend()
        exported = self.export.to(backend)
        if self.actor.name or self.actor.get_if_exists:
            return _start_named(backend, exported, args, kwargs, self.options, self.actor, self.record)
        actor_id, label = backend.create_actor(exported, args, kwargs, self.options, self.actor)
        return ActorHandle(actor_id, backend, label, self.record)

    def bound(self) -> Any:
        """Return `remote` with the signature of the user's class and its docstring."""
        name, cls = self.export.name, self.export.target
        own = inspect.getdoc(cls)
        does = (
            f"`{name}.remote(...)` starts an actor, an instance of this in a process of its own, without waiting,\n"
            "and returns its handle. Each argument is a value or the ObjectRef of one."
        )
        text = f"{own}\n\n{does}" if own else does
        return MethodType(documented(_Creation.remote, name, signature_of(cls), ActorHandle, text), self)


class _RemoteOfClass:
    """The attribute `remote` of an actor class, made when somebody first asks for it.

    A descriptor without `__set__`: from then on the class's own dictionary answers.
    """

    @overload
    def __get__(self, instance: None, owner: object = None) -> Callable[..., Any]: ...
    @overload
    def __get__(
        self, instance: ActorClassOf[Callable[P, C]], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ActorHandle[C]]: ...
    @overload
    def __get__(
        self, instance: ActorClass[C], owner: object = None
    ) -> RemoteCall[Callable[..., Any], ActorHandle[C]]: ...
    def __get__(self, instance: Any, owner: object = None) -> Any:
        if instance is None:
            return _Creation.remote
        bound = vars(instance)["remote"] = instance._plan.bound()
        return bound


class ActorClass(Generic[C_co]):
    """A class whose instances live in processes of their own: `A.remote(...)` starts one and returns its handle.

    Made by `@remote`. As a type, `ActorClass[C]` makes handles of type `ActorHandle[C]`.

    Examples
    --------
    >>> @ray.remote
    ... class Account:
    ...     def __init__(self, balance=0):
    ...         self.balance = balance
    ...     def deposit(self, amount):
    ...         self.balance += amount
    ...         return self.balance
    >>> account = Account.remote(balance=10)
    >>> ray.get(account.deposit.remote(5))
    15
    """

    # Pickled as an empty instance first, then its dictionary, since the class may refer to this very object.

    remote = _RemoteOfClass()

    def __init__(self, cls: type[C_co], given: Mapping[str, Any]) -> None:
        """Wrap a class. `given` are checked options. Used by `@remote`."""
        self._export = Export(cls, cls.__name__)
        self._given = settled(given)
        creation, actor = actor_options(self._given, cls.__name__, is_async=is_async(cls))
        self._plan = _Creation(
            self._export, parameters_of_class(cls), creation, actor, _with_help(_record(cls, actor), cls)
        )
        functools.update_wrapper(self, cls, updated=())

    def options(self, **given: Unpack[ClassOptions]) -> ConfiguredActorClass[Callable[..., Any], C_co]:
        """Return the same class with other options for its actors; only `.remote` can be used on the result.

        Parameters
        ----------
        **given
            Options of actors; see `remote`. `concurrency_groups` belongs to the class itself.

        Returns
        -------
        ConfiguredActorClass
            An object whose `.remote(...)` starts an actor with these options.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            As of `remote`.
        """
        if "concurrency_groups" in given:
            raise ValueError(
                "concurrency_groups belongs to the class itself: give it to @remote, not to .options()"
            )
        check_options(given, ACTOR_OPTIONS, "an actor")
        return ConfiguredActorClass(self, {**self._given, **settled(dict(given))})

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: there are no task graphs made ahead."""
        raise NotImplementedError(
            "bind: task graphs made ahead are not there; call .remote() and pass refs along"
        )

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

    def __get__(self, instance: object, owner: object = None) -> ActorClass[C_co]:
        # Nothing is bound. With a `__get__`, `help(A)` takes this object for a callable and shows its signature.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # `remote` is made again where it is needed.
        return {name: value for name, value in vars(self).items() if name != "remote"}

    def __getattr__(self, name: str) -> Any:
        # Constants and static methods of the class; the rest is an instance's, which is elsewhere.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._export.target, name)

    def __repr__(self) -> str:
        return f"ActorClass({self._export.name})"


if TYPE_CHECKING:

    class ActorClassOf(ActorClass[Any], Generic[Class_co]):
        """An actor class as `@remote` makes it, for type checkers, which read the parameters from the class itself."""

        def options(
            self: ActorClassOf[Callable[P, C]], **given: Unpack[ClassOptions]
        ) -> ConfiguredActorClass[Callable[P, Any], C]: ...


class ConfiguredActorClass(Generic[Class_co, C_co]):
    """An actor class with the options of one `.options(...)`."""

    remote: RemoteCall[Class_co, ActorHandle[C_co]]

    def __init__(self, base: ActorClass[Any], given: dict[str, Any]) -> None:
        usual = base._plan
        cls: Any = usual.export.target
        creation, actor = actor_options(given, usual.record.class_name, is_async=is_async(cls))
        record = usual.record
        if (actor.max_task_retries, actor.max_pending_calls) != (
            record.max_task_retries,
            record.max_pending_calls,
        ):
            record = _record(cls, actor)
            for name, known in usual.record.methods.items():
                record.methods[name].show_as(known.kind)
        self._base = base
        shown: Any = base.remote
        configured = _Creation(usual.export, usual.parameters, creation, actor, record)
        remote: Any = MethodType(shown.__func__, configured)
        self.remote = remote

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: there are no task graphs made ahead."""
        self._base.bind()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._base()

    def __repr__(self) -> str:
        return f"{self._base!r} with other options"


def _record(cls: type[Any], actor: ActorOptions) -> ActorRecord:
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
) -> ActorHandle[Any]:
    """Start an actor with a name, and wait for the answer whether the name is free."""
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


def weak_handle(named: NamedHandle, backend: Backend) -> ActorHandle[Any]:
    """Return a handle of a named actor that does not keep the actor alive."""
    _with_help(named.record)
    return ActorHandle(named.actor_id, backend, named.label, named.record, weak=True)


class ActorHandle(Generic[C_co]):
    """A handle of an actor: `handle.name.remote(...)` calls the method `name` without waiting.

    A handle can be passed to tasks and other actors. The actor ends when its last handle is gone, unless it is
    detached. As a type, `ActorHandle[C]` is a handle of an instance of `C`. Type checkers take each attribute for a
    method of any signature; `add: ActorMethod[[int], int] = handle.add` gives one its types.

    Examples
    --------
    >>> @ray.remote
    ... class Stack:
    ...     def __init__(self):
    ...         self.items = []
    ...     def push(self, item):
    ...         self.items.append(item)
    ...         return len(self.items)
    >>> stack = Stack.remote()
    >>> stack
    Actor(Stack#1)
    >>> stack.push.remote("plate")
    ObjectRef(Stack.push#1)
    """

    __slots__ = ("__weakref__", "_backend", "_id", "_label", "_pending", "_record", "_weak")

    def __init__(
        self, actor_id: ActorId, backend: Backend, label: str, record: ActorRecord, *, weak: bool = False
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

    def __getattr__(self, name: str) -> ActorMethod[..., Any]:
        record = _record_of(self)
        found = record.methods.get(name)
        if found is None:
            raise AttributeError(f"{record.class_name!r} actor has no method {name!r}")
        method: ActorMethod[..., Any] = (found.kind or ActorMethod)(self, found, found.options)
        return method

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

    def __copy__(self) -> ActorHandle[C_co]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ActorHandle[C_co]:
        return self


def _record_of(handle: ActorHandle[Any]) -> ActorRecord:
    # Not `handle._record`: on a handle whose __init__ never ran that would ask __getattr__ again, for ever.
    record: ActorRecord = object.__getattribute__(handle, "_record")
    return record


def owner(handle: ActorHandle[Any]) -> Backend:
    """Return the running session of a handle. Raises ActorHandleNotFoundError for a handle of another session."""
    backend = handle._backend
    if backend is current.peek():
        return backend
    raise ActorHandleNotFoundError(
        f"{handle!r} belongs to a session that was shut down, or to the process that this one was forked from. "
        "Start the actor again in the running session."
    )


def _rebuild_handle(
    key: str, exported: Any, label: str, record: ActorRecord, weak: bool = False
) -> ActorHandle[Any]:
    """Unpickle a handle: one more holder in this process, unless the handle is weak."""
    backend = current.peek()
    if backend is None or backend.key != key:
        raise ActorHandleNotFoundError(
            f"Actor({label}) belongs to another session than the one running here, so it cannot be called."
        )
    actor_id = backend.import_ref(exported, weak=weak)
    return ActorHandle(actor_id, backend, label, record, weak=weak)


class _RemoteOfMethod:
    """The attribute `remote` of an actor's method, for type checkers: a method of any signature gives anything."""

    @overload
    def __get__(self, instance: None, owner: object = None) -> Callable[..., Any]: ...
    @overload
    def __get__(  # a result of any type
        self, instance: ActorMethod[P, Never], owner: object = None
    ) -> RemoteCall[Callable[P, Any], Any]: ...
    @overload
    def __get__(
        self, instance: ActorMethod[P, GivesList], owner: object = None
    ) -> RemoteCall[Callable[P, Any], list[ObjectRef[Any]]]: ...
    @overload
    def __get__(
        self, instance: ActorMethod[P, Gives[T]], owner: object = None
    ) -> RemoteCall[Callable[P, Any], T]: ...
    @overload
    def __get__(
        self, instance: ActorMethod[P, Iterator[T]], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ObjectRefGenerator[T]]: ...
    @overload
    def __get__(
        self, instance: ActorMethod[P, T], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ObjectRef[T]]: ...
    def __get__(self, instance: Any, owner: object = None) -> Any: ...


class ActorMethod(Generic[P, R_co]):
    """A method of one actor: `.remote(...)` calls it, `.options(...)` changes how."""

    __slots__ = ("_handle", "_options", "_record")

    def __init__(self, handle: ActorHandle[Any], record: MethodRecord, options: TaskOptions) -> None:
        self._handle = handle
        self._record = record
        self._options = options

    def _remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method without waiting, and return the ref of its value.

        As `num_returns` says, the result is a list of refs or None instead; of a generator it is an
        `ObjectRefGenerator`. An argument is a value or the ref of one. Raises TypeError when the arguments do not fit
        the signature, or cannot be pickled.
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

    if TYPE_CHECKING:
        remote = _RemoteOfMethod()
    else:
        remote = _remote
        remote.__name__ = "remote"
        remote.__qualname__ = "ActorMethod.remote"

    def _call_limited(self, pending: PendingCalls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a handle with `max_pending_calls`."""
        handle, record, options = self._handle, self._record, self._options
        class_name, backend = handle._record.class_name, handle._backend
        pending.admit(backend, f"{class_name}.{record.name}")
        # The end of a call without returns is not reported to the caller, so the call is given one return.
        observed = options if options.returns else replace(options, returns=1)
        first, label = backend.call(handle._id, class_name, record.name, args, kwargs, observed)
        if options.stream:
            given = stream_of(first, label, backend, options, handle._id)
            # Not the generator, whose items would be kept.
            pending.add(first, given.completed() if isinstance(given, ObjectRefGenerator) else given, backend)
            return given
        refs = refs_of(first, label, backend, observed, handle._id)
        pending.add(first, refs, backend)
        return refs if options.returns else None

    @overload
    def options(
        self, *, num_returns: Literal["streaming"], **given: Unpack[MethodOptions]
    ) -> ActorMethod[P, Gives[ObjectRefGenerator[Any]]]: ...
    @overload
    def options(
        self, *, num_returns: Literal["dynamic"], **given: Unpack[MethodOptions]
    ) -> ActorMethod[P, Gives[ObjectRef[DynamicObjectRefGenerator]]]: ...
    @overload
    def options(
        self, *, num_returns: Literal[0], **given: Unpack[MethodOptions]
    ) -> ActorMethod[P, Gives[None]]: ...
    @overload
    def options(
        self, *, num_returns: Literal[1], **given: Unpack[MethodOptions]
    ) -> ActorMethod[P, Gives[ObjectRef[R_co]]]: ...
    @overload
    def options(self, *, num_returns: int, **given: Unpack[MethodOptions]) -> ActorMethod[P, GivesList]: ...
    @overload
    def options(
        self, *, num_returns: None = None, **given: Unpack[MethodOptions]
    ) -> ActorMethod[P, R_co]: ...
    def options(self, **given: Any) -> Any:
        """Return the same method with other options for its calls.

        Parameters
        ----------
        **given
            `num_returns`, `name`, `max_task_retries`, `retry_exceptions`, `concurrency_group`.

        Returns
        -------
        ActorMethod
            The method with these options.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            An option is unknown or has a wrong value.
        """
        check_options(given, METHOD_OPTIONS, "a method")
        record = self._record
        merged = {**record.given, **given}
        check_group(merged.get("concurrency_group") or "", self._handle._record.groups, record.name)
        check_stream(merged, record.name, is_generator=record.generator is not False)
        retries = self._handle._record.max_task_retries
        options = method_options(merged, retries, is_generator=bool(record.generator))
        return (record.kind or ActorMethod)(self._handle, record, options)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: there are no task graphs made ahead."""
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by its class, which help may have replaced by one that is found in no module.
        return ActorMethod, (self._handle, self._record, self._options)


# ---- help: the user's own signatures and docstrings


def _with_help(record: ActorRecord, cls: type[Any] | None = None) -> ActorRecord:
    """Have the methods of handles with this record show the signatures and docstrings of the user's own methods.

    `cls`: the class itself; None: it is in another process, so only names of parameters are known.
    """
    for name, known in record.methods.items():
        if known.kind is None and not (name.startswith("__") and name.endswith("__")):
            own = None if cls is None else inspect.getattr_static(cls, name)
            known.show_as(_method_kind(record.class_name, known, own))
    return record


def _method_kind(class_name: str, record: MethodRecord, own: Any) -> type[ActorMethod[..., Any]]:
    """Make the subclass of `ActorMethod` for one method: the same code with help of its own."""
    fn = getattr(own, "__func__", own)
    if fn is None:
        signature = signature_from(record.parameters)
    else:
        signature = signature_of(fn, bound=0 if isinstance(own, staticmethod) else 1)
    given = given_by(record.options, signature, ObjectRef)
    doc = inspect.getdoc(fn) if fn is not None else None
    does = (
        f"`{record.name}.remote(...)` calls this method in the actor's process, without waiting.\n"
        "Each argument is a value or the ObjectRef of one."
    )
    text = f"{doc}\n\n{does}" if doc else does
    remote = documented(ActorMethod.remote, f"{class_name}.{record.name}", signature, given, text)
    body = {
        "__slots__": (),
        "__module__": __name__,
        "__qualname__": "ActorMethod",
        "__name__": record.name,
        "__doc__": property(lambda method: doc),  # `help` takes a docstring of the class for nobody's
        "__signature__": signature,
        # With a `__get__`, `help(handle.name)` takes this object for a function and shows its signature.
        "__get__": lambda method, instance, owner=None: method,
        "remote": remote,
    }
    return type("ActorMethod", (ActorMethod,), body)
