"""The parts of the compared programs: small functions called behaviours, and a report of the outcome of each.

A behaviour is a function that uses the API, and returns a plain value or raises. The report has the value, or the
names of the exception's class and of its built-in bases, without the engine's own prefix. This module
runs in the processes of both engines and imports neither.
"""

from __future__ import annotations

import builtins
import json
import traceback
from collections.abc import Callable
from typing import Any

from tests.support.waiting import until

__all__ = ["Program", "caught", "comes_true", "raised"]

#: Prefix of the report's line on stdout.
MARK = "REPORT "
_PREFIXES = ("IPyRemote", "Ray")


class Program:
    """The behaviours of one program, in order."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Callable[[], Any]] = {}

    def __call__(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Add a behaviour to the program; usable as a decorator."""
        self.behaviours[function.__name__] = function
        return function

    def report(self) -> None:
        """Run all behaviours and print their outcomes."""
        outcomes = {name: _outcome(function) for name, function in self.behaviours.items()}
        print(MARK + json.dumps(outcomes), flush=True)


def _outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": _plain(function())}
    except Exception as error:
        return {"raises": _names(error), "traceback": traceback.format_exc()[-2000:]}


def raised(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the class names of the exception that a call raises, or "nothing"."""
    try:
        function(*args, **kwargs)
    except BaseException as error:
        return _names(error)
    return "nothing"


def caught(kind: type[BaseException], function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Return whether a call raises an exception that `except kind` catches."""
    try:
        function(*args, **kwargs)
    except kind:
        return True
    return False


def _names(error: BaseException) -> list[str]:
    """Return the names of an exception's class and of the built-in classes that catch the exception."""
    kinds = type(error).__mro__
    bases = [kind.__name__ for kind in kinds[1:] if getattr(builtins, kind.__name__, None) is kind]
    hidden = ("object", "BaseException", "Exception")
    return [_common(kinds[0].__name__), *(name for name in bases if name not in hidden)]


def _common(name: str) -> str:
    """Return the name of a class without the engine's own prefix."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _plain(value: Any) -> Any:
    """Return a value in a form that JSON can represent."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, BaseException):
        return _names(value)
    if isinstance(value, type):
        return _common(value.__name__)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _common(type(value).__name__)


def comes_true(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Return whether `condition()` becomes true in time."""
    try:
        until(condition, "the condition is true", seconds, pause=0.02)
    except AssertionError:
        return False
    return True
