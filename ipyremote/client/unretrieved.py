"""Failures that have arrived and that nobody has asked for.

A failure is *unretrieved* from its arrival until somebody opens its object, or another object that failed for the same
reason. A failure that arrives after a `get` of its list has raised another failure is never unretrieved, because
somebody has asked for it.

Pure bookkeeping, guarded by the channel's lock. Nothing is kept unless there is a callback, `on_news`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from ipyremote.ids import ObjectId
from ipyremote.messages import Failure

__all__ = ["Unretrieved"]

#: Largest number of failures that are remembered, and as many texts and expected objects.
_LIMIT: Final = 10_000
#: Kinds of failures that are never unretrieved: the user has caused them, or is told in another way.
_UNREPORTED: Final = frozenset({"task_cancelled", "cluster_lost", "object_freed"})


class Unretrieved:
    """The unretrieved failures of one client. The module's docstring has the rules."""

    __slots__ = ("_expected", "_retrieved", "failures", "on_news")

    def __init__(self) -> None:
        #: Unretrieved failures by object id, oldest first.
        self.failures: OrderedDict[ObjectId, Failure] = OrderedDict()
        #: Texts of retrieved failures, oldest first. Another failure with such a text is not unretrieved.
        self._retrieved: OrderedDict[str, None] = OrderedDict()
        #: Ids of objects that somebody has asked for before they had a value, oldest first.
        self._expected: OrderedDict[ObjectId, None] = OrderedDict()
        #: Function to call with an object's id when its failure has arrived and when its last ref has died, if any.
        self.on_news: Callable[[ObjectId], None] | None = None

    def note(self, object_id: ObjectId, failure: Failure) -> bool:
        """Note a failure that has arrived. Returns whether the failure is unretrieved."""
        if self.on_news is None or failure.kind in _UNREPORTED or failure.text in self._retrieved:
            return False
        if object_id in self._expected:
            del self._expected[object_id]
            return False
        self.failures[object_id] = failure
        if len(self.failures) > _LIMIT:
            self.failures.popitem(last=False)
        return True

    def mark_retrieved(self, object_id: ObjectId, failure: Failure) -> None:
        """Note that somebody is told of a failure."""
        if self.on_news is None:
            return
        self.failures.pop(object_id, None)
        self._retrieved[failure.text] = None
        if len(self._retrieved) > _LIMIT:
            self._retrieved.popitem(last=False)

    def expect(self, object_ids: Iterable[ObjectId]) -> None:
        """Note that somebody has asked for these objects before they had a value."""
        if self.on_news is None:
            return
        self._expected.update(dict.fromkeys(object_ids))
        while len(self._expected) > _LIMIT:
            self._expected.popitem(last=False)

    def take(self, object_id: ObjectId) -> tuple[Failure | None, bool]:
        """Take out a failure. Returns (the failure, if it is still unretrieved; whether somebody was told its text)."""
        failure = self.failures.pop(object_id, None)
        return failure, failure is not None and failure.text in self._retrieved
