"""The concurrency groups of an actor: which of its calls wait, and which run.

Each group, the default one included, runs so many calls at a time and no more; a group that is full holds up no other.
A group's calls start in the order in which they came. What runs them, threads or an event loop, is in `actors.py`.

Everything here happens under the session's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from ipyremote.worker.host import Assignment, Host

__all__ = ["DEFAULT", "Group", "Groups"]

#: Name of the group of calls that are in none.
DEFAULT: Final = ""

#: Starts these calls, which run from now on.
Start = Callable[[list[Assignment]], object]


class Group:
    """One group."""

    __slots__ = ("_start", "limit", "running", "waiting")

    def __init__(self, limit: int, start: Start) -> None:
        #: So many calls run at a time.
        self.limit = limit
        self.running = 0
        self.waiting: deque[Assignment] = deque()
        self._start = start

    def advance(self) -> None:
        """Start what there is room for."""
        batch: list[Assignment] = []
        while self.waiting and self.running < self.limit:
            call = self.waiting.popleft()
            call.interrupt = None
            self.running += 1
            batch.append(call)
        if batch:
            self._start(batch)


class Groups:
    """All groups of one actor."""

    def __init__(self, host: Host, groups: Mapping[str, Group]) -> None:
        self._host = host
        self._groups = groups

    @property
    def running(self) -> int:
        """How many calls run."""
        return sum(group.running for group in self._groups.values())

    def advance(self) -> None:
        """Sort what has come to this worker into the groups, and start what there is room for."""
        while (call := self._host.take_one()) is not None:
            group = self._groups.get(call.message.spec.group) or self._groups[DEFAULT]
            group.waiting.append(call)
            call.interrupt = lambda call=call, group=group: self._cancel(call, group)
        for group in self._groups.values():
            if group.waiting:
                group.advance()

    def on_ended(self, call: Assignment, group: Group) -> None:
        """A call of this group has been reported."""
        self._host.on_ended(call)
        group.running -= 1
        if group.waiting:
            group.advance()

    def clear(self) -> None:
        """Nothing that waits will ever run: the scheduler knows that the actor leaves."""
        for group in self._groups.values():
            group.waiting.clear()

    def _cancel(self, call: Assignment, group: Group) -> None:
        """One that waits is cancelled."""
        if call in group.waiting:
            group.waiting.remove(call)
            self._host.on_ended(call)
            self._host.refuse(call)
