"""`__main__` and `get_ipython()` of running cells: each cell has its own, other code has those of the process.

In most processes one cell runs at a time. An engine may also run several cells, in threads of its own. If all cells run
in such threads, the main thread belongs to the program, such as a notebook, and keeps the names of the process.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ipyremote.remote_cells.display import plain_display
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

    All cells share the built-in names and `__main__` of the process, so these are replaced when the first cell begins
    and restored when the last cell ends. The replacements look up the cell of the calling code.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Running cells, the newest last.
        self._running: list[Scope] = []
        #: Cell of the present thread or coroutine.
        self._own: ContextVar[Scope | None] = ContextVar("ipyremote_cell", default=None)
        self._restore = ExitStack()
        #: Number of running cells that were entered on the main thread.
        self._on_main = 0
        #: The process's own `get_ipython` and `__main__` while any cell runs; None if there is none.
        self._own_get_ipython: Callable[[], Any] | None = None
        self.own_main: ModuleType | None = None

    def find(self) -> Scope | None:
        """Return the cell of the calling code; in a thread that a cell has started, the cell that began last."""
        running = self._running
        if (scope := self._own.get()) or not running:
            return scope
        return running[-1] if self._on_main or not _on_main_thread() else None

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
        on_main = _on_main_thread()
        with self._lock:
            if not self._running:
                self._take_over()
            self._running.append(scope)
            self._on_main += on_main
        if not on_main:
            # A shell of IPython on the main thread sets the built-in `get_ipython` for each of its own cells.
            scope.space["__builtins__"] = {**vars(builtins), "get_ipython": self._get_ipython}
        try:
            yield
        finally:
            self._own.reset(token)
            with self._lock:
                self._on_main -= on_main
                self._running.remove(scope)
                if not self._running:
                    self._restore.close()

    def _take_over(self) -> None:
        names = vars(builtins)
        self._own_get_ipython, self.own_main = names.get("get_ipython"), sys.modules.get("__main__")
        self._set(names, "get_ipython", self._get_ipython)
        if "display" not in names:
            self._set(names, "display", plain_display)
        self._set(sys.modules, "__main__", _CellModule())

    def _get_ipython(self) -> Any:
        """Return the shell of the calling code's cell, or the program's shell."""
        if self.find() is None and self._own_get_ipython is not None:
            return self._own_get_ipython()
        return self.current.shell

    def _set(self, names: dict[str, Any], name: str, value: Any) -> None:
        self._restore.callback(_put_back, names, name, names.get(name))
        names[name] = value


def _put_back(names: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        names.pop(name, None)
    else:
        names[name] = value


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_scopes = _Scopes()
entered = _scopes.entered


def shell() -> RemoteShell | None:
    """Return the result of `get_ipython()` in the calling code; None outside of cells."""
    scope = _scopes.find()
    return None if scope is None else scope.shell


class _CellModule(ModuleType):
    """`__main__` while cells run: pickle, dataclasses and typing look up the classes of a cell by this module."""

    def __init__(self) -> None:
        super().__init__("__main__")

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # a module's is not a property
        return _names()

    def __getattr__(self, name: str) -> Any:
        try:
            return _names()[name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None


def _names() -> dict[str, Any]:
    """Return the names of `__main__` for the calling code."""
    own = _scopes.own_main
    return vars(own) if _scopes.find() is None and own is not None else _scopes.current.space
