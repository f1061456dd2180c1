"""Finds the part of a value that cannot be pickled, and says where it is: `args[1]['model'].lock`.

Not a pickler: it is told how to try. It looks only where pickle would look, at items, attributes, and what a function
uses, and goes down into the first part that fails by itself.
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

#: How deep to look, and how many parts to try in all: a value may have millions.
_DEPTH: Final = 8
_TRIES: Final = 10_000


def find(value: Any, names: Sequence[str], picklable: Callable[[Any], bool]) -> tuple[str, Any]:
    """(path, part): the innermost part of `value` that `picklable` denies, within bounds.

    `names`: what to call the elements of the tuple `value`; without, the path begins with the name of `value`.
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
    #: What its parent calls it.
    name: str
    parent: Any
    #: How deep it lies.
    level: int
    #: What pickle said.
    reason: str
    #: Whether none of its own parts, as far as they were looked at, is to blame.
    is_innermost: bool


def explore(
    value: Any, name: str, depth: int, why_not: Callable[[Any], Exception | None]
) -> Iterator[UnpicklablePart]:
    """All parts down to `depth` that `why_not` gives a reason against, each before its own parts; within bounds."""
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
    """(how to get from `value` to the part, part), for what is pickled along with `value`."""
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
        except ValueError:  # not assigned yet
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
    """What pickle would save of an instance, asked of the instance itself."""
    try:
        reduced = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except Exception:  # user code, or a type that refuses: `value` itself is to blame
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
