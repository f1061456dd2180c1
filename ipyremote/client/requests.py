"""Requests that a client sends to the scheduler, and whose replies it waits for: status, explanations, listings.

Requests share the waiters with objects: the reply to request n resolves the id -n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from ipyremote import messages as m
from ipyremote.client.channel import Channel
from ipyremote.exceptions import ClusterLostError
from ipyremote.ids import ObjectId

__all__ = ["SchedulerRequests"]

Request: TypeAlias = (
    m.Status
    | m.Explain
    | m.Spans
    | m.Kept
    | m.LookUp
    | m.CreateActor
    | m.LookUpGroups
    | m.CreateGroup
    | m.ListState
    | m.Summarize
)
ReplyT = TypeVar("ReplyT", bound=m.Reply)

#: Longest time that the scheduler may take to reply, in seconds.
REPLY_SECONDS: Final = 30.0


class SchedulerRequests:
    """The requests of one client, on any thread."""

    def __init__(self, channel: Channel, wait: Callable[[Sequence[ObjectId], float], object]) -> None:
        """`wait(ids, seconds)` waits until the ids are resolved, at most so many seconds."""
        self._channel = channel
        self._wait = wait
        #: Number of the last request.
        self._last = 0

    def status(self) -> m.ClusterStatus:
        """Return a snapshot of the whole session."""
        return self._send(m.Status, m.StatusReply).status

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the session's (total, available) amounts of each resource by name."""
        status = self.status()
        total = {name: amount / m.RESOURCE_UNIT for name, amount in status.total}
        return total, {name: amount / m.RESOURCE_UNIT for name, amount in status.available}

    def explain(self, object_id: ObjectId) -> str:
        """Return why the task of an object does not run."""
        return self._send(lambda request: m.Explain(request, object_id), m.Explanation).text

    def spans(self, since: float) -> tuple[float, tuple[m.TaskRun, ...]]:
        """Return (the time now, the latest runs that ended after `since`), both in seconds of the scheduler's clock."""
        reply = self._send(lambda request: m.Spans(request, since), m.SpansReply)
        return reply.now, reply.spans

    def claim(self) -> m.KeptReply:
        """Make this client the session's driver in place of one that has ended; return the names that are left."""
        return self._send(lambda request: m.Kept(request, claim=True), m.KeptReply)

    def names(self, message: Callable[[int], m.LookUp | m.CreateActor]) -> m.Names:
        """Look up named actors, or create one, with the message made from the request's number."""
        return self._send(message, m.Names)

    def groups(self, message: Callable[[int], m.LookUpGroups | m.CreateGroup]) -> m.GroupsReply:
        """Look up placement groups, or create one with a name, with the message made from the request's number."""
        return self._send(message, m.GroupsReply)

    def listing(self, message: Callable[[int], m.ListState], seconds: float) -> m.Listing:
        """Return tasks, actors, objects or workers as rows, within so many seconds."""
        return self._send(message, m.Listing, seconds)

    def summary(self, kind: str, seconds: float) -> m.Summary:
        """Return how many rows of a kind are alike, within so many seconds."""
        return self._send(lambda request: m.Summarize(request, kind), m.Summary, seconds)

    def _send(
        self, message: Callable[[int], Request], kind: type[ReplyT], seconds: float = REPLY_SECONDS
    ) -> ReplyT:
        """Send the message made from the request's number, and return the reply. Raises ClusterLostError."""
        channel = self._channel
        channel.check()
        with channel.lock:
            self._last += 1
            request = self._last
            channel.connection.queue(message(request))
        self._wait((ObjectId(request),), seconds)
        reply = channel.replies.pop(request, None)
        if not isinstance(reply, kind):
            # A channel that has ended meanwhile knows the reason better.
            channel.check()
            raise ClusterLostError(
                f"The scheduler (pid {channel.scheduler_pid}) did not answer in {seconds:g} s."
            )
        return reply
