"""The streams of a session, as generators use them: the next item, and whether there will be one.

`objects.py` has the items that have arrived, and the names of streams among the objects.
"""

from __future__ import annotations

from ipyremote.client.channel import Channel
from ipyremote.ids import ObjectId, TaskId, minus
from ipyremote.messages import Consumed

__all__ = ["ClientStreams"]


class ClientStreams:
    """The streams of one client. `backend.Streams` has the contracts of the methods."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def waitable(self, task_id: TaskId) -> ObjectId:
        return minus(task_id)

    def take(self, task_id: TaskId) -> tuple[ObjectId, int] | None:
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

    def is_finished(self, task_id: TaskId) -> bool:
        channel = self._channel
        with channel.lock:
            return channel.objects.streams[task_id].is_finished(channel.objects)
