"""The streams that were submitted here: items that have arrived and were not taken.

A stream is named by minus its task's id: among refs counted (`counts`), by its generator; and in `ready`, while the
generator's next step needs no waiting, so that whoever waits for objects can wait for streams too. The end of a stream
is the value of its task's object; if that is a failure, one more ref to it is the last item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipyremote.exceptions import ObjectRefStreamEndOfStreamError
from ipyremote.messages import Consumed, Failure

if TYPE_CHECKING:
    from ipyremote.client.channel import Channel
    from ipyremote.client.objects import Objects

__all__ = ["Stream", "Streams"]


class Stream:
    """One stream whose generator lives. Guarded by the channel's lock."""

    __slots__ = ("_ended", "_items", "_task_id", "limited", "next")

    def __init__(self, task_id: int, *, limited: bool) -> None:
        self._task_id = task_id
        #: Whether the producer waits for what is taken.
        self.limited = limited
        #: Index of the next item to be taken.
        self.next = 0
        #: Objects that have arrived, by index.
        self._items: dict[int, int] = {}
        #: Whether its failure was given as the last item.
        self._ended = False

    def add(self, index: int, object_id: int) -> bool:
        """An item has arrived; whether that is news."""
        if index < self.next or index in self._items:
            return False
        self._items[index] = object_id
        return True

    def take(self, objects: Objects) -> int:
        """The next item, for whom its hold is from now on; 0: none is there."""
        object_id = self._items.get(self.next, 0)
        if object_id:
            self.next += 1
            del self._items[self.next - 1]
        elif self._task_id in objects.ready:
            if self.is_finished(objects):
                raise ObjectRefStreamEndOfStreamError("The generator has no further items.")
            self._ended = True
            self.next += 1
            object_id = self._task_id
            objects.counts[object_id] += 1
        if self.next not in self._items and self._task_id not in objects.ready:
            objects.ready.pop(-self._task_id, None)
        return object_id

    def is_finished(self, objects: Objects) -> bool:
        """Whether it has ended and all was taken."""
        end = objects.ready.get(self._task_id)
        return end is not None and not self._items and (self._ended or type(end) is not Failure)

    def holds(self) -> list[int]:
        """What its generator holds besides the stream."""
        return [*self._items.values(), self._task_id]


class Streams:
    """What a session does with streams; see `backend.Streams`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def take(self, task_id: int) -> tuple[int, int] | None:
        channel = self._channel
        with channel.lock:
            stream = channel.objects.streams[task_id]
            index = stream.next
            object_id = stream.take(channel.objects)
        if not object_id:
            channel.check()
            return None
        if stream.limited:
            channel.send(Consumed(task_id, index + 1))
        return object_id, index

    def is_finished(self, task_id: int) -> bool:
        channel = self._channel
        with channel.lock:
            return channel.objects.streams[task_id].is_finished(channel.objects)
