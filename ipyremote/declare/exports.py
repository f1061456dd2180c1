"""When a function or class is given to the backend: once for each backend, and again in each notebook cell.

A notebook redefines helpers and changes globals, and a pickled function has copies of both. So the notebook layer bumps
the epoch at each cell, and the first call in a cell pickles again; unchanged bytes are not sent again, which is the
backend's affair. A plain script stays in its first epoch and captures once, as Ray does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipyremote.backend import Backend, Exported

__all__ = ["Export", "bump_epoch", "epoch", "last_used"]


class _Epoch:
    """The number of the current epoch, and which backend was last given anything."""

    __slots__ = ("backend", "number")

    def __init__(self) -> None:
        self.number = 0
        self.backend: Backend | None = None


_state = _Epoch()


def bump_epoch() -> None:
    """From now on everything is pickled again at its next use."""
    _state.number += 1


def epoch() -> int:
    """The number of the current epoch."""
    return _state.number


def last_used() -> Backend | None:
    """The backend that was last given a function, class or value by this process; None: none was."""
    return _state.backend


def mark_used(backend: Backend) -> None:
    """Remember that this backend has been given something."""
    _state.backend = backend


class Export:
    """A function or class with what the current backend made of it."""

    __slots__ = ("_known", "name", "target")

    def __init__(self, target: Callable[..., Any], name: str) -> None:
        self.target = target
        self.name = name
        # One tuple, replaced as a whole, so that threads see a consistent one: two that export at once do it twice.
        self._known: tuple[Backend, int, Exported] | None = None

    def to(self, backend: Backend) -> Exported:
        """What `backend` knows it as. Raises TypeError or ValueError when it cannot be taken."""
        known = self._known
        if known is not None and known[0] is backend and known[1] == _state.number:
            return known[2]
        number = _state.number
        exported = backend.define(self.target, self.name)
        self._known = (backend, number, exported)
        _state.backend = backend
        return exported

    def __reduce__(self) -> tuple[Any, ...]:
        return (Export, (self.target, self.name))
