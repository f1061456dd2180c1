"""`@remote`: functions become tasks, classes become actors (which live in `actor.py`).

Rules. `.remote()` never waits. A call that cannot work is refused where it stands: wrong arguments, unknown options,
something that cannot be pickled. A decorated function is pickled when it is first called in a session and epoch
(`exports.py`), not when it is decorated; it stays usable after `shutdown`, in the next session.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Never,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from ipyremote.actor import ActorClass, ActorHandle, ActorMethod, method
from ipyremote.backend import TaskOptions, current
from ipyremote.declare.exports import Export, bump_epoch
from ipyremote.declare.options import (
    ACTOR_OPTIONS,
    TASK_OPTIONS,
    AllOptions,
    FunctionOptions,
    check_options,
    check_stream,
    settled,
    task_options,
)
from ipyremote.declare.remote_help import documented, given_by, signature_of
from ipyremote.declare.signatures import Parameters, parameters_of
from ipyremote.refs import ObjectRef, refs_of
from ipyremote.streams import ObjectRefGenerator, stream_of

if TYPE_CHECKING:
    from typing import Unpack

    from ipyremote.actor import ActorClassOf
    from ipyremote.call_types import Gives, GivesList, RemoteCall
    from ipyremote.streams import DynamicObjectRefGenerator

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "RemoteFunction",
    "bump_epoch",
    "method",
    "remote",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
Out_co = TypeVar("Out_co", covariant=True)
AnyClass = TypeVar("AnyClass", bound=type[Any])


class _Submission:
    """How calls of one function become tasks: its export, its parameters, and the options of each call.

    It knows no `RemoteFunction`, so that a bound `remote`, which is kept there, makes no circle.
    """

    __slots__ = ("export", "options", "parameters")

    def __init__(self, export: Export, parameters: Parameters | None, options: TaskOptions) -> None:
        self.export = export
        self.parameters = parameters
        self.options = options

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Start a task without waiting, and return the ref of its value.

        As `num_returns` says, the result is a list of refs or None instead; of a generator function it is an
        `ObjectRefGenerator`. An argument is a value or the ref of one. Raises TypeError when the arguments do not fit
        the signature, or cannot be pickled.
        """
        parameters = self.parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        backend = current.backend()
        options = self.options
        first, label = backend.submit(self.export.to(backend), args, kwargs, options)
        if options.stream:
            return stream_of(first, label, backend, options)
        if options.returns == 1:
            return ObjectRef(first, backend, label, options.deferred)
        return refs_of(first, label, backend, options)

    def bound(self) -> Any:
        """Return `remote` with the signature and the docstring of the user's function."""
        name = self.export.name
        signature = signature_of(self.export.target)
        given = given_by(self.options, signature, ObjectRef)
        text = _help_text(f"{name}.remote(...)", self.options, inspect.getdoc(self.export.target))
        return MethodType(documented(_Submission.remote, name, signature, given, text), self)


def _help_text(call: str, options: TaskOptions, own: str | None) -> str:
    """Return a docstring: the user's own, then what a remote call does."""
    if options.stream:
        gives = "an ObjectRefGenerator, which gives the ref of each value that it yields"
    elif options.returns == 1:
        gives = "the ObjectRef of its value; `get(ref)` waits for the value"
    else:
        gives = f"a list of {options.returns} ObjectRefs" if options.returns else "None"
    does = (
        f"`{call}` runs this in a worker process, without waiting, and returns\n{gives}.\n"
        "Each argument is a value or the ObjectRef of one."
    )
    return f"{own}\n\n{does}" if own else does


class _RemoteOfFunction:
    """The attribute `remote` of a remote function, made when somebody first asks for it.

    A descriptor without `__set__`: from then on the function's own dictionary answers.
    """

    @overload
    def __get__(self, instance: None, owner: object = None) -> Callable[..., Any]: ...
    @overload
    def __get__(  # a result of any type
        self, instance: RemoteFunction[P, Never], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ObjectRef[Any]]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[P, GivesList], owner: object = None
    ) -> RemoteCall[Callable[P, Any], list[ObjectRef[Any]]]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[P, Gives[T]], owner: object = None
    ) -> RemoteCall[Callable[P, Any], T]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[P, Iterator[T]], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ObjectRefGenerator[T]]: ...
    @overload
    def __get__(
        self, instance: RemoteFunction[P, T], owner: object = None
    ) -> RemoteCall[Callable[P, Any], ObjectRef[T]]: ...
    def __get__(self, instance: Any, owner: object = None) -> Any:
        if instance is None:
            return _Submission.remote
        bound = vars(instance)["remote"] = instance._submission.bound()
        return bound


