"""Exports of functions and classes to the backend: once for each backend, and again in each notebook cell.

A notebook redefines helpers and changes globals, and a pickled function has copies of both. So the notebook layer bumps
the epoch at each cell, and the first call in a cell pickles again; the backend sends only changed bytes again. A plain
script stays in its first epoch and pickles once, as with Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipyremote.backend import Backend, Exported

__all__ = ["Export", "bump_epoch", "epoch", "last_used"]


class _Epoch:
    """The number of the current epoch, and the backend that was used last."""

    __slots__ = ("backend", "number")

    def __init__(self) -> None:
        self.number = 0
        self.backend: Backend | None = None


_state = _Epoch()


def bump_epoch() -> None:
    """Begin an epoch, in which each function and class is pickled again at its next use."""
    _state.number += 1


def epoch() -> int:
    """Return the number of the current epoch."""
    return _state.number


def last_used() -> Backend | None:
    """Return the backend that this process gave a function, class or value last; None if there is none."""
    return _state.backend


def mark_used(backend: Backend) -> None:
    """Remember that this backend was given a function, class or value."""
    _state.backend = backend


class Export:
    """A function or class, with its export to the current backend."""

    __slots__ = ("_known", "name", "target")

    def __init__(self, target: Callable[..., Any], name: str) -> None:
        self.target = target
        self.name = name
        # One tuple, replaced as a whole, so that threads see consistent parts; two threads may export at the same time.
        self._known: tuple[Backend, int, Exported] | None = None

    def to(self, backend: Backend) -> Exported:
        """Return the export to `backend`. Raises TypeError or ValueError when the function cannot be pickled."""
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
