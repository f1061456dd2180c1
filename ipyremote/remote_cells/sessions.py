"""A session of `%%remote -s`: an actor with a lasting namespace, in a process of its own, like a second kernel.

Each cell brings copies of the values that the cell reads and the session lacks. Rules. A name that the session itself
has bound is the session's own: no copy from the notebook replaces its value, unless the cell names it behind `-i`.
Functions of the notebook get the session's globals, so `x = 5; f()` means the same here as in the notebook.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final

from ipyremote.remote_cells.cell import Cell, CellInputs, execute
from ipyremote.remote_cells.preview import size_of
from ipyremote.remote_cells.shell import RemoteShell

__all__ = ["CellSession", "Variable"]

#: Name, type, and size in bytes of a variable; None for an unknown size.
Variable = tuple[str, str, int | None]

#: Names that the execution of a cell puts into every namespace.
_PLUMBING: Final = frozenset({"_exit_code"})


class CellSession:
    """The actor class of a session."""

    #: Whether cancelling interrupts the running cell; see `current_task.INTERRUPTIBLE`.
    __ipyremote_interruptible__ = True

    def __init__(self) -> None:
        self._space: dict[str, Any] = {"__name__": "__main__"}
        self._shell = RemoteShell(self._space)
        #: Values that came from the notebook, by name.
        self._copies: dict[str, Any] = {}

    def run(
        self, cell: Cell, inputs: CellInputs, names: tuple[str, ...], asked: tuple[str, ...], *values: Any
    ) -> Any:
        """Run a cell; see `run_cell`. Names in `asked` are replaced even if they are the session's own."""
        space = self._space
        home, captured = inputs
        arrived = home.__globals__
        for name, value in arrived.items():
            # Globals of captured functions. Functions and classes are always replaced; other values only come once.
            if not name.startswith("__") and (name not in space or isinstance(value, FunctionType | type)):
                self._take(name, _moved(value, arrived, space), asked)
        for name, value in (*captured.items(), *zip(names, values, strict=True)):
            self._take(name, _moved(value, arrived, space), asked)
        return execute(cell, space, self._shell)

    def _take(self, name: str, value: Any, asked: tuple[str, ...]) -> None:
        if name not in asked and self._is_own(name):
            return
        self._space[name] = self._copies[name] = value

    def _is_own(self, name: str) -> bool:
        space = self._space
        return name in space and not (name in self._copies and self._copies[name] is space[name])

    def variables(self) -> list[Variable]:
        """Return the variables of the namespace by name, without modules."""
        return [
            (name, type(value).__name__, size_of(value) or sys.getsizeof(value, 0) or None)
            for name, value in sorted(self._space.items())
            if not name.startswith("__") and name not in _PLUMBING and not isinstance(value, ModuleType)
        ]


def _moved(value: Any, source: dict[str, Any], target: dict[str, Any]) -> Any:
    """Return a function or class with the globals `target` in place of `source`, and any other value unchanged."""
    if isinstance(value, FunctionType):
        return _moved_function(value, source, target)
    if isinstance(value, type) and value.__module__ == "__main__":
        for name, member in list(vars(value).items()):
            moved = _moved_member(member, source, target)
            if moved is not member:
                setattr(value, name, moved)
    return value


def _moved_member(member: Any, source: dict[str, Any], target: dict[str, Any]) -> Any:
    match member:
        case FunctionType():
            return _moved_function(member, source, target)
        case staticmethod() | classmethod():
            inner = member.__func__
            moved = _moved_function(inner, source, target) if isinstance(inner, FunctionType) else inner
            return member if moved is inner else type(member)(moved)
        case property():
            parts: list[Any] = [member.fget, member.fset, member.fdel]
            new = [
                _moved_function(part, source, target) if isinstance(part, FunctionType) else part
                for part in parts
            ]
            return property(new[0], new[1], new[2], member.__doc__)
        case _:
            return member


def _moved_function(fn: FunctionType, source: dict[str, Any], target: dict[str, Any]) -> FunctionType:
    if fn.__globals__ is not source:
        return fn
    moved = FunctionType(fn.__code__, target, fn.__name__, fn.__defaults__, fn.__closure__)
    for cell in _cells(fn):
        # The closure of a decorated function has the original, and that of a recursive local function itself.
        inner = cell.cell_contents
        if isinstance(inner, FunctionType) and inner.__globals__ is source:
            # Replaced before the recursion into its closure, because two functions may refer to each other.
            cell.cell_contents = moved
            if inner is not fn:
                cell.cell_contents = _moved_function(inner, source, target)
    moved.__kwdefaults__ = fn.__kwdefaults__
    moved.__qualname__ = fn.__qualname__
    moved.__module__ = fn.__module__
    moved.__doc__ = fn.__doc__
    moved.__annotations__ = fn.__annotations__
    moved.__dict__.update(fn.__dict__)
    return moved


def _cells(fn: FunctionType) -> Iterator[Any]:
    for cell in fn.__closure__ or ():
        try:
            cell.cell_contents  # noqa: B018  # whether it has any
        except ValueError:
            continue
        yield cell
