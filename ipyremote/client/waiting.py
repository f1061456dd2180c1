"""Who waits for what: one small record for each thread inside `get` or `wait`.

The session tells a waiter about each object that gets its value; the waiter knows when enough have. It is pure
bookkeeping, guarded by the session's lock.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Waiter"]


class Waiter:
    """Waits until at most `target` of `missing` are left, or, if it is strict, until one of them failed."""

    __slots__ = ("failed", "missing", "strict", "target")

    def __init__(self, missing: Iterable[int], *, target: int = 0, strict: bool = False) -> None:
        #: Not known to have a value yet.
        self.missing = set(missing)
        self.target = target
        #: Whether one failure is enough (`get`) or counts like a value (`wait`).
        self.strict = strict
        #: The first object that failed, or 0.
        self.failed = 0

    @property
    def done(self) -> bool:
        """Whether to stop waiting."""
        return len(self.missing) <= self.target or (self.strict and self.failed != 0)

    def resolve(self, object_id: int, failed: bool) -> None:
        """The object has its value. Harmless when repeated."""
        if object_id in self.missing:
            self.missing.discard(object_id)
            if failed and not self.failed:
                self.failed = object_id
