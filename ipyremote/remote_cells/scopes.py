"""`__main__` and `get_ipython()`, of which each running cell has its own, and other code the process's.

One cell runs at a time in most processes; where an engine runs several in threads of its own, each cell has its own.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ipyremote.remote_cells.shell import RemoteShell

__all__ = ["Scope", "entered", "shell"]


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """The `__main__` and the shell of one running cell."""

    #: Names of `__main__`.
    space: dict[str, Any]
    #: Result of `get_ipython()` in the cell.
    shell: RemoteShell


class _Scopes:
    """The cells that run in this process now.

    The built-in names and `__main__` are the process's, so they are set when the first cell begins and restored when
    the last one ends. In between they look up the cell of the calling code.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The newest last.
        self._running: list[Scope] = []
        #: The cell of the present thread or coroutine.
        self._own: ContextVar[Scope | None] = ContextVar("ipyremote_cell", default=None)
        self._restore = ExitStack()

    def find(self) -> Scope | None:
        """Return the cell of the calling code; in a thread that a cell has started, the cell that began last."""
        running = self._running
        return self._own.get() or (running[-1] if running else None)

    @property
    def current(self) -> Scope:
        """The cell of the calling code. Raises RuntimeError when there is none."""
        scope = self.find()
        if scope is None:
            raise RuntimeError("the cell that this code belongs to has ended")
        return scope

    @contextmanager
    def entered(self, scope: Scope) -> Iterator[None]:
        """Have the code of this block see a cell's names."""
        token = self._own.set(scope)
        with self._lock:
            if not self._running:
                self._take_over()
            self._running.append(scope)
        try:
            yield
        finally:
            self._own.reset(token)
            with self._lock:
                self._running.remove(scope)
                if not self._running:
                    self._restore.close()

    def _take_over(self) -> None:
        names = vars(builtins)
        self._set(names, "get_ipython", lambda: self.current.shell)
        if "display" not in names:
            self._set(names, "display", _display)
        self._set(sys.modules, "__main__", _CellModule())

    def _set(self, names: dict[str, Any], name: str, value: Any) -> None:
        self._restore.callback(_put_back, names, name, names.get(name))
        names[name] = value


def _put_back(names: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        names.pop(name, None)
    else:
        names[name] = value


_scopes = _Scopes()
entered = _scopes.entered


def shell() -> RemoteShell | None:
    """Return what `get_ipython()` gives to the calling code; None outside of cells."""
    scope = _scopes.find()
    return None if scope is None else scope.shell


class _CellModule(ModuleType):
    """`__main__` while a cell runs: who looks up a class by its module (pickle, dataclasses, typing) finds it."""

    def __init__(self) -> None:
        super().__init__("__main__")

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # a module's is not a property
        return _scopes.current.space

    def __getattr__(self, name: str) -> Any:
        try:
            return _scopes.current.space[name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None


def _display(*objects: Any, **_options: Any) -> None:
    """Print objects: all that `display` of a notebook comes to where nobody has installed a better one."""
    for value in objects:
        print(repr(value))
