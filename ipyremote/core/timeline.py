"""The latest runs that ended, for the picture of who did what when, and for lists of tasks. Nothing is decided by it.

A worker's reports may come several at a time, long after the first of their runs has ended, so the start and the end of
a run are worked out: a run starts where the run before it on its worker ended, or when it was sent, and lasts as long
as the worker says. This is worked out when somebody asks; nobody ever asks about most runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ipyremote.core.state import Attempt
from ipyremote.messages import TaskRun, replace

__all__ = ["KEPT", "Timeline"]

#: Runs that are remembered.
KEPT: Final = 20_000


class _Drawn(NamedTuple):
    #: Time at which the end was reported; it never decreases from one run to the next.
    reported: float
    #: The run with its start and end worked out.
    attempt: Attempt


class Timeline:
    """A bounded record of runs."""

    def __init__(self) -> None:
        #: Runs as they were reported; `ended` is the time of the report.
        self._ended: deque[Attempt] = deque(maxlen=KEPT)
        self._drawn: deque[_Drawn] = deque(maxlen=KEPT)
        #: Note that a run was reported, or lost. Every run of every task comes here: this is the `append` itself.
        self.add: Callable[[Attempt], None] = self._ended.append

    def since(self, moment: float) -> tuple[TaskRun, ...]:
        """Return the runs that were reported after a moment, in order."""
        self._draw()
        found: list[TaskRun] = []
        for reported, attempt in reversed(self._drawn):
            if reported <= moment:
                break
            found.append(_span(attempt))
        found.reverse()
        return tuple(found)

    def attempts(self) -> Iterator[Attempt]:
        """Return the runs, the latest first."""
        self._draw()
        return (drawn.attempt for drawn in reversed(self._drawn))

    @property
    def count(self) -> int:
        """Return how many runs are remembered."""
        self._draw()
        return len(self._drawn)

    def keys(self) -> set[tuple[int, int]]:
        """Return (task id, attempt) of each run."""
        self._draw()
        return {(attempt.task_id, attempt.attempt) for _, attempt in self._drawn}

    def _draw(self) -> None:
        while self._ended:
            attempt = self._ended.popleft()
            start, end = _limits(attempt)
            self._drawn.append(_Drawn(attempt.ended, replace(attempt, started=start, ended=end)))


def _limits(attempt: Attempt) -> tuple[float, float]:
    """Return start and end of a run, given that the runs before it on its worker were worked out already."""
    worker = attempt.worker
    assert worker is not None, "a run is on a worker"
    reported, started = attempt.ended, attempt.started
    seconds = attempt.micros * 1e-6
    actor = worker.actor
    if actor is not None and actor.max_running > 1:
        # The runs of such an actor overlap.
        return (max(started, reported - seconds) if attempt.micros else started or reported), reported
    # A run that started in the turn in which it was reported was behind another that was reported in that turn.
    start = max(started, worker.last_end) if started < reported else worker.last_end
    worker.last_end = end = min(reported, start + seconds) if attempt.micros else reported
    return start, end


def _span(attempt: Attempt) -> TaskRun:
    assert attempt.worker is not None, "a run is on a worker"
    return TaskRun(
        worker_id=attempt.worker.id,
        name=attempt.name,
        number=attempt.number,
        start=attempt.started,
        end=attempt.ended,
        state=attempt.state,
    )
