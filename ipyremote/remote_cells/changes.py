"""The changes that `install` makes in a process, and their undoing.

Rules. Changes are undone in the reverse order. An attribute that other code has replaced meanwhile stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Final

from ipyremote.remote_cells.import_hooks import after_import

__all__ = ["Changes"]

_ABSENT: Final = object()


class Changes:
    """Changes of one process. Any thread may add to them."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def replace(self, owner: Any, **attributes: Any) -> None:
        """Set attributes of a module or a class."""
        for name, value in attributes.items():
            # The class's own dictionary, because a lookup on the class may find a method of its base.
            former = vars(owner).get(name, _ABSENT)
            setattr(owner, name, value)
            self._stack.callback(_restore, owner, name, value, former)

    def after_import(self, name: str, hook: Callable[[ModuleType], object]) -> None:
        """Call `hook(module)` after the first import of a module; now, if the module has been imported."""
        self._stack.callback(after_import(name, hook))

    def on_undo(self, undo: Callable[[], object]) -> None:
        """Have `undo` called when the changes are undone."""
        self._stack.callback(undo)

    def undo(self) -> None:
        """Undo all changes. A second call does nothing."""
        self._stack.close()


def _restore(owner: Any, name: str, value: Any, former: Any) -> None:
    if vars(owner).get(name, _ABSENT) is not value:
        return
    if former is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, former)
