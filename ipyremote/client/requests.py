"""What a client asks the scheduler and waits for: a snapshot, why a task does not run, which runs have ended.

Questions share the waiters with objects: the answer to request n resolves the id -n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from ipyremote import messages as m
from ipyremote.client.channel import Channel
from ipyremote.exceptions import ClusterLostError

__all__ = ["Questions"]

Question: TypeAlias = (
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
Answer = TypeVar("Answer", bound=m.Reply)

#: How long the scheduler may take to answer.
ANSWER_SECONDS: Final = 30.0


class Questions:
    """Asked by any thread. `wait(ids, seconds)` waits until these are resolved."""

    def __init__(self, channel: Channel, wait: Callable[[Sequence[int], float], object]) -> None:
        self._channel = channel
        self._wait = wait
        self._requests = 0

    def status(self) -> m.ClusterStatus:
        """A snapshot of the whole session."""
        return self._ask(m.Status, m.StatusReply).status

    def resources(self) -> tuple[dict[str, float], dict[str, float]]:
        """(total, available) amounts by name."""
        status = self.status()
        total = {name: amount / m.RESOURCE_UNIT for name, amount in status.total}
        return total, {name: amount / m.RESOURCE_UNIT for name, amount in status.available}

    def explain(self, object_id: int) -> str:
        """Why the task of this object does not run."""
        return self._ask(lambda request: m.Explain(request, object_id), m.Explanation).text

    def spans(self, since: float) -> tuple[float, tuple[m.TaskRun, ...]]:
        """(the scheduler's clock, the latest runs that ended after `since`)."""
        reply = self._ask(lambda request: m.Spans(request, since), m.SpansReply)
        return reply.now, reply.spans

    def claim(self) -> m.KeptReply:
        """Be the session's driver in place of one that has ended; what that one left and is still there."""
        return self._ask(lambda request: m.Kept(request, claim=True), m.KeptReply)

    def names(self, question: Callable[[int], m.LookUp | m.CreateActor]) -> m.Names:
        """Which actors have names, or which one has a name from now on."""
        return self._ask(question, m.Names)

    def groups(self, question: Callable[[int], m.LookUpGroups | m.CreateGroup]) -> m.GroupsReply:
        """Which placement groups there are, or which one has a name from now on."""
        return self._ask(question, m.GroupsReply)

    def listing(self, question: Callable[[int], m.ListState], seconds: float) -> m.Listing:
        """Tasks, actors, objects or workers, as rows."""
        return self._ask(question, m.Listing, seconds)

    def summary(self, kind: str, seconds: float) -> m.Summary:
        """How many rows of a kind are alike."""
        return self._ask(lambda request: m.Summarize(request, kind), m.Summary, seconds)

    def _ask(
        self, question: Callable[[int], Question], kind: type[Answer], seconds: float = ANSWER_SECONDS
    ) -> Answer:
        channel = self._channel
        channel.check()
        with channel.lock:
            self._requests += 1
            request = self._requests
            channel.connection.queue(question(request))
        self._wait((-request,), seconds)
        answer = channel.answers.pop(request, None)
        if not isinstance(answer, kind):
            # If it has ended meanwhile, that is why.
            channel.check()
            raise ClusterLostError(
                f"The scheduler (pid {channel.scheduler_pid}) did not answer in {seconds:g} s."
            )
        return answer
