"""The attempts of tasks that can be listed: those of tasks that have not ended, and the latest that have.

The timeline knows the runs that ended, `Ledger.past` the tasks that ended on no worker. One that was lost with its
worker, and then failed, is in both, and counts as one. There may be very many tasks, so what is asked of one is looked
up when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

from ipyremote.core.history import Attempt
from ipyremote.core.state.ledger import Function, Ledger, Shape, Task, Worker
from ipyremote.core.streams import is_paused
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import BLOCKED, RUNNING

__all__ = ["Attempts", "Present"]


class Present:
    """The present attempt of a task that has not ended, with the fields of an `Attempt`."""

    __slots__ = ("_ledger", "_task")

    ended = 0.0
    failure = None

    def __init__(self, ledger: Ledger, task: Task) -> None:
        self._ledger = ledger
        self._task = task

    @property
    def worker(self) -> Worker | None:
        return self._task.worker

    @property
    def label(self) -> str:
        return self._task.spec.label

    @property
    def started(self) -> float:
        return self._task.started

    @property
    def state(self) -> str:
        task = self._task
        # What waits for its items to be consumed waits in no `get`.
        paused = task.state == BLOCKED and task.spec.stream and is_paused(self._ledger, task)
        return RUNNING if paused else task.state

    @property
    def task_id(self) -> int:
        return self._task.spec.task_id

    @property
    def attempt(self) -> int:
        return self._task.attempt

    @property
    def target(self) -> Function | str | None:
        return self._task.function or self._task.spec.method

    @property
    def shape(self) -> Shape | None:
        return self._task.shape

    @property
    def actor_id(self) -> int:
        actor = self._task.actor
        return self._task.spec.actor_id if actor is None else actor.id

    @property
    def parent(self) -> int:
        return self._task.spec.parent

    @property
    def submitted(self) -> float:
        return self._task.submitted


class Attempts:
    """All that is known of attempts at the moment when it is made."""

    def __init__(self, ledger: Ledger, timeline: Timeline) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._unrun = {(attempt.task_id, attempt.attempt): attempt for attempt in ledger.past.unrun}
        #: Keys of the runs that are remembered, if one of them can be among the others.
        self._ran = timeline.keys() if self._unrun else set()

    @property
    def count(self) -> int:
        """How many there are."""
        ended = len(self._ran | self._unrun.keys()) if self._unrun else self._timeline.count
        return len(self._ledger.tasks) + ended

    def first(self, limit: int) -> Iterator[Present | Attempt]:
        """At most `limit` of tasks that have not ended, in the order of submission; then the others, latest first."""
        present = map(partial(Present, self._ledger), islice(self._ledger.tasks.values(), limit))
        return chain(present, self._ended() if self._unrun else self._timeline.attempts())

    def _ended(self) -> Iterator[Attempt]:
        unrun = [a for a in reversed(self._unrun.values()) if (a.task_id, a.attempt) not in self._ran]
        others = iter(unrun)
        other = next(others, None)
        # Nearly in order, which is enough.
        for run in self._timeline.attempts():
            while other is not None and other.ended >= run.ended:
                yield other
                other = next(others, None)
            known = self._unrun.get((run.task_id, run.attempt))
            yield run if known is None else known._replace(worker=run.worker, started=run.started)
        if other is not None:
            yield other
            yield from others
