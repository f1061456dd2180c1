"""Values of calls for threads of this package that wait on behalf of a library that knows nothing of refs.

Rules. Such a thread sleeps until it is woken: many threads that wait in `get` would take turns at the socket. An
exception of a task is raised as it is, as the standard library's pools do; its cause is the `TaskError` with the
traceback in the task.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from ipyremote import api, refs
from ipyremote.exceptions import TaskError
from ipyremote.refs import ObjectRef

__all__ = ["name_of", "total_cpus", "value_of", "wait_for"]


def wait_for(ref: ObjectRef[Any]) -> None:
    """Sleep until a ref has a value or a failure."""
    backend = refs.owner(ref)
    if not backend.is_ready(ref._id):
        ready = threading.Event()
        backend.on_ready(ref._id, lambda _: ready.set())
        ready.wait()


def value_of(ref: ObjectRef[Any]) -> Any:
    """Return the value of a ref. Raises the exception of the task itself, and other errors of the tree."""
    wait_for(ref)
    try:
        return api.get(ref)
    except TaskError as error:
        if error.cause is None:
            raise
        # Its text has the frames of the task; those of the thread here are of no use to anybody.
        raise error.cause from error.with_traceback(None)


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name under which calls of a function are shown."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__name__", type(fn).__name__)


def total_cpus() -> float:
    """Return the number of the session's CPUs, free or not. Starts a session if none is running."""
    if not api.is_initialized():
        api.init()
    return api.cluster_resources().get("CPU", 0.0)
