"""The reactions to workers' reports about runs: ends, failures to retry, waits, and tasks handed back.

A report counts only if it comes from the worker that has the task and is about the task's present attempt. Any other
report is about a run that is over; of such a report only the segments matter.
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
from ipyremote.ids import ClientId, TaskId
from ipyremote.messages import Blocked, Failure, Recall, Returned, Stored, TaskDone, TaskFailed, Unblocked

__all__ = ["Reports"]

#: Weight of the newest run in the moving average of a function's duration, from 0 to 1.
NEWEST: Final = 0.3


class Reports:
    """The reactions to workers' reports. The records are in the ledger; nothing is kept here."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors, timeline: Timeline) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors
        self._note_run = timeline.add

    def on_done(self, sender: ClientId, message: TaskDone) -> None:
        """React to the end of a run with values, failures among them."""
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
        if spec.rare is not None and spec.rare.max_calls:
            self._pool.count_call(worker, task, spec.rare.max_calls)
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

    def on_failed(self, sender: ClientId, message: TaskFailed) -> None:
        """React to the end of a run with an exception that the task's options want to be retried."""
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
        rare = task.spec.rare
        if rare is not None and rare.max_calls:
            self._pool.count_call(worker, task, rare.max_calls)
        back_to_ready(ledger, task)
        if task.actor is not None:
            task.actor.outbox.appendleft(task)
            ledger.touched[task.actor.id] = task.actor
        else:
            put_back(ledger, (task,))

    def on_blocked(self, sender: ClientId, message: Blocked) -> None:
        """React to a task that waits in `get` or `wait`: lend its CPUs out, and recall the tasks behind it."""
        ledger = self._ledger
        self._take_back(sender, message.returned)
        found = self._running(sender, message.task_id)
        if found is None:
            return
        worker, task = found
        if worker.actor is None and worker.tasks[0] is not task:
            # The report is out of date: a worker runs only the first of its tasks.
            return
        block(ledger, worker, task)
        if worker.actor is None:
            # Tasks that were on their way when the worker sent this report must not wait for the blocked task either.
            behind = tuple(other.spec.task_id for other in worker.tasks if other.state == SENT)
            if behind:
                worker.recall = 2
                ledger.out.append(Send(worker.id, Recall(behind)))

    def on_unblocked(self, sender: ClientId, message: Unblocked) -> None:
        """React to the end of a task's wait."""
        found = self._running(sender, message.task_id)
        if found is not None:
            worker, task = found
            worker.reported = self._ledger.now
            unblock(self._ledger, worker, task)

    def on_returned(self, sender: ClientId, message: Returned) -> None:
        """React to a worker that hands back tasks that it has not started."""
        self._take_back(sender, message.task_ids)

    def _running(self, sender: ClientId, task_id: TaskId) -> tuple[Worker, Task] | None:
        """Return (worker, task) if the sender is the worker that has the task, else None."""
        task = self._ledger.tasks.get(task_id)
        if task is None or task.worker is None or task.worker.id != sender:
            return None
        return task.worker, task

    def _take_back(self, sender: ClientId, task_ids: tuple[TaskId, ...]) -> None:
        """Queue the tasks that a worker hands back, in front of newer tasks; end those that are being cancelled."""
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
            # Handing back says nothing about the progress of the run on the worker.
            worker.recall = recall
            worker.reported = reported
            if task.state == CANCELLING:
                fail(ledger, task, Failure("task_cancelled", f"{task.spec.label} was cancelled."), CANCELLED)
                continue
            back_to_ready(ledger, task)
            back.append(task)
        put_back(ledger, back)

    def _discard(self, sender: ClientId, message: TaskDone) -> None:
        """Give up the segments of a report that does not count, unless an object has taken the same segment."""
        for index, value in enumerate(message.values):
            if type(value) is not Stored:
                continue
            obj = self._ledger.objects.get(message.task_id + index)  # type: ignore[call-overload]  # an id plus an index is an id
            known = obj.value if obj is not None else None
            if type(known) is not Stored or known.segment != value.segment:
                discard_value(self._ledger, value, sender)


def _failure(message: TaskDone) -> Failure | None:
    """Return the first failure among the values of a report, if any."""
    return next((value for value in message.values if type(value) is Failure), None)
