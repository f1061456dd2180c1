"""The submissions of a client, in the order of their ids, and the failures that nobody has asked for.

A layer above tells the user which tasks are not over, and whose failures went unnoticed. Tasks that succeed cost
nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ipyremote.client.channel import Channel
from ipyremote.client.submitter import Submitter
from ipyremote.engine_kit.failures import exception_of
from ipyremote.exceptions import IPyRemoteError
from ipyremote.ids import ObjectId
from ipyremote.messages import Failure

__all__ = ["ClientHistory"]

#: Number of the latest ids that are looked at, whether or not there are refs to their objects.
_LATEST: Final = 10_000


class ClientHistory:
    """The submissions and unnoticed failures of one client. Thread-safe."""

    def __init__(self, channel: Channel, submitter: Submitter) -> None:
        self._submitter = submitter
        self._ids = submitter.ids
        self._objects = channel.objects
        self._lock = channel.lock

    @property
    def next_id(self) -> ObjectId:
        """Id of the next submission; later submissions have higher ids."""
        return self._ids.next_id

    def unfinished(self, first: int = 0, last: int = 0) -> list[ObjectId]:
        """Return the ids, from `first` to before `last` (0: to the latest), of objects made here without a value yet.

        Among the latest ids are also objects that have no ref any more. Their tasks may have ended.
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
            latest = (any_id for any_id in range(start, end) if any_id not in objects.counts)
            found.update(latest)  # type: ignore[arg-type]  # a number between two ids is an id
        return sorted(found)

    def watch_unretrieved(self, on_news: Callable[[ObjectId], None] | None) -> None:
        """Call `on_news(object_id)` about failures that nobody has asked for (see `unretrieved.py`).

        The callback must be quick. None: call nobody.
        """
        with self._lock:
            self._objects.unretrieved.on_news = on_news

    def has_ref(self, object_id: ObjectId) -> bool:
        """Return whether this process has a ref to the object."""
        return object_id in self._objects.counts

    def failure(self, object_id: ObjectId) -> IPyRemoteError | None:
        """Return the failure of an object; None if it has a value or has not ended. Does not count as asking."""
        value = self._objects.ready.get(object_id)
        return exception_of(value) if isinstance(value, Failure) else None

    def failures(self, ids: Sequence[ObjectId]) -> list[Failure]:
        """Return the failures among these objects so far, all of which, and later ones, count as asked for."""
        ready = self._objects.ready
        failed = [value for object_id in ids if isinstance(value := ready.get(object_id), Failure)]
        if failed:
            self.mark_retrieved(ids)
            with self._lock:
                self._objects.unretrieved.expect(object_id for object_id in ids if object_id not in ready)
        return failed

    def is_unretrieved(self, object_id: ObjectId) -> bool:
        """Return whether the object has failed and nobody has asked for the failure."""
        return object_id in self._objects.unretrieved.failures

    def take_unretrieved(self, object_id: ObjectId) -> IPyRemoteError | None:
        """Return the failure if it is unretrieved and its text is new; from now on the failure counts as retrieved."""
        with self._lock:
            failure, is_known = self._objects.unretrieved.take(object_id)
            if failure is None or is_known:
                return None
            self._objects.unretrieved.mark_retrieved(object_id, failure)
        return exception_of(failure)

    def mark_retrieved(self, ids: Sequence[ObjectId]) -> None:
        """Count the failures of these objects as asked for."""
        unretrieved = self._objects.unretrieved
        if unretrieved.failures:
            with self._lock:
                for object_id in ids:
                    failure = unretrieved.failures.get(object_id)
                    if failure is not None:
                        unretrieved.mark_retrieved(object_id, failure)

    def remember_calls(self) -> None:
        """Remember calls from now on, so that `retry` can repeat them."""
        self._submitter.remember_calls()

    def retry(self, object_id: ObjectId) -> ObjectId:
        """Repeat the call behind an object; return the first new id. Raises ValueError where that is impossible."""
        calls = self._submitter.repeatable_calls
        if calls is None:
            raise ValueError("calls are remembered only after %load_ext ipyremote.")
        return calls.repeat(object_id)
