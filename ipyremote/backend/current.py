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
class _Current:
    """The process-wide current backend; one slot, one lock."""

    backend: Backend | None = None
    #: Starts a backend when there is none; set by `api` so that lower layers can auto-init.
    start: Callable[[], Backend] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    #: Told of each backend that becomes current (True) or stops being so (False); they must be quick and never raise.
    observers: list[Callable[[Backend, bool], None]] = field(default_factory=list)
    waiting: Waiting | None = None


_current = _Current()


def backend() -> Backend:
    """The current backend; starts one when there is none (auto-init)."""
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
    """The current backend, or None; never starts one."""
    return _current.backend


def install(backend: Backend) -> None:
    """Make `backend` the current one."""
    _current.backend = backend
    for observer in tuple(_current.observers):
        observer(backend, True)


def remove(backend: Backend | None = None) -> None:
    """Make no backend current; with an argument only if that one is."""
    removed = _current.backend
    if removed is not None and (backend is None or removed is backend):
        _current.backend = None
        for observer in tuple(_current.observers):
            observer(removed, False)


def observe(observer: Callable[[Backend, bool], None]) -> None:
    """Call `observer(backend, True)` for each backend that becomes current, `(backend, False)` when it no longer is."""
    _current.observers.append(observer)


def unobserve(observer: Callable[[Backend, bool], None]) -> None:
    """Undo `observe`."""
    _current.observers.remove(observer)


def set_waiting(waiting: Waiting | None) -> None:
    """Tell this one of whoever waits from now on."""
    _current.waiting = waiting


def waiting() -> Waiting | None:
    """Who is told of those that wait."""
    return _current.waiting


def start_with(start: Callable[[], Backend]) -> None:
    """How `backend()` starts a backend when there is none."""
    _current.start = start
