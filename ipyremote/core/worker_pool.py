"""How many workers there are: the first ones, spares for tasks that have resources but no worker, and their end.

Rules. Each environment has workers of its own; all of them together are at most `max_workers`. Of the session's own
processes `floor` are there for tasks from the start, and one that is lost, or becomes an actor, is replaced at once.
Placement says how many more tasks could run if there were workers; those that are starting count. A spare that has been
idle for `IDLE_SECONDS` is stopped, and so is a worker that has run a function as often as its `max_calls` says. One
that cannot be started is tried again, later each time. Of the session's own processes the user is told after
`NOTICE_FAILURES` in a row, and after `HOPELESS_FAILURES` the ready tasks fail if no other worker can run them.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Log, Send, StartWorker, StopWorker
from ipyremote.core.state import Environment, Ledger, Task, Worker, move_worker
from ipyremote.core.transitions import IDLE, OPEN, SERVING, STARTING, STOPPING
from ipyremote.messages import RESOURCE_UNIT, Notice

__all__ = ["WorkerPool"]

#: Workers that are started at first, at most.
FLOOR_LIMIT: Final = 64
IDLE_SECONDS: Final = 5.0
#: A worker that is lost sooner than this without having run anything counts as not started.
SETTLED_SECONDS: Final = 1.0
NOTICE_FAILURES: Final = 3
HOPELESS_FAILURES: Final = 5
FIRST_BACKOFF: Final = 0.1
LAST_BACKOFF: Final = 1.0


class WorkerPool:
    """Starts and stops workers, and counts them in the records of their environments."""

    def __init__(self, ledger: Ledger, max_workers: int) -> None:
        self._ledger = ledger
        #: Workers of all kinds that there can be at a time.
        self.max_workers = max_workers
        cpus = ledger.total.get("CPU", 0) // RESOURCE_UNIT
        ledger.home.floor = min(max(1, cpus), FLOOR_LIMIT, max_workers)

    def room(self) -> int:
        """How many more workers there can be."""
        return self.max_workers - len(self._ledger.workers)

    def starting(self) -> int:
        """How many workers were asked for and have not greeted."""
        ledger = self._ledger
        others = ledger.environments
        return ledger.home.starting + (sum(each.starting for each in others.values()) if others else 0)

    def settle(self) -> None:
        """Start the workers that are missing, those included that are wanted for tasks that have all else; stop idle
        spares."""
        ledger = self._ledger
        self._settle(ledger.home)
        for environment in ledger.environments.values():
            if environment.state == OPEN:
                self._settle(environment)

    def _settle(self, environment: Environment) -> None:
        ledger = self._ledger
        if environment.failures:
            self._look_for_success(environment)
        missing = max(environment.floor - environment.pool_size, environment.wanted - environment.starting)
        environment.put_off = False
        if missing > 0:
            if ledger.now < environment.start_after:
                environment.put_off = True
            else:
                # After a failure one start at a time shows whether it works again.
                if environment.failures:
                    missing = min(missing, 1 - environment.starting)
                for _ in range(min(missing, self.room())):
                    self._start(environment)
        elif environment.pool_size > environment.floor and environment.idle:
            self._stop_spares(environment)

    def deadline(self) -> float | None:
        """When `settle` has something to do although nothing happened."""
        ledger = self._ledger
        due = _deadline(ledger.home)
        for environment in ledger.environments.values():
            other = _deadline(environment) if environment.state == OPEN else None
            if other is not None and (due is None or other < due):
                due = other
        return due

    def on_started(self, worker_id: int, pid: int) -> None:
        """A worker has greeted."""
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
        """A worker is gone; its tasks have been dealt with."""
        environment = worker.environment
        environment.members -= 1
        if worker.state == STARTING:
            environment.starting -= 1
        if worker.state not in (SERVING, STOPPING):
            environment.pool_size -= 1
        if worker.state == STARTING:
            self._on_failed_start(environment, reason, FIRST_BACKOFF)
        elif worker.state == IDLE and not self._has_settled(worker):
            # Once is an accident: its place is taken at once, as that of any idle worker that is lost.
            self._on_failed_start(environment, reason, FIRST_BACKOFF if environment.failures else 0.0)

    def hopeless(self) -> bool:
        """Whether none of the session's own processes can be started and none that is there can run a ready task."""
        home = self._ledger.home
        return home.failures >= HOPELESS_FAILURES and not home.idle and self.is_stuck(home)

    def is_stuck(self, environment: Environment) -> bool:
        """Whether each worker of an environment that has tasks waits for others."""
        leased = self._ledger.leased.values()
        return all(worker.blocked for worker in leased if worker.environment is environment)

    def count_call(self, worker: Worker, task: Task) -> None:
        """A run of a function with `max_calls` has ended, and nothing is behind it: its worker leaves after so many."""
        function = task.function
        assert function is not None, "methods have no max_calls"
        calls = worker.calls = worker.calls or {}
        calls[function] = calls.get(function, 0) + 1
        if calls[function] >= task.spec.max_calls and worker.state != STOPPING:
            self.stop(worker, kill=False)

    def stop(self, worker: Worker, *, kill: bool) -> None:
        """End a worker. Its tasks, if any, are dealt with when it has exited."""
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
        ledger = self._ledger
        worker = Worker(ledger.next_client, ledger.now, environment)
        ledger.next_client += 1
        ledger.workers[worker.id] = worker
        environment.members += 1
        environment.starting += 1
        environment.pool_size += 1
        ledger.out.append(StartWorker(worker.id, environment.key))

    def _stop_spares(self, environment: Environment) -> None:
        now = self._ledger.now
        for worker in list(environment.idle.values()):
            if environment.pool_size <= environment.floor or worker.idle_since + IDLE_SECONDS > now:
                return
            self.stop(worker, kill=False)

    def _has_settled(self, worker: Worker) -> bool:
        return worker.runs > 0 or self._ledger.now - worker.started_at >= SETTLED_SECONDS

    def _look_for_success(self, environment: Environment) -> None:
        """Failures are over when a worker that greeted after the last one has settled."""
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
    if environment.put_off:
        return environment.start_after
    if environment.pool_size > environment.floor and environment.idle:
        return next(iter(environment.idle.values())).idle_since + IDLE_SECONDS
    return None
