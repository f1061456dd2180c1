"""The reactions to the end of a worker or a driver: retries, failures and cancelled tasks.

After a crash, the run numbers in the worker's progress page tell which tasks had started. Only these are charged a
retry, or fail when no retry is left. Tasks that were sent ahead and had not started run elsewhere, before newer tasks.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.actors import Actors
from ipyremote.core.cancel import cancel_task, cancel_tree
from ipyremote.core.columns import worker_exit
from ipyremote.core.dispatch import back_to_ready, detach_all
from ipyremote.core.events import EXITED, OUT_OF_MEMORY, WorkerEnd, WorkerExited
from ipyremote.core.lifetimes import release_client
from ipyremote.core.queues import put_back
from ipyremote.core.resources import end_lease
from ipyremote.core.state import Ledger, Task, move_worker
from ipyremote.core.state.history import LOST, attempt_of
from ipyremote.core.tasks import fail, is_creation, may_retry
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import CANCELLED, CANCELLING, GONE, READY, STOPPING, WAITING
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import ClientId
from ipyremote.messages import Failure

__all__ = ["WorkerLossHandler"]

#: Number of workers that a task may take down; then it fails, unless its `max_retries` is not the default.
POISON_CRASHES: Final = 3
#: Default of `max_retries`.
USUAL_RETRIES: Final = 3


class WorkerLossHandler:
    """The reactions to the end of workers and drivers. The records are in the ledger; nothing is kept here."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors, timeline: Timeline) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._pool = pool
        self._actors = actors

    def on_worker_exited(self, event: WorkerExited) -> None:
        """React to the end of a worker's process, or to a process that could not be started."""
        ledger = self._ledger
        worker = ledger.workers.pop(event.worker_id, None)
        if worker is None:
            return
        worker.environment.idle.pop(worker.id, None)
        ledger.leased.pop(worker.id, None)
        end_lease(worker)
        ledger.past.workers.append(worker_exit(worker, event.end, ledger.now))
        lost = Failure(crash_kind(event.end), event.end.text)
        for task in worker.tasks:
            if task.run <= event.started:
                state = CANCELLED if task.state == CANCELLING else LOST
                self._timeline.add(
                    attempt_of(task, worker=worker, state=state, ended=ledger.now, failure=lost)
                )
        if worker.actor is not None:
            self._actors.on_lost(worker, event.end, event.started, event.finished)
        else:
            back: list[Task] = []
            for task in detach_all(worker):
                if self._runs_again(task, worker.pid, event):
                    back_to_ready(ledger, task)
                    back.append(task)
            put_back(ledger, back)
        # Actors that tasks of a worker have created die with it, unless the scheduler has stopped it for want of work.
        was_idle = worker.state == STOPPING and event.end.kind == EXITED
        if worker.actor is not None or not was_idle:
            self._actors.on_owner_gone(
                lambda actor: actor.creation.submitter == worker.id,
                f"the process that had created it (pid {worker.pid}) has ended: {event.end.text}",
            )
        release_client(ledger, worker.id)
        self._pool.on_exited(worker, event.end.text)
        move_worker(worker, GONE)
        if self._pool.hopeless():
            self._fail_ready(event.end.text)

    def on_client_gone(self, client_id: ClientId) -> None:
        """React to the end of a driver: cancel its tasks with their children, and release its objects.

        A call that an actor runs for the driver goes on: the actor may belong to another driver, and must not be
        interrupted.
        """
        ledger = self._ledger
        if client_id not in ledger.clients:
            return
        # This comes first, so that nothing is sent to the driver.
        release_client(ledger, client_id)
        self._actors.on_owner_gone(
            lambda actor: actor.creation.spec.driver == client_id, "the driver that it belonged to has left"
        )
        for task in list(ledger.tasks.values()):
            mine = task.submitter == client_id and ledger.tasks.get(task.spec.task_id) is task
            if not mine or is_creation(task):
                continue
            if task.state in (WAITING, READY):
                cancel_task(ledger, task, "the driver that submitted it has left")
            elif task.actor is None:
                cancel_tree(ledger, self._pool, task)

    def _runs_again(self, task: Task, pid: int, event: WorkerExited) -> bool:
        """Return whether a task of a lost worker must be queued again; fail the task otherwise."""
        ledger = self._ledger
        label = task.spec.label
        if task.state == CANCELLING:
            fail(ledger, task, Failure("task_cancelled", f"{label} was cancelled."), CANCELLED)
            return False
        if task.run > event.started:
            task.note(ledger.now, f"its worker (pid {pid}) was lost before it had started: {event.end.text}")
            return True
        task.crashes += 1
        task.note(ledger.now, f"attempt {task.attempt}: its worker (pid {pid}) was lost: {event.end.text}")
        retries = task.spec.max_retries
        poison = task.crashes >= POISON_CRASHES and retries == USUAL_RETRIES
        if may_retry(task) and not poison:
            task.attempt += 1
            return True
        if task.run <= event.finished:
            did = f"{label} had completed, but its worker (pid {pid}) was lost before it had delivered the result"
        else:
            did = f"{label} was running when its worker (pid {pid}) was lost"
        if poison:
            advice = f"it is not tried again, since {task.crashes} workers were lost with it"
        else:
            advice = f"no retry is left (max_retries={retries}; set it higher to run the task again)"
        # The text of the end comes last, since it may have several lines.
        fail(ledger, task, Failure(crash_kind(event.end), f"{did}, and {advice}: {event.end.text}"))
        return False

    def _fail_ready(self, reason: str) -> None:
        """Fail the ready tasks of the session's own environment: without workers they would wait for ever."""
        ledger = self._ledger
        ready = [
            task
            for task in ledger.tasks.values()
            if task.state == READY and task.shape is not None and task.shape.environment is ledger.home
        ]
        for task in ready:
            text = f"{task.spec.label} cannot run: no worker can be started: {reason}"
            if is_creation(task):
                assert task.actor is not None
                self._actors.die(task.actor, Failure("actor_died", text))
            else:
                fail(ledger, task, Failure("system", text))


def crash_kind(end: WorkerEnd) -> str:
    """Return the kind of the failure that a worker's end causes."""
    return "out_of_memory" if end.kind == OUT_OF_MEMORY else "worker_crashed"
