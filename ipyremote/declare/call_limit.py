"""`max_pending_calls`: how many calls of one handle have not ended."""

from __future__ import annotations

from typing import Any

from ipyremote.backend import Backend
from ipyremote.exceptions import PendingCallsLimitExceeded

__all__ = ["PendingCalls"]


class PendingCalls:
    """Keeps a ref of each call that has not ended: of one without refs nobody would hear that it has."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._refs: dict[int, Any] = {}

    def admit(self, backend: Backend, name: str) -> None:
        """Raise PendingCallsLimitExceeded if there may not be one more."""
        if len(self._refs) >= self._limit:
            # What has ended is taken off on another thread, which may be late.
            for object_id in list(self._refs):
                if backend.is_ready(object_id):
                    self._refs.pop(object_id, None)
        if len(self._refs) >= self._limit:
            raise PendingCallsLimitExceeded(
                f"{name} was not called: {len(self._refs)} calls of this handle have not ended, and "
                f"max_pending_calls={self._limit}. Wait for some of them, with get() or wait()."
            )

    def add(self, object_id: int, ref: Any, backend: Backend) -> None:
        """A call was made, which gives this object."""
        self._refs[object_id] = ref
        backend.on_ready(object_id, self._on_ended)

    def _on_ended(self, object_id: int) -> None:
        self._refs.pop(object_id, None)