class RemoteFunction(Generic[P, R_co]):
    """A function that runs in worker processes: `f.remote(...)` starts a task and returns the ref of its result.

    Made by `@remote`. As a type, `RemoteFunction[P, R]` has the parameters `P` and the result `R` of the function.

    Examples
    --------
    >>> @ray.remote
    ... def cube(x: int) -> int:
    ...     return x ** 3
    >>> ref = cube.remote(2)
    >>> ref
    ObjectRef(cube#1)
    >>> ray.get(ref)
    8
    >>> ray.get(cube.options(name="eight", num_cpus=0.5).remote(2))
    8
    """

    # Pickled as an empty instance first, then its dictionary, so that a recursive function, which refers to this very
    # object, comes back whole. Nothing is computed from the function when it is unpickled, since that may not be filled
    # yet either.

    remote = _RemoteOfFunction()

    def __init__(self, fn: Callable[P, R_co], given: Mapping[str, Any]) -> None:
        """Wrap a function. `given` are checked options. Used by `@remote`."""
        self._export = Export(fn, fn.__name__)
        self._given = settled(given)
        self._generator = inspect.isgeneratorfunction(fn)
        options = task_options(self._given, is_generator=self._generator)
        self._submission = _Submission(self._export, parameters_of(fn), options)
        functools.update_wrapper(self, fn, updated=())

    @overload
    def options(
        self: RemoteFunction[P, Iterable[T]],
        *,
        num_returns: Literal["streaming"],
        **given: Unpack[FunctionOptions],
    ) -> ConfiguredFunction[P, ObjectRefGenerator[T]]: ...
    @overload
    def options(
        self, *, num_returns: Literal["streaming"], **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRefGenerator[Any]]: ...
    @overload
    def options(
        self, *, num_returns: Literal["dynamic"], **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRef[DynamicObjectRefGenerator]]: ...
    @overload
    def options(
        self, *, num_returns: Literal[0], **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, None]: ...
    @overload
    def options(
        self, *, num_returns: Literal[1], **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRef[R_co]]: ...
    @overload
    def options(
        self, *, num_returns: int, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self: RemoteFunction[P, Never], *, num_returns: None = None, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRef[Any]]: ...
    @overload
    def options(
        self: RemoteFunction[P, GivesList], *, num_returns: None = None, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, list[ObjectRef[Any]]]: ...
    @overload
    def options(
        self: RemoteFunction[P, Gives[T]], *, num_returns: None = None, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, T]: ...
    @overload
    def options(
        self: RemoteFunction[P, Iterator[T]], *, num_returns: None = None, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRefGenerator[T]]: ...
    @overload
    def options(
        self, *, num_returns: None = None, **given: Unpack[FunctionOptions]
    ) -> ConfiguredFunction[P, ObjectRef[R_co]]: ...
    def options(self, **given: Any) -> Any:
        """Return the same function with other options for its calls; only `.remote` can be used on the result.

        Parameters
        ----------
        **given
            Options of tasks; see `remote`. `max_calls` belongs to the function itself.

        Returns
        -------
        ConfiguredFunction
            An object whose `.remote(...)` starts a task with these options.

        Raises
        ------
        ValueError, TypeError, NotImplementedError
            As of `remote`.
        """
        if "max_calls" in given:
            raise ValueError(
                "max_calls belongs to the function itself: give it to @remote, not to .options()"
            )
        check_options(given, TASK_OPTIONS, "a task")
        merged = {**self._given, **settled(given)}
        check_stream(merged, self._export.name, is_generator=self._generator)
        return ConfiguredFunction(self, merged)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: there are no task graphs made ahead."""
        raise NotImplementedError(
            "bind: task graphs made ahead are not there; call .remote() and pass refs along"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        fn: Any = self._export.target
        name = f"{fn.__module__}.{self._export.name}"
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try '{name}.remote()'."
        )

    def __get__(self, instance: object, owner: object = None) -> RemoteFunction[P, R_co]:
        # Nothing is bound. With a `__get__`, `help(f)` takes this object for a function and shows its signature.
        return self

    def __getstate__(self) -> dict[str, Any]:
        # `remote` is made again where it is needed.
        return {name: value for name, value in vars(self).items() if name != "remote"}

    def __repr__(self) -> str:
        return f"RemoteFunction({self._export.name})"


class ConfiguredFunction(Generic[P, Out_co]):
    """A remote function with the options of one `.options(...)`."""

    remote: RemoteCall[Callable[P, Any], Out_co]

    def __init__(self, base: RemoteFunction[P, Any], given: dict[str, Any]) -> None:
        self._base = base
        options = task_options(given, is_generator=base._generator)
        usual = base._submission
        submission = _Submission(usual.export, usual.parameters, options)
        if (options.returns, options.stream) == (usual.options.returns, usual.options.stream):
            shown: Any = base.remote
            remote: Any = MethodType(shown.__func__, submission)
            self.remote = remote
        else:
            self.remote = submission.bound()

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise NotImplementedError: there are no task graphs made ahead."""
        self._base.bind()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._base()

    def __repr__(self) -> str:
        return f"{self._base!r} with other options"


class _Decorator(Protocol):
    """`@remote(...)` without `num_returns`."""

    @overload
    def __call__(self, target: AnyClass, /) -> ActorClassOf[AnyClass]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R]: ...


