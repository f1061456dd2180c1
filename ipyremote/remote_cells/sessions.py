"""A session of `%%remote -s`: a namespace that stays, in a process of its own, like a second kernel.

An actor. Each cell brings copies of what it reads and the session lacks. Rules. A name that the session has bound
itself is its own: no copy of the notebook's replaces it, unless the cell asks for that by `-i`. Functions of the
notebook are given the session's globals, so `x = 5; f()` means here what it means in the notebook.
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

#: (name, type, bytes or None where nobody knows)
Variable = tuple[str, str, int | None]

#: Names that Python or a cell's execution puts into every namespace.
_PLUMBING: Final = frozenset({"_exit_code"})


class CellSession:
    """The actor."""

    #: An interrupt of the notebook is one of the cell that runs here; see `inside.INTERRUPTIBLE`.
    __ipyremote_interruptible__ = True

    def __init__(self) -> None:
        self._space: dict[str, Any] = {"__name__": "__main__"}
        self._shell = RemoteShell(self._space)
        #: Copies from the notebook by name, as they came.
        self._copies: dict[str, Any] = {}

    def run(
        self, cell: Cell, inputs: CellInputs, names: tuple[str, ...], asked: tuple[str, ...], *values: Any
    ) -> Any:
        """Run a cell; see `run_cell`. `asked`: names that are replaced even if they are the session's own."""
        space = self._space
        home, captured = inputs
        arrived = home.__globals__
        for name, value in arrived.items():
            # What captured functions refer to. Code is always fresh, data stays as it was when it came first.
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
        """What is in the namespace, by name; modules are left out."""
        return [
            (name, type(value).__name__, size_of(value) or sys.getsizeof(value, 0) or None)
            for name, value in sorted(self._space.items())
            if not name.startswith("__") and name not in _PLUMBING and not isinstance(value, ModuleType)
        ]


def _moved(value: Any, source: dict[str, Any], target: dict[str, Any]) -> Any:
    """A function or class of the notebook whose globals are `source`, with the globals `target`; all else as it is."""
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
        # A decorated function keeps the original in its closure, a recursive local one itself.
        inner = cell.cell_contents
        if isinstance(inner, FunctionType) and inner.__globals__ is source:
            # Replaced before its own closure is looked at: two functions may refer to each other.
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
