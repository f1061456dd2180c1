"""The concurrency groups of an actor: which of its calls wait, and which run.

Each group, the default one included, runs as many calls at a time as its limit allows; a group that is full holds up no
other group. A group's calls start in the order in which they came. `actors.py` has the threads and event loops that run
the calls.

Everything here happens under the session's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from ipyremote.worker.host import Assignment, Host

__all__ = ["DEFAULT", "ConcurrencyGroup", "ConcurrencyGroups"]

#: Name of the group for calls that name no group.
DEFAULT: Final = ""

#: Function that starts the calls it is given.
Start = Callable[[list[Assignment]], object]


class ConcurrencyGroup:
    """One group of an actor: its limit, and its calls that wait."""

    __slots__ = ("_start", "limit", "running", "waiting")

    def __init__(self, limit: int, start: Start) -> None:
        #: Number of calls that may run at a time.
        self.limit = limit
        #: Number of calls that run.
        self.running = 0
        #: Calls that wait, the oldest first.
        self.waiting: deque[Assignment] = deque()
        self._start = start

    def advance(self) -> None:
        """Start the calls that there is room for."""
        batch: list[Assignment] = []
        while self.waiting and self.running < self.limit:
            call = self.waiting.popleft()
            call.interrupt = None
            self.running += 1
            batch.append(call)
        if batch:
            self._start(batch)


class ConcurrencyGroups:
    """All groups of one actor."""

    def __init__(self, host: Host, groups: Mapping[str, ConcurrencyGroup]) -> None:
        self._host = host
        self._groups = groups

    @property
    def running(self) -> int:
        """Number of calls that run."""
        return sum(group.running for group in self._groups.values())

    def advance(self) -> None:
        """Sort the calls that have come to this worker into the groups, and start those that there is room for."""
        while (call := self._host.take_one()) is not None:
            group = self._groups.get(call.message.spec.group) or self._groups[DEFAULT]
            group.waiting.append(call)
            call.interrupt = lambda call=call, group=group: self._cancel(call, group)
        for group in self._groups.values():
            if group.waiting:
                group.advance()

    def on_ended(self, call: Assignment, group: ConcurrencyGroup) -> None:
        """Make room in the group of a call that has been reported."""
        self._host.on_ended(call)
        group.running -= 1
        if group.waiting:
            group.advance()

    def clear(self) -> None:
        """Forget the calls that wait: the scheduler knows that the actor leaves."""
        for group in self._groups.values():
            group.waiting.clear()

    def _cancel(self, call: Assignment, group: ConcurrencyGroup) -> None:
        """Cancel a call that waits."""
        if call in group.waiting:
            group.waiting.remove(call)
            self._host.on_ended(call)
            self._host.refuse(call)
