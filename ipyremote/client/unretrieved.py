"""Failures that have arrived and that nobody has asked for.

A failure is *unretrieved* from its arrival until somebody opens its object, or another object that failed for the same
reason. A failure that arrives after a `get` of its list has raised another failure is never unretrieved: somebody has
asked.
Pure bookkeeping, guarded by the channel's lock; nothing is kept unless somebody wants the news.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from ipyremote.messages import Failure

__all__ = ["Unretrieved"]

#: Failures that are remembered at a time, and those that were heard of.
_REMEMBERED: Final = 10_000
#: Nothing to tell anybody about: the user did it, or is told otherwise.
_SILENT: Final = frozenset({"task_cancelled", "cluster_lost", "object_freed"})


class Unretrieved:
    """See the module docstring."""

    __slots__ = ("_expected", "_heard", "failures", "on_news")

    def __init__(self) -> None:
        self.failures: OrderedDict[int, Failure] = OrderedDict()
        self._heard: OrderedDict[str, None] = OrderedDict()
        self._expected: OrderedDict[int, None] = OrderedDict()
        #: Called with an object's id when its failure has arrived, and when its last ref has died; None: nobody cares.
        self.on_news: Callable[[int], None] | None = None

    def arrived(self, object_id: int, failure: Failure) -> bool:
        """A failure came. True: that is news."""
        if self.on_news is None or failure.kind in _SILENT or failure.text in self._heard:
            return False
        if object_id in self._expected:
            del self._expected[object_id]
            return False
        self.failures[object_id] = failure
        if len(self.failures) > _REMEMBERED:
            self.failures.popitem(last=False)
        return True

    def ask(self, object_id: int, failure: Failure) -> None:
        """Somebody has been told of it."""
        if self.on_news is None:
            return
        self.failures.pop(object_id, None)
        self._heard[failure.text] = None
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)

    def expect(self, object_ids: Iterable[int]) -> None:
        """Somebody has asked for these before they had a value."""
        if self.on_news is None:
            return
        self._expected.update(dict.fromkeys(object_ids))
        while len(self._expected) > _REMEMBERED:
            self._expected.popitem(last=False)

    def take(self, object_id: int) -> tuple[Failure | None, bool]:
        """(the failure if it is still unretrieved, whether others have been told the same)."""
        failure = self.failures.pop(object_id, None)
        return failure, failure is not None and failure.text in self._heard
