"""Waiters: a small record for each thread inside `get` or `wait`.

The client tells a waiter about each object that gets its value; the waiter knows when the wait is over. Pure
bookkeeping, guarded by the channel's lock.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipyremote.ids import NOBODY, ObjectId

__all__ = ["Waiter"]


class Waiter:
    """A wait until at most `target` of `missing` are left or, if the wait is strict, until one of them has failed."""

    __slots__ = ("failed", "missing", "strict", "target")

    def __init__(self, missing: Iterable[ObjectId], *, target: int = 0, strict: bool = False) -> None:
        #: Ids of the objects, or numbers of requests, that are not known to have a value yet.
        self.missing = set(missing)
        #: Number of missing objects at which the wait is over.
        self.target = target
        #: Whether one failure ends the wait (`get`) or counts like a value (`wait`).
        self.strict = strict
        #: Id of the first object that has failed, or 0.
        self.failed = NOBODY

    @property
    def done(self) -> bool:
        """Whether the wait is over."""
        return len(self.missing) <= self.target or (self.strict and self.failed != 0)

    def resolve(self, object_id: ObjectId, failed: bool) -> None:
        """Note that an object has its value. Repeatable."""
        if object_id in self.missing:
            self.missing.discard(object_id)
            if failed and not self.failed:
                self.failed = object_id
