"""The limit `max_pending_calls` on the number of calls of one handle that have not ended."""

from __future__ import annotations

from typing import Any

from ipyremote.backend import Backend
from ipyremote.exceptions import PendingCallsLimitExceeded
from ipyremote.ids import ObjectId

__all__ = ["PendingCalls"]


class PendingCalls:
    """The pending calls of one handle, with a ref of each: without a ref the end of a call would not be reported."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._refs: dict[ObjectId, Any] = {}

    def admit(self, backend: Backend, name: str) -> None:
        """Raise PendingCallsLimitExceeded if the handle may not make one more call."""
        if len(self._refs) >= self._limit:
            # Another thread removes the calls that have ended, and may be late.
            for object_id in list(self._refs):
                if backend.is_ready(object_id):
                    self._refs.pop(object_id, None)
        if len(self._refs) >= self._limit:
            raise PendingCallsLimitExceeded(
                f"{name} was not called: {len(self._refs)} calls of this handle have not ended, and "
                f"max_pending_calls={self._limit}. Wait for some of them, with get() or wait()."
            )

    def add(self, object_id: ObjectId, ref: Any, backend: Backend) -> None:
        """Add a call that was made; `object_id` is its first return."""
        self._refs[object_id] = ref
        backend.on_ready(object_id, self._on_ended)

    def _on_ended(self, object_id: ObjectId) -> None:
        self._refs.pop(object_id, None)
