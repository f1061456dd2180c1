"""What the loss of a worker or of a client does to tasks.

After a crash the run numbers in the worker's progress page tell which tasks had started: only these are charged a
retry, or fail when none is left. What had been sent ahead and had not started runs elsewhere, before anything newer.
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
from ipyremote.core.resources import give_back
from ipyremote.core.state import Ledger, Task, move_worker
from ipyremote.core.state.history import LOST, attempt_of
from ipyremote.core.tasks import fail, is_creation, may_retry
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import CANCELLED, CANCELLING, GONE, READY, STOPPING, WAITING
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.messages import Failure

__all__ = ["WorkerLossHandler"]

#: A task with the usual number of retries that was the end of this many workers does not get another one.
POISON_CRASHES: Final = 3
USUAL_RETRIES: Final = 3


class WorkerLossHandler:
    """Reacts to the end of workers and clients. Keeps nothing itself."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors, timeline: Timeline) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._pool = pool
        self._actors = actors

    def on_worker_exited(self, event: WorkerExited) -> None:
        """A worker's process is gone, or could not be started."""
        ledger = self._ledger
        worker = ledger.workers.pop(event.worker_id, None)
        if worker is None:
            return
        worker.environment.idle.pop(worker.id, None)
        ledger.leased.pop(worker.id, None)
        give_back(worker)
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
        # What the scheduler has stopped for want of work leaves its actors to those who hold them.
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

    def on_client_gone(self, client_id: int) -> None:
        """A driver has left: its tasks are cancelled with what they submitted, what it held is released.

        A call that an actor runs for it goes on: the actor may be another's, and is in the middle of something.
        """
        ledger = self._ledger
        if client_id not in ledger.clients:
            return
        # First of all, so that nothing is sent to it.
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
        """Whether a task of a lost worker is to be queued again; it is failed otherwise."""
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
        # The reason comes last: it may have several lines.
        fail(ledger, task, Failure(crash_kind(event.end), f"{did}, and {advice}: {event.end.text}"))
        return False

    def _fail_ready(self, reason: str) -> None:
        """None of the session's own processes can be started: waiting any longer would be waiting for ever."""
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
    """Return the kind of failure that the end of a worker is."""
    return "out_of_memory" if end.kind == OUT_OF_MEMORY else "worker_crashed"
