"""On whose behalf a thread of ours submits: that of whoever asked, so that output comes home to the cell that asked,
children know their parent, and labels go on counting."""

from __future__ import annotations

from ipyremote.backend import Origin, current

__all__ = ["Origin", "inside_task", "origin"]


def origin() -> Origin:
    """Return the origin of the calling code, as of now. Starts a session if there is none."""
    return current.backend().origin()


def inside_task() -> bool:
    """Return whether this process runs a task, which holds resources while it waits for others."""
    backend = current.peek()
    return backend is not None and backend.is_worker and backend.identity().task != 0
