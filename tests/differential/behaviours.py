"""What the compared programs are made of: small functions, and a report of what came of each.

A behaviour is a function that uses the API and returns something plain, or raises. The report has the value, or the
names of the exception's class and of its built-in bases, without what only one of the engines is called. This module
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

#: Precedes the report on stdout.
MARK = "REPORT "
_PREFIXES = ("IPyRemote", "Ray")


class Program:
    """The behaviours of one program, in order."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Callable[[], Any]] = {}

    def __call__(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Decorator: a behaviour."""
        self.behaviours[function.__name__] = function
        return function

    def report(self) -> None:
        """Run them all and print what came of them."""
        outcomes = {name: _outcome(function) for name, function in self.behaviours.items()}
        print(MARK + json.dumps(outcomes), flush=True)


def _outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": _plain(function())}
    except Exception as error:
        return {"raises": _names(error), "traceback": traceback.format_exc()[-2000:]}


def raised(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call raises, as the names of its class; "nothing" if it does not."""
    try:
        function(*args, **kwargs)
    except BaseException as error:
        return _names(error)
    return "nothing"


def caught(kind: type[BaseException], function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether a call raises something that `except kind` catches."""
    try:
        function(*args, **kwargs)
    except kind:
        return True
    return False


def _names(error: BaseException) -> list[str]:
    """Its own class, and the built-in ones that it can be caught as."""
    kinds = type(error).__mro__
    bases = [kind.__name__ for kind in kinds[1:] if getattr(builtins, kind.__name__, None) is kind]
    hidden = ("object", "BaseException", "Exception")
    return [_common(kinds[0].__name__), *(name for name in bases if name not in hidden)]


def _common(name: str) -> str:
    """A class's name without the engine's."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
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