class _StreamDecorator(Protocol):
    """`@remote(num_returns="streaming")`."""

    def __call__(
        self, target: Callable[P, Iterable[T]], /
    ) -> RemoteFunction[P, Gives[ObjectRefGenerator[T]]]: ...


class _DecoratorOf(Protocol[Out_co]):
    """`@remote(num_returns=...)` of a function whose `.remote()` gives `Out_co`."""

    def __call__(self, target: Callable[P, Any], /) -> RemoteFunction[P, Gives[Out_co]]: ...


class _ListDecorator(Protocol):
    """`@remote(num_returns=2)`, or another number of results."""

    def __call__(self, target: Callable[P, Any], /) -> RemoteFunction[P, GivesList]: ...


@overload
def remote(target: AnyClass, /) -> ActorClassOf[AnyClass]: ...
@overload
def remote(target: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(*, num_returns: Literal[1] | None = None, **given: Unpack[AllOptions]) -> _Decorator: ...
@overload
def remote(*, num_returns: Literal["streaming"], **given: Unpack[AllOptions]) -> _StreamDecorator: ...
@overload
def remote(
    *, num_returns: Literal["dynamic"], **given: Unpack[AllOptions]
) -> _DecoratorOf[ObjectRef[DynamicObjectRefGenerator]]: ...
@overload
def remote(*, num_returns: Literal[0], **given: Unpack[AllOptions]) -> _DecoratorOf[None]: ...
@overload
def remote(*, num_returns: int, **given: Unpack[AllOptions]) -> _ListDecorator: ...
def remote(*targets: Any, **given: Any) -> Any:
    """Make a function a task, or a class an actor: `@remote`, `@remote(num_cpus=2)` or `remote(f)`.

    The function or class itself is unchanged, and what this returns runs the function in a worker process:
    `f.remote(...)` starts a task, `A.remote(...)` starts an actor. `.options(...)` changes options for some calls only.

    Parameters
    ----------
    *targets : callable
        One function or class, when there are no options.
    **given
        Options. Of tasks and actors: `num_cpus` (1 for tasks), `num_gpus`, `resources`, `memory` (bytes), `name`,
        `runtime_env`, `scheduling_strategy`, `label_selector`. Of tasks: `num_returns` (a number, or "streaming"),
        `max_retries` (3; -1 for any number), `retry_exceptions`, `max_calls`. Of actors: `namespace`, `get_if_exists`,
        `lifetime` ("detached"), `max_restarts`, `max_task_retries`, `max_concurrency`, `max_pending_calls`,
        `concurrency_groups`. All are Ray's.

    Returns
    -------
    RemoteFunction or ActorClass
        Or, when options are given, a decorator that returns one.

    Raises
    ------
    TypeError
        The target is neither a function nor a class, or an option has a wrong type.
    ValueError
        The function is `async def`, or an option is unknown or has a wrong value.
    NotImplementedError
        An option asks for what this package does not do.

    Examples
    --------
    >>> @ray.remote
    ... def add(a, b):
    ...     return a + b
    >>> ray.get(add.remote(1, add.remote(2, 3)))
    6
    >>> @ray.remote(num_cpus=0)
    ... class Counter:
    ...     def __init__(self):
    ...         self.count = 0
    ...     def step(self):
    ...         self.count += 1
    ...         return self.count
    >>> counter = Counter.remote()
    >>> ray.get([counter.step.remote() for _ in range(3)])
    [1, 2, 3]
    """
    if len(targets) == 1 and not given:
        return _decorate(targets[0], {})
    if targets or not given:
        raise AssertionError(
            "@remote is used without parentheses, or with options by name, such as @remote(num_returns=2); "
            f"options of tasks are: {', '.join(sorted(TASK_OPTIONS))}; "
            f"options of actors are: {', '.join(sorted(ACTOR_OPTIONS))}"
        )
    # A mistake in an option is the decorator line's, so it is found there if neither kind has it.
    check_options(
        {name: value for name, value in given.items() if name not in ACTOR_OPTIONS}, TASK_OPTIONS, "a task"
    )
    return functools.partial(_decorate, given=given)


def _decorate(target: Any, given: Mapping[str, Any]) -> RemoteFunction[..., Any] | ActorClass[Any]:
    if inspect.isclass(target):
        check_options(given, ACTOR_OPTIONS, "an actor")
        return ActorClass(target, given)
    if not (inspect.isfunction(target) or inspect.isbuiltin(target)):
        raise TypeError(f"@remote takes a function or a class, not {type(target).__name__}: {target!r}")
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise ValueError(
            f"{target.__name__} is async: a task is a plain function. Wrap it: "
            f"def task(*args): return asyncio.run({target.__name__}(*args))"
        )
    check_options(given, TASK_OPTIONS, "a task")
    check_stream(given, target.__name__, is_generator=inspect.isgeneratorfunction(target))
    return RemoteFunction(target, given)
