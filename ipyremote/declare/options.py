"""The options of tasks, actors and methods: their names, their checks, their types, and the records made of them.

The input is the options that a user wrote; the output is `TaskOptions` and `ActorOptions`. Rules. No option is ignored:
an option whose effect does not exist here is refused with NotImplementedError unless its value asks for nothing. A
wrong type is a TypeError, a wrong value or an unknown name a ValueError, both raised where the option was written.

Resources are counted in ten-thousandths. `memory` is an ordinary resource, in bytes. An actor to which no resource was
given needs one CPU to start and none to live (Ray's rule); `memory` alone does not change that.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict

from ipyremote import runtime_env, settings
from ipyremote.backend import (
    DYNAMIC,
    ENDLESS,
    RESOURCE_UNIT,
    ActorOptions,
    RareOptions,
    Resources,
    TaskOptions,
)
from ipyremote.declare.placement_options import CHECKS, place_of

__all__ = [
    "ACTOR_OPTIONS",
    "METHOD_OPTIONS",
    "TASK_OPTIONS",
    "AllOptions",
    "ClassOptions",
    "FunctionOptions",
    "MethodOptions",
    "actor_options",
    "check_amounts",
    "check_bundle",
    "check_group",
    "check_options",
    "check_stream",
    "method_options",
    "settled",
    "task_options",
    "to_units",
]

#: Default number of calls that an async actor runs at a time, as in Ray.
ASYNC_CONCURRENCY: Final = 1000

_LIMIT: Final = "_generator_backpressure_num_objects"
_Check = Callable[[str, Any], object]
#: Values of `num_returns` that are no numbers.
_STREAMS: Final = ("streaming", "dynamic")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(name: str, value: Any) -> None:
    if value is None:
        return
    if not _is_number(value):
        raise TypeError(f"{name} is a number, not {type(value).__name__}: {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is zero or more, not {value!r}")
    if 0 < value < 1 / RESOURCE_UNIT:
        raise ValueError(f"{name}={value!r} is finer than resources are counted: the least is 0.0001")


def _gpus(name: str, value: Any) -> None:
    _amount(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ValueError(
            f"{name} above 1 is a whole number, not {value!r}: a task has whole GPUs or a part of one"
        )


def _resources(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a dictionary of amounts, not {type(value).__name__}: {value!r}")
    for key, amount in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} has names for keys, not {type(key).__name__}: {key!r}")
        if key in ("CPU", "GPU", "memory"):
            own = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}[key]
            raise ValueError(f"{name} cannot have {key!r}: use {own}={amount!r} instead")
        if amount is None:
            raise TypeError(f"{name}[{key!r}] is a number, not None")
        _amount(f"{name}[{key!r}]", amount)


def _whole(least: int) -> _Check:
    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} is a whole number, not {type(value).__name__}: {value!r}")
        if value < least:
            endless = " (-1: without end)" if least == -1 else ""
            raise ValueError(f"{name} is {least} or more{endless}, not {value}")

    return check


def _num_returns(name: str, value: Any) -> None:
    if value in _STREAMS:
        return
    if isinstance(value, str):
        raise ValueError(f"{name} is a whole number, 'streaming' or 'dynamic', not {value!r}")
    _whole(0)(name, value)


def _backpressure(name: str, value: Any) -> None:
    _whole(-1)(name, value)
    if value == 0:
        raise ValueError(f"{name}=0 would let a generator yield nothing: it is 1 or more, or -1 for no limit")


def _retry_exceptions(name: str, value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} is True, False or a list of exception types, not {value!r}")
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} lists exception types, and {kind!r} is not an exception type")


def _text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is a string, not {type(value).__name__}: {value!r}")


def _actor_name(name: str, value: Any) -> None:
    _text(name, value)
    if value == "":
        raise ValueError(f"{name} is a string that is not empty, or None")


def _groups(name: str, value: Any) -> None:
    if value is None or value == []:  # Ray's own default is a list
        return
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} is a dictionary of group names and sizes, not {type(value).__name__}: {value!r}"
        )
    for group, size in value.items():
        if not isinstance(group, str) or not group:
            raise TypeError(f"{name} has names for keys, not {group!r}")
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name}[{group!r}] is a whole number, not {size!r}")
        if size < 1:
            raise ValueError(f"{name}[{group!r}] is at least 1, not {size}")


def _lifetime(name: str, value: Any) -> None:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"{name} is 'detached', 'non_detached' or None, not {value!r}")


def _flag(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")


def _absent(*empty: Any, advice: str) -> _Check:
    """Return the check of an option that has no effect here: only values that ask for nothing are accepted."""

    def check(name: str, value: Any) -> None:
        if value is not None and not any(
            value is e or (type(value) is type(e) and value == e) for e in empty
        ):
            raise NotImplementedError(f"{name}={value!r}: {advice}")

    return check


_COMMON: Final[dict[str, _Check]] = {
    **CHECKS,
    "num_cpus": _amount,
    "num_gpus": _gpus,
    "resources": _resources,
    "memory": _amount,
    "accelerator_type": _text,
    "name": _text,
    "runtime_env": lambda name, value: runtime_env.checked(value),
    "enable_task_events": _absent(True, advice="what tasks do is always recorded"),
    "_labels": _absent({}, advice="tasks cannot have labels; init(labels=...) gives labels to the machine"),
}

TASK_OPTIONS: Final[Mapping[str, _Check]] = {
    **_COMMON,
    "num_returns": _num_returns,
    "max_retries": _whole(-1),
    "retry_exceptions": _retry_exceptions,
    "max_calls": _whole(0),
    "_generator_backpressure_num_objects": _backpressure,
}
ACTOR_OPTIONS: Final[Mapping[str, _Check]] = {
    **_COMMON,
    "name": _actor_name,
    "namespace": _actor_name,
    "get_if_exists": _flag,
    "lifetime": _lifetime,
    "max_restarts": _whole(-1),
    "max_task_retries": _whole(-1),
    "max_concurrency": _whole(1),
    "max_pending_calls": _whole(-1),
    "concurrency_groups": _groups,
    "allow_out_of_order_execution": _flag,
}
METHOD_OPTIONS: Final[Mapping[str, _Check]] = {
    "num_returns": _num_returns,
    "name": _text,
    "max_task_retries": _whole(-1),
    "retry_exceptions": _retry_exceptions,
    "concurrency_group": _actor_name,
    "enable_task_events": _COMMON["enable_task_events"],
    "_generator_backpressure_num_objects": _backpressure,
}


# ----------------------------------------------- the same options with their types, for type checkers and editors


class _CommonOptions(TypedDict, total=False):
    """Options of tasks and of actors alike."""

    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    #: Memory, in bytes.
    memory: float | None
    accelerator_type: str | None
    name: str | None
    runtime_env: Mapping[str, Any] | None
    enable_task_events: bool
    scheduling_strategy: Any
    label_selector: Mapping[str, str] | None
    fallback_strategy: Sequence[Mapping[str, Any]] | None
    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None
    _labels: Mapping[str, str] | None


class FunctionOptions(_CommonOptions, total=False):
    """Options of `.options()` of a remote function, without `num_returns`, which decides the result's type."""

    max_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    _generator_backpressure_num_objects: int | None


