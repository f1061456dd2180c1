"""`get_ipython()` of a remote cell: a stand-in for IPython's own shell, which is made at the first use.

The notebook's IPython translates `!command` and `%magic` into calls of `get_ipython()`. The first such call in a cell
imports IPython and makes the shell of `ipython_shell.py`; a cell without such calls costs nothing, even if a library
checks that there is a `get_ipython`. Rules. Magics and attributes that need the notebook's own IPython, a keyboard or a
history are refused by the notebook before the cell runs (`REFUSED_MAGICS`, `REFUSED_ATTRIBUTES`). Changes of magics in
the process (`%cd`, `%env`) and in the shell (`%load_ext`, `%precision`) are undone when the cell ends, unless the cell
runs in a session.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ipyremote.remote_cells.changes import Changes

if TYPE_CHECKING:
    from ipyremote.remote_cells.ipython_shell import CellShell

__all__ = [
    "OTHER_LANGUAGES",
    "PYTHON_MAGICS",
    "REFUSED_ATTRIBUTES",
    "REFUSED_MAGICS",
    "RemoteShell",
    "adapt_ipython",
]

#: Magics that have no meaning in a worker: they need a keyboard, a history, a window or the notebook's kernel.
REFUSED_MAGICS: Final = frozenset(
    {
        "autocall",
        "autoindent",
        "autosave",
        "bookmark",
        "clear",
        "colors",
        "connect_info",
        "debug",
        "ed",
        "edit",
        "gui",
        "hist",
        "history",
        "killbgscripts",
        "less",
        "load",
        "loadpy",
        "logoff",
        "logon",
        "logstart",
        "logstate",
        "logstop",
        "macro",
        "man",
        "more",
        "notebook",
        "page",
        "pastebin",
        "pdb",
        "pylab",
        "qtconsole",
        "recall",
        "remote",
        "remote_cancel",
        "remote_gc",
        "remote_log",
        "remote_sessions",
        "remote_shutdown",
        "remote_status",
        "remote_why",
        "rep",
        "rerun",
        "reset",
        "reset_selective",
        "save",
        "store",
        "subshell",
        "tb",
        "xdel",
        "xmode",
    }
)
#: Parts of a notebook's `get_ipython()` that a worker does not have.
REFUSED_ATTRIBUTES: Final = frozenset(
    {"ask_exit", "enable_gui", "kernel", "payload_manager", "set_next_input", "start_displayhook"}
)
#: Magics whose text is Python code.
PYTHON_MAGICS: Final = frozenset({"capture", "lprun", "memit", "mprun", "prun", "time", "timeit"})
#: Cell magics whose text is not Python code.
OTHER_LANGUAGES: Final = frozenset(
    {
        "!",
        "HTML",
        "SVG",
        "bash",
        "file",
        "html",
        "javascript",
        "js",
        "latex",
        "markdown",
        "perl",
        "ruby",
        "script",
        "sh",
        "svg",
        "sx",
        "system",
        "writefile",
    }
)

#: `run(source, lines)` runs Python code of the cell that begins below this number of lines of the cell.
Run = Callable[[str, int], Any]


class RemoteShell:
    """The stand-in for the shell of a cell or of a session; see the module docstring."""

    __slots__ = ("_run", "_shell", "_space")

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space
        self._run: tuple[Run, str] | None = None
        self._shell: CellShell | None = None

    def _begin(self, run: Run, filename: str) -> None:
        """Begin a cell whose code comes from the file `filename`."""
        self._run = run, filename
        if self._shell is not None:
            self._shell.begin(run, filename)

    def _end(self) -> None:
        """Undo the changes of magics, and forget the shell."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.end()

    def _made(self) -> CellShell:
        if self._shell is None:
            from ipyremote.remote_cells.ipython_shell import CellShell

            self._shell = CellShell(self._space)
            if self._run is not None:
                self._shell.begin(*self._run)
        return self._shell

    @property  # type: ignore[misc]  # an object's own can be set
    def __class__(self) -> Any:
        # Code that checks for the class of IPython's shell has imported IPython.
        return type(self._made()) if "IPython" in sys.modules else RemoteShell

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._made(), name)
        except AttributeError:
            raise AttributeError(
                f"get_ipython().{name} does not exist in a remote cell: a worker has IPython's shell, but no kernel"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in RemoteShell.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._made(), name, value)


def adapt_ipython(changes: Changes) -> None:
    """Have `IPython.get_ipython()` return a cell's shell, so that `@register_line_magic` and extensions work."""

    def adapt(module: ModuleType) -> None:
        original = vars(module)["get_ipython"]

        def get_ipython() -> Any:
            """Return the shell of the running cell, or that of IPython itself."""
            # The module is imported by the first cell; before that there is no cell to look up.
            scopes = sys.modules.get("ipyremote.remote_cells.scopes")
            found = None if scopes is None else scopes.shell()
            return original() if found is None else found

        changes.replace(module, get_ipython=get_ipython)
        for name in ("IPython", "IPython.core.magic"):
            other = sys.modules.get(name)
            if other is not None and vars(other).get("get_ipython") is original:
                changes.replace(other, get_ipython=get_ipython)

    changes.after_import("IPython.core.getipython", adapt)
