"""The attempts of tasks that can be listed: those of tasks that have not ended, and the latest that have.

The timeline knows the runs that ended, `Ledger.past` the tasks that ended on no worker. A run that was lost with its
worker, and whose task then failed, is in both, and counts as one. There may be very many tasks, so the record of an
attempt that has not ended is made only when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

from ipyremote.core.state import Attempt, Ledger, Task
from ipyremote.core.state.history import attempt_of
from ipyremote.core.streams import is_paused
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import BLOCKED, RUNNING
from ipyremote.messages import replace

__all__ = ["Attempts"]


class Attempts:
    """All that is known of attempts at the moment when this object is made."""

    def __init__(self, ledger: Ledger, timeline: Timeline) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._unrun = {(attempt.task_id, attempt.attempt): attempt for attempt in ledger.past.unrun}
        #: Keys of the runs that the timeline remembers; empty when none can be in both places.
        self._ran = timeline.keys() if self._unrun else set()

    @property
    def count(self) -> int:
        """Return how many attempts there are."""
        ended = len(self._ran | self._unrun.keys()) if self._unrun else self._timeline.count
        return len(self._ledger.tasks) + ended

    def first(self, limit: int) -> Iterator[Attempt]:
        """Return at most `limit` attempts that have not ended, in the order of submission; then all that have, the
        latest first."""
        tasks = islice(self._ledger.tasks.values(), limit)
        present = map(partial(_present, self._ledger), tasks)
        return chain(present, self._ended() if self._unrun else self._timeline.attempts())

    def _ended(self) -> Iterator[Attempt]:
        unrun = [a for a in reversed(self._unrun.values()) if (a.task_id, a.attempt) not in self._ran]
        others = iter(unrun)
        other = next(others, None)
        # The merged order is nearly that of the ends, which is enough for a list.
        for run in self._timeline.attempts():
            while other is not None and other.ended >= run.ended:
                yield other
                other = next(others, None)
            known = self._unrun.get((run.task_id, run.attempt))
            yield run if known is None else replace(known, worker=run.worker, started=run.started)
        if other is not None:
            yield other
            yield from others


def _present(ledger: Ledger, task: Task) -> Attempt:
    """Return the present attempt of a task that has not ended."""
    # A task that waits until its items are consumed waits in no `get`.
    paused = task.state == BLOCKED and task.spec.stream and is_paused(ledger, task)
    return attempt_of(task, worker=task.worker, state=RUNNING if paused else task.state)
