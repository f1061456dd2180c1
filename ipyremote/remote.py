"""`@remote`: functions become tasks, classes become actors (which live in `actor.py`).

Rules. `.remote()` never waits. A call that cannot work is refused where it stands: wrong arguments, unknown options,
something that cannot be pickled. A decorated function is pickled when it is first called in a session and epoch
(`exports.py`), not when it is decorated; it stays usable after `shutdown`, in the next session.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, overload

from ipyremote.actor import ActorClass, ActorHandle, ActorMethod, method
from ipyremote.backend import current
from ipyremote.declare.exports import Export, bump_epoch
from ipyremote.declare.options import (
    ACTOR_OPTIONS,
    TASK_OPTIONS,
    check_options,
    check_stream,
    settled,
    task_options,
)
from ipyremote.declare.signatures import parameters_of
from ipyremote.refs import ObjectRef, refs_of
from ipyremote.streams import stream_of

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "RemoteFunction",
    "bump_epoch",
    "method",
    "remote",
]


class RemoteFunction:
    """A function that runs elsewhere: `f.remote(...)` starts a task and returns the ref of its result."""

    # Pickled by default: an empty instance first, then its dictionary, so that a recursive function, which refers to
    # this very object, comes back whole. Nothing is computed from the function when it is unpickled, since that may
    # not be filled yet either.

    def __init__(self, fn: Callable[..., Any], given: Mapping[str, Any]) -> None:
        """Made by `@remote`; `given` are checked options."""
        self._export = Export(fn, fn.__name__)
        self._given = settled(given)
        self._generator = inspect.isgeneratorfunction(fn)
        self._options = task_options(self._given, is_generator=self._generator)
        self._parameters = parameters_of(fn)
        functools.update_wrapper(self, fn, updated=())

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Start a task without waiting. Returns a ref; of a generator function an `ObjectRefGenerator`.

        As `num_returns` says, it is a list of refs or None instead.
        """
        parameters = self._parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        backend = current.backend()
        options = self._options
        first, label = backend.submit(self._export.to(backend), args, kwargs, options)
        if options.stream:
            return stream_of(first, label, backend, options)
        if options.returns == 1:
            return ObjectRef(first, backend, label)
        return refs_of(first, label, backend, options)

    def options(self, **given: Any) -> ConfiguredFunction:
        """The same function with other options; only `.remote` can be used on it."""
        if "max_calls" in given:
            raise ValueError(
                "max_calls belongs to the function itself: give it to @remote, not to .options()"
            )
        check_options(given, TASK_OPTIONS, "a task")
        merged = {**self._given, **settled(given)}
        check_stream(merged, self._export.name, is_generator=self._generator)
        return ConfiguredFunction(self, merged)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Task graphs are not there."""
        raise NotImplementedError(
            "bind: task graphs made ahead are not there; call .remote() and pass refs along"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        fn: Any = self._export.target
        name = f"{fn.__module__}.{self._export.name}"
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try '{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"RemoteFunction({self._export.name})"


class ConfiguredFunction:
    """A remote function with the options of one `.options(...)`."""

    def __init__(self, base: RemoteFunction, given: dict[str, Any]) -> None:
        self._base = base
        self._given = given
        self._options = task_options(given, is_generator=base._generator)

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Start a task without waiting."""
        base = self._base
        parameters = base._parameters
        if parameters is not None and (kwargs or not parameters.low <= len(args) <= parameters.high):
            parameters.check(args, kwargs)
        backend = current.backend()
        first, label = backend.submit(base._export.to(backend), args, kwargs, self._options)
        if self._options.stream:
            return stream_of(first, label, backend, self._options)
        return refs_of(first, label, backend, self._options)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Task graphs are not there."""
        self._base.bind()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._base()

    def __repr__(self) -> str:
        return f"{self._base!r} with other options"


@overload
def remote(target: type, /) -> ActorClass: ...  # type: ignore[overload-overlap]  # a class is callable too
@overload
def remote(target: Callable[..., Any], /) -> RemoteFunction: ...
@overload
def remote(**given: Any) -> Callable[[Any], Any]: ...
def remote(*targets: Any, **given: Any) -> Any:
    """Make a function a task, or a class an actor: `@remote`, `@remote(num_cpus=2)` or `remote(f)`.

    Raises TypeError for anything else, ValueError for an `async def` function and for unknown options.
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


def _decorate(target: Any, given: Mapping[str, Any]) -> RemoteFunction | ActorClass:
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
