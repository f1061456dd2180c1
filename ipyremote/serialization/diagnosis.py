"""Search for the part of a value that cannot be pickled, with the path of the part, such as `args[1]['model'].lock`.

This module is not a pickler: callers pass a function that tries to pickle a part. The search visits the parts that
pickle would visit (items, attributes, names that a function uses), and descends into the first part that cannot be
pickled.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import reprlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

__all__ = ["UnpicklablePart", "explore", "find"]

#: Maximum depth of the search, in levels below the value.
_DEPTH: Final = 8
#: Maximum number of parts to try in one search: a value may have millions of parts.
_TRIES: Final = 10_000


def find(value: Any, names: Sequence[str], picklable: Callable[[Any], bool]) -> tuple[str, Any]:
    """Return (path, part) of the innermost part of `value` for which `picklable` is false, within the bounds.

    `names` are the names of the elements of the tuple `value`. Without names, the path begins with the name of `value`.
    """
    root = getattr(value, "__qualname__", "value")
    path = "" if names else root
    parts = zip(names, value, strict=True) if names else _parts(value)
    tries = 0
    for _ in range(_DEPTH):
        for step, part in parts:
            tries += 1
            if tries > _TRIES:
                return path or root, value
            if not picklable(part):
                path += step
                value = part
                break
        else:
            break
        parts = _parts(value)
    return path or root, value


@dataclass(frozen=True, slots=True)
class UnpicklablePart:
    """A part of a value that cannot be pickled."""

    value: Any
    #: Name of the part within its parent.
    name: str
    parent: Any
    #: Depth of the part, in levels below the searched value, which has level 0.
    level: int
    #: Message of the error that pickle raised for the part.
    reason: str
    #: Whether each tried part of this part can be pickled, so that this part itself is to blame.
    is_innermost: bool


def explore(
    value: Any, name: str, depth: int, why_not: Callable[[Any], Exception | None]
) -> Iterator[UnpicklablePart]:
    """Yield each part of `value` that cannot be pickled, a part before its own parts, down to level `depth`.

    `why_not` returns the error that pickling a part raises, or None. The number of tries is bounded.
    """
    reason = why_not(value)
    if reason is not None:
        yield from _explore(value, name, None, reason, 0, depth, why_not, itertools.count())


def _explore(
    value: Any,
    name: str,
    parent: Any,
    reason: Exception,
    level: int,
    depth: int,
    why_not: Callable[[Any], Exception | None],
    tries: Iterator[int],
) -> Iterator[UnpicklablePart]:
    bad = []
    for step, part in _parts(value) if level < depth else ():
        why = why_not(part)
        if why is not None:
            bad.append((step.removeprefix(" -> ").removeprefix(".").strip(), part, why))
        if next(tries) >= _TRIES:
            break
    yield UnpicklablePart(value, name, parent, level, str(reason), not bad)
    for step, part, why in bad:
        yield from _explore(part, step, value, why, level + 1, depth, why_not, tries)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path step from `value` to the part, part) for each part that pickle would save with `value`."""
    match value:
        case dict():
            for key, part in value.items():
                yield f"[{reprlib.repr(key)}]", part
            for key in value:
                yield f" key {reprlib.repr(key)}", key
        case list() | tuple() | set() | frozenset() | deque():
            for index, part in enumerate(value):
                yield f"[{index}]", part
        case FunctionType():
            yield from _parts_of_function(value)
        case MethodType():
            yield ".__self__", value.__self__
        case type():
            for name, part in vars(value).items():
                if name not in ("__dict__", "__weakref__"):
                    yield f".{name}", part
        case functools.partial():
            yield ".func", value.func
            yield ".args", value.args
            yield ".keywords", value.keywords
        case str() | bytes() | int() | float() | ModuleType() | BuiltinFunctionType() | None:
            return
        case _:
            yield from _parts_of_state(value)


def _parts_of_function(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield f" -> {name}", cell.cell_contents
        except ValueError:  # the variable is not assigned yet
            continue
    codes = [fn.__code__]
    for code in codes:
        for name in code.co_names:
            if name in fn.__globals__:
                yield f" -> {name}", fn.__globals__[name]
        codes.extend(constant for constant in code.co_consts if type(constant) is CodeType)
    yield ".__defaults__", fn.__defaults__
    yield ".__kwdefaults__", fn.__kwdefaults__


def _parts_of_state(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that pickle would save of an instance, according to its `__reduce_ex__`."""
    try:
        reduced = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except Exception:  # user code or a type that refuses to be pickled raised it: `value` itself is to blame
        return
    if not isinstance(reduced, tuple):
        return
    state = reduced[2] if len(reduced) > 2 else None
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict):
            for name, part in attributes.items():
                yield f".{name}", part
    for index, part in enumerate(reduced[1] or ()):
        yield ".__class__" if part is type(value) else f" constructor argument {index}", part
