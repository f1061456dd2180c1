"""The number of workers: the first workers, spares for tasks that have resources but no worker, and their end.

Rules. Each environment has workers of its own; all together there are at most `max_workers`. The session's own
environment has `floor` workers for tasks from the start; a worker that is lost or becomes an actor is replaced at once.
Placement says how many more tasks could run with more workers; workers that are starting count. A spare that has been
idle for `IDLE_SECONDS` is stopped, and so is a worker that has run a function `max_calls` times. A failed start is
repeated, after a longer time each time. In the session's own environment, the user is told after `NOTICE_FAILURES`
failed starts in a row, and after `HOPELESS_FAILURES` the ready tasks fail if no living worker can run them.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Log, Send, StartWorker, StopWorker
from ipyremote.core.state import Environment, Ledger, Task, Worker, move_worker
from ipyremote.core.transitions import IDLE, OPEN, SERVING, STARTING, STOPPING
from ipyremote.ids import ClientId
from ipyremote.messages import RESOURCE_UNIT, Notice

__all__ = ["WorkerPool"]

#: Largest number of workers that are started at first.
FLOOR_LIMIT: Final = 64
#: Time in seconds after which an idle spare is stopped.
IDLE_SECONDS: Final = 5.0
#: Age in seconds below which a worker that is lost without having run a task counts as a failed start.
SETTLED_SECONDS: Final = 1.0
#: Number of failed starts in a row after which the user is told.
NOTICE_FAILURES: Final = 3
#: Number of failed starts in a row after which ready tasks fail.
HOPELESS_FAILURES: Final = 5
#: Time before the next start after the first failed start, in seconds; the time doubles with each further one.
FIRST_BACKOFF: Final = 0.1
#: Longest time before the next start after a failed start, in seconds.
LAST_BACKOFF: Final = 1.0


class WorkerPool:
    """The starts and stops of workers. The counts are in the records of the workers' environments."""

    def __init__(self, ledger: Ledger, max_workers: int) -> None:
        self._ledger = ledger
        #: Largest number of workers of all kinds at a time.
        self.max_workers = max_workers
        cpus = ledger.total.get("CPU", 0) // RESOURCE_UNIT
        ledger.home.floor = min(max(1, cpus), FLOOR_LIMIT, max_workers)

    def room(self) -> int:
        """Return how many more workers may be started."""
        return self.max_workers - len(self._ledger.workers)

    def starting(self) -> int:
        """Return how many workers were asked for and have not greeted."""
        ledger = self._ledger
        others = ledger.environments
        return ledger.home.starting + (sum(each.starting for each in others.values()) if others else 0)

    def settle(self) -> None:
        """Start missing workers, with those that placement wants, and stop idle spares, in all open environments."""
        ledger = self._ledger
        self._settle(ledger.home)
        for environment in ledger.environments.values():
            if environment.state == OPEN:
                self._settle(environment)

    def _settle(self, environment: Environment) -> None:
        """Do the same in one environment."""
        ledger = self._ledger
        if environment.failures:
            self._look_for_success(environment)
        missing = max(environment.floor - environment.pool_size, environment.wanted - environment.starting)
        environment.put_off = False
        if missing > 0:
            if ledger.now < environment.start_after:
                environment.put_off = True
            else:
                # After a failure, workers are started one at a time until a start succeeds.
                if environment.failures:
                    missing = min(missing, 1 - environment.starting)
                for _ in range(min(missing, self.room())):
                    self._start(environment)
        elif environment.pool_size > environment.floor and environment.idle:
            self._stop_spares(environment)

    def deadline(self) -> float | None:
        """Return the time at which `settle` has something to do even without an event; None if there is none."""
        ledger = self._ledger
        due = _deadline(ledger.home)
        for environment in ledger.environments.values():
            other = _deadline(environment) if environment.state == OPEN else None
            if other is not None and (due is None or other < due):
                due = other
        return due

    def on_started(self, worker_id: ClientId, pid: int) -> None:
        """React to the greeting of a worker: the worker is idle."""
        ledger = self._ledger
        worker = ledger.workers.get(worker_id)
        if worker is None or worker.state != STARTING:
            return
        environment = worker.environment
        environment.starting -= 1
        worker.pid = pid
        move_worker(worker, IDLE)
        worker.idle_since = worker.started_at = ledger.now
        environment.idle[worker_id] = worker

    def on_exited(self, worker: Worker, reason: str) -> None:
        """Count out a worker that is gone. The caller has dealt with its tasks."""
        environment = worker.environment
        environment.members -= 1
        if worker.state == STARTING:
            environment.starting -= 1
        if worker.state not in (SERVING, STOPPING):
            environment.pool_size -= 1
        if worker.state == STARTING:
            self._on_failed_start(environment, reason, FIRST_BACKOFF)
        elif worker.state == IDLE and not self._has_settled(worker):
            # The first such loss may be an accident: the worker is replaced at once, as any lost idle worker.
            self._on_failed_start(environment, reason, FIRST_BACKOFF if environment.failures else 0.0)

    def hopeless(self) -> bool:
        """Return whether the session's own environment can start no worker, and has none that can run a ready task."""
        home = self._ledger.home
        return home.failures >= HOPELESS_FAILURES and not home.idle and self.is_stuck(home)

    def is_stuck(self, environment: Environment) -> bool:
        """Return whether every worker of an environment that has tasks is blocked."""
        leased = self._ledger.leased.values()
        return all(worker.blocked for worker in leased if worker.environment is environment)

    def count_call(self, worker: Worker, task: Task, limit: int) -> None:
        """Count a run of a function with `max_calls`; stop the worker after `limit` runs. No task is queued behind."""
        function = task.function
        assert function is not None, "methods have no max_calls"
        calls = worker.calls = worker.calls or {}
        calls[function] = calls.get(function, 0) + 1
        if calls[function] >= limit and worker.state != STOPPING:
            self.stop(worker, kill=False)

    def stop(self, worker: Worker, *, kill: bool) -> None:
        """Stop a worker. Its tasks, if any, are dealt with when the process has ended."""
        ledger = self._ledger
        environment = worker.environment
        if worker.state == STARTING:
            environment.starting -= 1
        if worker.state not in (SERVING, STOPPING):
            environment.pool_size -= 1
        move_worker(worker, STOPPING)
        environment.idle.pop(worker.id, None)
        ledger.leased.pop(worker.id, None)
        ledger.out.append(StopWorker(worker.id, "kill" if kill else "exit"))

    def _start(self, environment: Environment) -> None:
        """Have a worker started, and make its record."""
        ledger = self._ledger
        worker = Worker(ledger.next_client, ledger.now, environment)
        ledger.next_client += 1  # type: ignore[assignment]  # the next number
        ledger.workers[worker.id] = worker
        environment.members += 1
        environment.starting += 1
        environment.pool_size += 1
        ledger.out.append(StartWorker(worker.id, environment.key))

    def _stop_spares(self, environment: Environment) -> None:
        """Stop workers beyond the floor that have been idle for too long; the first in `idle` has been idle longest."""
        now = self._ledger.now
        for worker in list(environment.idle.values()):
            if environment.pool_size <= environment.floor or worker.idle_since + IDLE_SECONDS > now:
                return
            self.stop(worker, kill=False)

    def _has_settled(self, worker: Worker) -> bool:
        """Return whether a worker's start counts as a success."""
        return worker.runs > 0 or self._ledger.now - worker.started_at >= SETTLED_SECONDS

    def _look_for_success(self, environment: Environment) -> None:
        """Reset the count of failed starts if a worker that greeted after the last failed start has settled."""
        for worker in self._ledger.workers.values():
            greeted = worker.pid and worker.started_at >= environment.failed_at
            if worker.environment is environment and greeted and self._has_settled(worker):
                environment.failures = 0
                return

    def _on_failed_start(self, environment: Environment, reason: str, backoff: float) -> None:
        ledger = self._ledger
        environment.failures += 1
        environment.reason = reason
        environment.failed_at = ledger.now
        environment.start_after = ledger.now + min(LAST_BACKOFF, backoff * 2 ** (environment.failures - 1))
        count = f"({environment.failures} in a row)"
        ledger.out.append(Log(f"a worker could not be started {count}: {reason}"))
        if environment.failures == NOTICE_FAILURES and environment is ledger.home:
            text = f"Workers cannot be started: {reason}. Trying again every second; tasks wait meanwhile."
            ledger.out.append(Send(ledger.owner, Notice(text)))


def _deadline(environment: Environment) -> float | None:
    """Return the time of the next start or stop of a worker in an environment; None if there is none."""
    if environment.put_off:
        return environment.start_after
    if environment.pool_size > environment.floor and environment.idle:
        return next(iter(environment.idle.values())).idle_since + IDLE_SECONDS
    return None
