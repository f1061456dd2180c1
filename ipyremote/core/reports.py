"""What workers report about runs: ends, failures to retry, waits, and tasks handed back.

A report counts only if it comes from the worker that has the task and is about the task's present attempt; any other is
about a run that is over, and only its segments matter.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.actors import Actors
from ipyremote.core.commands import Send
from ipyremote.core.dispatch import back_to_ready, block, detach, unblock
from ipyremote.core.lifetimes import discard_value
from ipyremote.core.queues import put_back
from ipyremote.core.state import Ledger, Task, Worker
from ipyremote.core.state.history import RETRIED, attempt_of
from ipyremote.core.tasks import fail, finish, is_creation, may_retry
from ipyremote.core.timeline import Timeline
from ipyremote.core.transitions import CANCELLED, CANCELLING, DONE, SENT
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.messages import Blocked, Failure, Recall, Returned, Stored, TaskDone, TaskFailed, Unblocked

__all__ = ["Reports"]

#: Weight of the newest run in a function's average duration.
NEWEST: Final = 0.3


class Reports:
    """Reacts to what workers report. Keeps nothing itself."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors, timeline: Timeline) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors
        self._note_run = timeline.add

    def on_done(self, sender: int, message: TaskDone) -> None:
        """A run has ended with values."""
        ledger = self._ledger
        task = ledger.tasks.get(message.task_id)
        if task is None or task.attempt != message.attempt:
            self._discard(sender, message)
            return
        worker = task.worker
        if worker is None or worker.id != sender:
            self._discard(sender, message)
            return
        function = task.function
        if function is not None:
            average = function.micros
            function.micros = (
                message.micros if average < 0.0 else average + NEWEST * (message.micros - average)
            )
        detach(ledger, worker, task)
        spec = task.spec
        if task.actor is not None and not spec.actor_id:
            self._actors.on_created(worker, task, message)
        else:
            finish(ledger, task, message.values, message.refs, sender)
        if spec.max_calls:
            self._pool.count_call(worker, task)
        failure = None if task.state == DONE else _failure(message)
        self._note_run(
            attempt_of(
                task,
                worker=worker,
                state=task.state,
                ended=ledger.now,
                micros=message.micros,
                failure=failure,
            )
        )

    def on_failed(self, sender: int, message: TaskFailed) -> None:
        """A run has ended with an exception that its task wants to be retried."""
        ledger = self._ledger
        found = self._running(sender, message.task_id)
        if found is None or found[1].attempt != message.attempt:
            return
        worker, task = found
        failure = message.failure
        if is_creation(task) or task.state == CANCELLING or not may_retry(task):
            values = (failure,) * task.spec.returns
            self.on_done(sender, TaskDone(message.task_id, message.attempt, values, (), message.micros))
            return
        detach(ledger, worker, task)
        self._note_run(
            attempt_of(
                task,
                worker=worker,
                state=RETRIED,
                ended=ledger.now,
                micros=message.micros,
                failure=failure,
            )
        )
        task.note(ledger.now, f"attempt {task.attempt} raised: {failure.text.rpartition(chr(10))[2]}")
        task.attempt += 1
        if task.spec.max_calls:
            self._pool.count_call(worker, task)
        back_to_ready(ledger, task)
        if task.actor is not None:
            task.actor.outbox.appendleft(task)
            ledger.touched[task.actor.id] = task.actor
        else:
            put_back(ledger, (task,))

    def on_blocked(self, sender: int, message: Blocked) -> None:
        """A task waits in `get` or `wait`: its CPUs are lent out, and nothing may wait behind it."""
        ledger = self._ledger
        self._take_back(sender, message.returned)
        found = self._running(sender, message.task_id)
        if found is None:
            return
        worker, task = found
        if worker.actor is None and worker.tasks[0] is not task:
            # It would have to be past what is before it in the worker's line.
            return
        block(ledger, worker, task)
        if worker.actor is None:
            # What was on its way to the worker when it blocked must not wait for it either.
            behind = tuple(other.spec.task_id for other in worker.tasks if other.state == SENT)
            if behind:
                worker.recall = 2
                ledger.out.append(Send(worker.id, Recall(behind)))

    def on_unblocked(self, sender: int, message: Unblocked) -> None:
        """A task goes on."""
        found = self._running(sender, message.task_id)
        if found is not None:
            worker, task = found
            worker.reported = self._ledger.now
            unblock(self._ledger, worker, task)

    def on_returned(self, sender: int, message: Returned) -> None:
        """A worker hands back what it has not started."""
        self._take_back(sender, message.task_ids)

    def _running(self, sender: int, task_id: int) -> tuple[Worker, Task] | None:
        """The task, if that worker has it."""
        task = self._ledger.tasks.get(task_id)
        if task is None or task.worker is None or task.worker.id != sender:
            return None
        return task.worker, task

    def _take_back(self, sender: int, task_ids: tuple[int, ...]) -> None:
        ledger = self._ledger
        back: list[Task] = []
        for task_id in task_ids:
            found = self._running(sender, task_id)
            if found is None or found[1].actor is not None:
                continue
            worker, task = found
            recall = worker.recall
            reported = worker.reported
            detach(ledger, worker, task)
            # Handing back is no progress of what runs there.
            worker.recall = recall
            worker.reported = reported
            if task.state == CANCELLING:
                fail(ledger, task, Failure("task_cancelled", f"{task.spec.label} was cancelled."), CANCELLED)
                continue
            back_to_ready(ledger, task)
            back.append(task)
        put_back(ledger, back)

    def _discard(self, sender: int, message: TaskDone) -> None:
        for index, value in enumerate(message.values):
            if type(value) is not Stored:
                continue
            obj = self._ledger.objects.get(message.task_id + index)
            known = obj.value if obj is not None else None
            if type(known) is not Stored or known.segment != value.segment:
                discard_value(self._ledger, value, sender)


def _failure(message: TaskDone) -> Failure | None:
    """The first failure among the values."""
    return next((value for value in message.values if type(value) is Failure), None)
