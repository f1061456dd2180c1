"""On whose behalf a thread of ours submits: that of whoever asked, so that output comes home to the cell that asked,
children know their parent, and labels go on counting."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

from ipyremote.backend import Backend, current
from ipyremote.client.call_context import Running, concurrently

__all__ = ["Origin", "inside_task", "origin"]

#: Makes the context in which another thread submits on behalf of whoever made this.
Origin = Callable[[], AbstractContextManager[None]]


def origin() -> Origin:
    """Of the calling code, as of now. Starts a session if there is none."""
    running = _running(current.backend())
    if running is None:
        return contextlib.nullcontext
    # A copy has the cell of this moment, and shares the numbers of the labels.
    frozen = copy.copy(running)
    return lambda: concurrently(frozen)


def inside_task() -> bool:
    """Whether this process runs a task, which holds resources while it waits for others."""
    running = _running(current.peek())
    return running is not None and running.task_id != 0


def _running(backend: Backend | None) -> Running | None:
    """What runs in this process for a session of processes; inline, all runs in the program itself."""
    running = getattr(backend, "running", None)
    return running if isinstance(running, Running) else None
