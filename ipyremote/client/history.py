"""What a client has submitted, by the order of its ids, and which of its failures nobody has asked for.

For a layer above that cares about the user: which tasks are not over, and whose failures went unnoticed. It costs
nothing as long as tasks succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ipyremote.client.channel import Channel
from ipyremote.client.submitter import Submitter
from ipyremote.engine_kit.failures import exception_of
from ipyremote.exceptions import IPyRemoteError
from ipyremote.messages import Failure

__all__ = ["ClientHistory"]

#: Ids of submissions without a ref that are looked at.
_LATEST: Final = 10_000


class ClientHistory:
    """See the module docstring. Thread-safe."""

    def __init__(self, channel: Channel, submitter: Submitter) -> None:
        self._submitter = submitter
        self._ids = submitter.ids
        self._objects = channel.objects
        self._lock = channel.lock

    @property
    def next_id(self) -> int:
        """All that is submitted from now on has this id or a higher one."""
        return self._ids.next_id

    def unfinished(self, first: int = 0, last: int = 0) -> list[int]:
        """Ids from `first` up to `last` (0: the latest) of objects made here that have no value yet.

        Among the latest ones also such that no ref is left of, which may have ended.
        """
        objects = self._objects
        with self._lock:
            end = last or self._ids.next_id
            found = {
                any_id
                for any_id in objects.counts
                if first <= any_id < end and any_id not in objects.ready and any_id not in objects.borrowed
            }
            start = max(first, self._ids.first_id, end - _LATEST)
            found.update(any_id for any_id in range(start, end) if any_id not in objects.counts)
        return sorted(found)

    def tell(self, on_news: Callable[[int], None] | None) -> None:
        """Call `on_news(object_id)` about failures that nobody asked for; see `unretrieved.py`. It must be quick."""
        with self._lock:
            self._objects.unretrieved.on_news = on_news

    def has_ref(self, object_id: int) -> bool:
        """Whether there is a ref to it in this process."""
        return object_id in self._objects.counts

    def failure(self, object_id: int) -> IPyRemoteError | None:
        """Why it has no value; None if it has one or there is none yet. Not a way of asking."""
        value = self._objects.ready.get(object_id)
        return exception_of(value) if isinstance(value, Failure) else None

    def failures(self, ids: Sequence[int]) -> list[Failure]:
        """Those of these that have failed so far. Somebody will be told of all of them."""
        ready = self._objects.ready
        failed = [value for object_id in ids if isinstance(value := ready.get(object_id), Failure)]
        if failed:
            self.ask(ids)
            with self._lock:
                self._objects.unretrieved.expect(object_id for object_id in ids if object_id not in ready)
        return failed

    def is_unretrieved(self, object_id: int) -> bool:
        """Whether it failed and nobody has asked."""
        return object_id in self._objects.unretrieved.failures

    def take_unretrieved(self, object_id: int) -> IPyRemoteError | None:
        """Return a failure that nobody has asked for or heard of; from now on the failure counts as asked for."""
        with self._lock:
            failure, heard = self._objects.unretrieved.take(object_id)
            if failure is None or heard:
                return None
            self._objects.unretrieved.ask(object_id, failure)
        return exception_of(failure)

    def ask(self, ids: Sequence[int]) -> None:
        """Somebody will be told of these."""
        unretrieved = self._objects.unretrieved
        if unretrieved.failures:
            with self._lock:
                for object_id in ids:
                    failure = unretrieved.failures.get(object_id)
                    if failure is not None:
                        unretrieved.ask(object_id, failure)

    def remember_calls(self) -> None:
        """Remember calls from now on, so that `retry` can repeat them."""
        self._submitter.remember_calls()

    def retry(self, object_id: int) -> int:
        """Repeat the call behind an object; return the first new id. Raises ValueError where that is impossible."""
        calls = self._submitter.repeatable_calls
        if calls is None:
            raise ValueError("calls are remembered only after %load_ext ipyremote.")
        return calls.repeat(object_id)