class ClassOptions(_CommonOptions, total=False):
    """Options of `.options()` of an actor class."""

    namespace: str | None
    get_if_exists: bool | None
    lifetime: str | None
    max_restarts: int | None
    max_task_retries: int | None
    max_concurrency: int | None
    max_pending_calls: int | None
    allow_out_of_order_execution: bool | None


class AllOptions(FunctionOptions, ClassOptions, total=False):
    """Options of `@remote`, without `num_returns`: those of tasks and those of actors."""

    max_calls: int | None
    concurrency_groups: Mapping[str, int] | None


class MethodOptions(TypedDict, total=False):
    """Options of `@method`, and of `.options()` of a method, without `num_returns`."""

    name: str | None
    max_task_retries: int | None
    retry_exceptions: bool | Sequence[type[BaseException]] | None
    concurrency_group: str | None
    enable_task_events: bool
    _generator_backpressure_num_objects: int | None


# ------------------------------------------------------------------------------------------------ checks and results


def check_options(given: Mapping[str, Any], valid: Mapping[str, _Check], what: str) -> None:
    """Raise ValueError, TypeError or NotImplementedError for the first option that is unknown or wrong."""
    for name, value in given.items():
        check = valid.get(name)
        if check is None:
            raise ValueError(f"{name!r} is no option of {what}. Options are: {', '.join(sorted(valid))}")
        check(name, value)


def settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return checked options in a form that means the same in every process."""
    if "runtime_env" not in given:
        return dict(given)
    return {**given, "runtime_env": runtime_env.checked(given["runtime_env"])}


def check_amounts(given: Mapping[str, Any]) -> None:
    """Check the amounts of a whole session as those of a task: `num_cpus`, `num_gpus`, `resources` and `memory`."""
    for name, value in given.items():
        _COMMON[name](name, value)


def check_bundle(name: str, bundle: Any) -> None:
    """Raise ValueError for a value that cannot be a bundle of a placement group."""
    if not isinstance(bundle, Mapping) or not all(isinstance(key, str) for key in bundle):
        raise ValueError(f"{name} is a dictionary of amounts, such as {{'CPU': 1}}, not {bundle!r}")
    for key, amount in bundle.items():
        if not _is_number(amount):
            raise ValueError(f"{name}[{key!r}] is a number, not {type(amount).__name__}: {amount!r}")
        (_gpus if key == "GPU" else _amount)(f"{name}[{key!r}]", amount)
    if not any(bundle.values()):
        raise ValueError(f"{name} asks for nothing, and a bundle needs an amount to reserve: {bundle!r}")


def to_units(amounts: Mapping[str, float | None]) -> Resources:
    """Return (name, ten-thousandths) pairs, sorted, without zero and absent amounts."""
    return tuple(
        sorted(
            (name, round(n * RESOURCE_UNIT)) for name, n in amounts.items() if n and round(n * RESOURCE_UNIT)
        )
    )


def _demand(given: Mapping[str, Any], cpus: float) -> dict[str, float | None]:
    kind = given.get("accelerator_type")
    return {
        **(given.get("resources") or {}),
        "CPU": cpus,
        "GPU": given.get("num_gpus"),
        "memory": given.get("memory"),
        # As in Ray: a machine with such a device has a resource of this name, and a task takes a thousandth.
        **({f"accelerator_type:{kind}": 0.001} if kind else {}),
    }


def _retried(given: Any) -> bool | tuple[type[BaseException], ...]:
    return tuple(given) if isinstance(given, list | tuple) else bool(given)


def check_stream(given: Mapping[str, Any], what: str, *, is_generator: bool) -> None:
    """Raise ValueError where options of generators are given to `what`, which is no generator. Warns of "dynamic"."""
    returns, limit = given.get("num_returns"), given.get(_LIMIT)
    if returns in _STREAMS and not is_generator:
        raise ValueError(f"num_returns={returns!r} is for generator functions, and {what} does not yield")
    streams = returns == "streaming" or (returns is None and is_generator)
    if limit is not None and not streams:
        raise ValueError(
            f"{_LIMIT} is for generator functions with num_returns='streaming', which {what} is not"
        )
    if returns == "dynamic":
        # The stack level of the code that calls `remote`, `method` or `options`.
        text = "num_returns='dynamic' is deprecated: with 'streaming' refs arrive while the task runs"
        warnings.warn(text, DeprecationWarning, stacklevel=3)


def _returns(given: Mapping[str, Any], is_generator: bool) -> tuple[int, int]:
    """Return the number of return objects, and `TaskOptions.stream`."""
    returns = given.get("num_returns")
    if returns == "dynamic":
        return 1, DYNAMIC
    if returns == "streaming" or (returns is None and is_generator):
        return 1, given.get(_LIMIT) or ENDLESS
    return 1 if returns is None else returns, 0


def task_options(given: Mapping[str, Any], *, is_generator: bool = False) -> TaskOptions:
    """Return the record of checked options of a task."""
    cpus, retries, max_calls = (given.get(name) for name in ("num_cpus", "max_retries", "max_calls"))
    returns, stream = _returns(given, is_generator)
    needs = to_units(_demand(given, 1 if cpus is None else cpus))
    if max_calls is None:
        # As in Ray: a library keeps the memory of a GPU until its process ends.
        max_calls = 1 if given.get("num_gpus") else 0
    rare = RareOptions(max_calls=max_calls)
    return TaskOptions(
        name=given.get("name"),
        returns=returns,
        stream=stream,
        resources=needs,
        max_retries=settings.read().task_max_retries if retries is None else retries,
        retry_exceptions=_retried(given.get("retry_exceptions")),
        place=place_of(given, needs),
        rare=rare if any(rare) else None,
        runtime_env=given.get("runtime_env"),
    )


def actor_options(
    given: Mapping[str, Any], class_name: str, *, is_async: bool = False
) -> tuple[TaskOptions, ActorOptions]:
    """Return the records of checked options of an actor: for its creation, and for the actor itself."""
    cpus = given.get("num_cpus")
    reserved = any(
        given.get(name) is not None for name in ("num_cpus", "num_gpus", "resources", "accelerator_type")
    )
    held = to_units(_demand(given, (1 if cpus is None else cpus) if reserved else 0))
    creation = held if reserved else to_units(_demand(given, 1))
    concurrency = given.get("max_concurrency") or (ASYNC_CONCURRENCY if is_async else 1)
    _check_order(given, class_name, is_async, concurrency)
    return (
        TaskOptions(
            resources=creation,
            max_retries=0,
            place=place_of(given, creation),
            runtime_env=given.get("runtime_env"),
        ),
        ActorOptions(
            class_name=class_name,
            resources=held,
            max_restarts=given.get("max_restarts") or 0,
            max_task_retries=given.get("max_task_retries") or 0,
            max_concurrency=concurrency,
            max_pending_calls=max(0, given.get("max_pending_calls") or 0),
            unordered=bool(given.get("allow_out_of_order_execution")),
            groups=tuple((given.get("concurrency_groups") or {}).items()),
            name=given.get("name") or "",
            namespace=given.get("namespace") or "",
            detached=given.get("lifetime") == "detached",
            get_if_exists=bool(given.get("get_if_exists")),
        ),
    )


def _check_order(given: Mapping[str, Any], class_name: str, is_async: bool, concurrency: int) -> None:
    """Raise ValueError if an actor that runs several calls at a time is to run them in order. As in Ray."""
    groups = given.get("concurrency_groups")
    if given.get("allow_out_of_order_execution") is not False or not (is_async or concurrency > 1 or groups):
        return
    why = "its methods are async" if is_async else f"max_concurrency={concurrency}"
    why = f"concurrency_groups={groups}" if groups else why
    raise ValueError(
        f"allow_out_of_order_execution=False does not go with {class_name}, which runs several calls at a time ({why})"
    )


def check_group(group: str, groups: tuple[str, ...], what: str) -> None:
    """Raise ValueError if a method is to run in a concurrency group that its actor does not have."""
    if group and group not in groups:
        known = ", ".join(map(repr, groups)) or "none"
        raise ValueError(
            f"{what} is in no concurrency group {group!r} of its actor; there are: {known}. Declare the group with the "
            f"number of calls that it runs at a time: @remote(concurrency_groups={{{group!r}: 1}})."
        )


def method_options(
    given: Mapping[str, Any], max_task_retries: int, *, is_generator: bool = False
) -> TaskOptions:
    """Return the record of checked options of a method; `max_task_retries` is the actor's option."""
    retries = given.get("max_task_retries")
    returns, stream = _returns(given, is_generator)
    return TaskOptions(
        name=given.get("name"),
        returns=returns,
        stream=stream,
        resources=(),
        max_retries=max_task_retries if retries is None else retries,
        retry_exceptions=_retried(given.get("retry_exceptions")),
        group=given.get("concurrency_group") or "",
    )
