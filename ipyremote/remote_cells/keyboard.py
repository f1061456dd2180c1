"""`input`, `getpass` and `breakpoint` in a worker, which refuse because a worker has no keyboard."""

from __future__ import annotations

import builtins
import os
import sys
from typing import Any, Final, NoReturn

from ipyremote import settings
from ipyremote.remote_cells.changes import Changes

__all__ = ["install"]

_ASK: Final = "Ask in a cell of the notebook, and use the answer here by its name."
_DEBUG: Final = (
    'To step through the code, run the program with init(backend="inline"), which runs tasks in the notebook\'s own '
    "process."
)


def install(changes: Changes) -> None:
    """Have these functions raise RuntimeError if this process has no keyboard."""
    if not _stdin_is_null():
        return
    changes.replace(builtins, input=_input)
    changes.after_import(
        "getpass", lambda module: changes.replace(module, getpass=_getpass, unix_getpass=_getpass)
    )
    changes.after_import("pdb", lambda module: changes.replace(module, set_trace=_set_trace))
    if not settings.has_breakpoint_hook():
        changes.replace(sys, breakpointhook=_breakpoint)


def _input(prompt: object = "", /) -> NoReturn:
    _refuse("input()", _ASK)


def _getpass(prompt: object = "", *_args: Any, **_options: Any) -> NoReturn:
    _refuse("getpass()", _ASK)


def _breakpoint(*_args: Any, **_options: Any) -> NoReturn:
    _refuse("breakpoint()", _DEBUG)


def _set_trace(*_args: Any, **_options: Any) -> NoReturn:
    _refuse("pdb.set_trace()", _DEBUG)


def _refuse(what: str, instead: str) -> NoReturn:
    raise RuntimeError(
        f"{what} does not work in a remote cell or task, because a worker has no keyboard. {instead}"
    )


def _stdin_is_null() -> bool:
    try:
        return os.path.samestat(os.fstat(0), os.stat(os.devnull))
    except OSError:  # descriptor 0 is closed
        return True
