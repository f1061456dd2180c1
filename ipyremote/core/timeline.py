"""The latest runs that ended, for the picture of who did what when, and for lists of tasks. Nothing is decided by it.

A worker's reports may come several at a time, long after the first of their runs has ended. What is drawn is therefore
worked out: a run starts where the one before it on its worker ended, or when it was sent, and lasts as long as the
worker says that it did. This is worked out when somebody asks; nobody ever asks about most runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ipyremote.core.history import Attempt, Facts
from ipyremote.messages import Span

__all__ = ["KEPT", "Timeline"]

#: So many runs are remembered.
KEPT: Final = 20_000


class _Drawn(NamedTuple):
    #: What was reported, and when, which never decreases.
    facts: Facts
    reported: float
    span: Span


class Timeline:
    """A bounded record of runs."""

    def __init__(self) -> None:
        #: Not worked out yet.
        self._ended: deque[Facts] = deque(maxlen=KEPT)
        self._drawn: deque[_Drawn] = deque(maxlen=KEPT)
        #: Note that a run was reported, or lost. Every run of every task comes here: it is the `append` itself.
        self.add: Callable[[Facts], None] = self._ended.append

    def since(self, moment: float) -> tuple[Span, ...]:
        """The runs that were reported after that, in order."""
        self._draw()
        found: list[Span] = []
        for drawn in reversed(self._drawn):
            if drawn.reported <= moment:
                break
            found.append(drawn.span)
        found.reverse()
        return tuple(found)

    def attempts(self) -> Iterator[Attempt]:
        """The runs, the latest first."""
        self._draw()
        make = Attempt._make
        for facts, _, span in reversed(self._drawn):
            yield make((span.end, *facts[1:3], span.start, *facts[4:]))

    @property
    def count(self) -> int:
        """How many runs are remembered."""
        self._draw()
        return len(self._drawn)

    def keys(self) -> set[tuple[int, int]]:
        """(task id, attempt) of each run."""
        self._draw()
        return {(facts[6], facts[7]) for facts, _, _ in self._drawn}

    def _draw(self) -> None:
        while self._ended:
            facts = self._ended.popleft()
            self._drawn.append(_Drawn(facts, facts[0], _span(facts)))


def _span(facts: Facts) -> Span:
    """Where a run lies, given that those before it were asked for already."""
    now, worker, label, started, micros, state = facts[:6]
    assert worker is not None, "a run is on a worker"
    seconds = micros * 1e-6
    actor = worker.actor
    if actor is not None and actor.max_running > 1:
        # Its runs overlap.
        start = max(started, now - seconds) if micros else started or now
        return Span(worker.id, label, start, now, state)
    # One that started in the turn in which it was reported was behind another that was reported in that turn.
    start = max(started, worker.last_end) if started < now else worker.last_end
    worker.last_end = end = min(now, start + seconds) if micros else now
    return Span(worker.id, label, start, end, state)
