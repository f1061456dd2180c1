"""The backend of this process: one slot that the API reads and the session fills."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ipyremote.backend.protocol import Backend, Waiting

__all__ = [
    "backend",
    "install",
    "observe",
    "peek",
    "remove",
    "set_waiting",
    "start_with",
    "unobserve",
    "waiting",
]


@dataclass(slots=True)
class _BackendSlot:
    """The backend of this process: one slot under one lock."""

    backend: Backend | None = None
    #: Function that starts a backend where there is none; `session/lifecycle.py` sets it.
    start: Callable[[], Backend] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    #: Functions that are told of each backend that becomes current (True) or stops being current (False).
    observers: list[Callable[[Backend, bool], None]] = field(default_factory=list)
    #: Who is told of each `get` that waits; None for nobody.
    waiting: Waiting | None = None


_current = _BackendSlot()


def backend() -> Backend:
    """Return the current backend; start one where there is none."""
    found = _current.backend
    if found is not None:
        return found
    with _current.lock:
        if (found := _current.backend) is None:
            if _current.start is None:
                raise RuntimeError("ipyremote is not initialised: call ipyremote.init() first")
            found = _current.start()
            if _current.backend is not found:
                install(found)
        return found


def peek() -> Backend | None:
    """Return the current backend, or None; never start one."""
    return _current.backend


def install(backend: Backend) -> None:
    """Make `backend` the current one."""
    _current.backend = backend
    for observer in tuple(_current.observers):
        observer(backend, True)


def remove(backend: Backend | None = None) -> None:
    """Make no backend current; with an argument, only if that backend is current."""
    removed = _current.backend
    if removed is not None and (backend is None or removed is backend):
        _current.backend = None
        for observer in tuple(_current.observers):
            observer(removed, False)


def observe(observer: Callable[[Backend, bool], None]) -> None:
    """Call `observer(backend, True)` for each backend that becomes current, `observer(backend, False)` at its end.

    An observer must be quick and never raise.
    """
    _current.observers.append(observer)


def unobserve(observer: Callable[[Backend, bool], None]) -> None:
    """Undo `observe`."""
    _current.observers.remove(observer)


def set_waiting(waiting: Waiting | None) -> None:
    """Tell `waiting` of each `get` that waits, from now on; None for nobody."""
    _current.waiting = waiting


def waiting() -> Waiting | None:
    """Return who is told of each `get` that waits."""
    return _current.waiting


def start_with(start: Callable[[], Backend]) -> None:
    """Set the function by which `backend()` starts a backend where there is none."""
    _current.start = start
