"""Records of the methods of an actor class, for its handles, and `@method`, which gives options to a method.

The records are made when the class is decorated, and are pickled with every handle, so they refer to nothing of the
class itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ipyremote.backend import TaskOptions
from ipyremote.declare.options import (
    METHOD_OPTIONS,
    MethodOptions,
    check_group,
    check_options,
    check_stream,
    method_options,
)
from ipyremote.declare.signatures import Parameters, parameters_of

if TYPE_CHECKING:
    from typing import Unpack


__all__ = ["ActorRecord", "MethodRecord", "is_async", "method", "record_of"]

#: Name of the attribute in which `@method` stores its options.
_MARK = "__ipyremote_method__"


Fn = TypeVar("Fn", bound=Callable[..., Any])


@overload
def method(fn: Fn, /) -> Fn: ...
@overload
def method(*, num_returns: int | str | None = None, **given: Unpack[MethodOptions]) -> Callable[[Fn], Fn]: ...
def method(*args: Any, **given: Any) -> Any:
    """Give options to one method of an actor class: `@method(num_returns=2)`. The bare form changes nothing.

    Parameters
    ----------
    *args : callable
        The method itself, when there are no options.
    **given
        `num_returns`, `name`, `max_task_retries`, `retry_exceptions`, `concurrency_group`. All are Ray's.

    Returns
    -------
    callable
        The method, or a decorator that returns the method.

    Raises
    ------
    AssertionError
        An option is unknown, or there is none in the parentheses.
    TypeError, ValueError
        An option has a wrong value.

    Examples
    --------
    >>> @ray.remote
    ... class Splitter:
    ...     @ray.method(num_returns=2)
    ...     def split(self, pair):
    ...         return pair
    >>> left, right = Splitter.remote().split.remote(("a", "b"))
    >>> ray.get(right)
    'b'
    """
    if len(args) == 1 and not given and callable(args[0]):
        return args[0]
    if args or not given:
        raise AssertionError(
            "@method is used bare or with options by name, such as @method(num_returns=2); "
            f"options are: {', '.join(sorted(METHOD_OPTIONS))}"
        )
    unknown = set(given) - set(METHOD_OPTIONS)
    if unknown:
        raise AssertionError(
            f"@method has no option {sorted(unknown)[0]!r}; options are: {', '.join(sorted(METHOD_OPTIONS))}"
        )
    check_options(given, METHOD_OPTIONS, "a method")

    def mark(fn: Any) -> Any:
        target = getattr(fn, "__func__", fn)
        check_stream(given, getattr(target, "__name__", repr(target)), is_generator=_yields(target))
        setattr(target, _MARK, dict(given))
        return fn

    return mark


@dataclass(frozen=True, slots=True)
class MethodRecord:
    """The record of one method in a handle."""

    name: str
    #: Parameters of the method; None if its signature cannot be read, so calls are not checked.
    parameters: Parameters | None
    #: Options given to `@method`.
    given: Mapping[str, Any]
    options: TaskOptions
    #: Whether the method is a generator; None if only its run shows this.
    generator: bool | None = False
    #: Subclass of `ActorMethod` with help for this method; None for `ActorMethod` itself. Not pickled.
    kind: Any = field(default=None, compare=False, repr=False)

    def show_as(self, kind: Any) -> None:
        """Have handles return an instance of this subclass of `ActorMethod`, which differs only in its help."""
        object.__setattr__(self, "kind", kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return MethodRecord, (self.name, self.parameters, self.given, self.options, self.generator)


@dataclass(frozen=True, slots=True)
class ActorRecord:
    """The record of an actor that all its handles share, and that is pickled with them."""

    class_name: str
    methods: Mapping[str, MethodRecord]
    max_task_retries: int
    #: Largest number of pending calls of one handle; 0: any number.
    max_pending_calls: int = 0
    #: Names of the concurrency groups.
    groups: tuple[str, ...] = ()


def _function_of(cls: type, name: str) -> tuple[Any, int] | None:
    """Return the callable of a class attribute and the number of parameters that the call fills in, or None."""
    found = inspect.getattr_static(cls, name)
    if isinstance(found, staticmethod):
        return found.__func__, 0
    if isinstance(found, classmethod):
        return found.__func__, 1
    if inspect.isfunction(found):
        return found, 1
    # Callables of other kinds, such as methods of a built-in base class; `object` alone has dozens of special ones.
    special = name.startswith("__") and name.endswith("__")
    if special or isinstance(found, type) or not callable(found):
        return None
    return found, 1 if inspect.isroutine(found) else 0


def _yields(fn: Any) -> bool:
    return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


def is_async(cls: type) -> bool:
    """Return whether any method is a coroutine or an async generator, so that all calls run on an event loop."""
    found = [inspect.getattr_static(cls, name) for name in dir(cls)]
    return any(inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn) for fn in found)


def _record_methods(cls: type, max_task_retries: int) -> dict[str, MethodRecord]:
    records = {}
    for name in dir(cls):
        found = _function_of(cls, name)
        if found is None:
            continue
        fn, bound = found
        given = getattr(fn, _MARK, {})
        records[name] = MethodRecord(
            name=name,
            parameters=parameters_of(fn, bound=bound),
            given=given,
            options=method_options(given, max_task_retries, is_generator=_yields(fn)),
            generator=_yields(fn),
        )
    # Every actor has these methods, whose arguments are checked in the worker.
    for name in ("__ray_call__", "__ray_ready__", "__ray_terminate__"):
        records[name] = MethodRecord(name, None, {}, method_options({}, max_task_retries), generator=None)
    return records


def record_of(
    cls: type, max_task_retries: int = 0, max_pending_calls: int = 0, groups: tuple[str, ...] = ()
) -> ActorRecord:
    """Return the record for handles of this class's actors. Raises ValueError for an unknown concurrency group."""
    methods = _record_methods(cls, max_task_retries)
    for record in methods.values():
        check_group(record.options.group, groups, f"{cls.__name__}.{record.name}")
    return ActorRecord(cls.__name__, methods, max_task_retries, max_pending_calls, groups)
