"""What a session answers about its streams: the next item, and whether there will be one.

What has arrived of each stream, and how a stream is named among the objects, is in `objects.py`.
"""

from __future__ import annotations

from ipyremote.client.channel import Channel
from ipyremote.messages import Consumed

__all__ = ["ClientStreams"]


class ClientStreams:
    """Method contracts are those of `backend.Streams`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def waitable(self, task_id: int) -> int:
        return -task_id

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
