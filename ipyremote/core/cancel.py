"""The cancelling of tasks, and of their children with them.

A task that is not on a worker ends at once. A task on a worker is CANCELLING until the worker has answered: the task
may have ended by itself before the worker saw the request, and then its value stands. With `force` the worker is
killed instead, unless the task was only sent ahead: then the worker is asked even so. A cancelled task is never
retried.
"""

from __future__ import annotations

from ipyremote.core.commands import Send
from ipyremote.core.dispatch import detach, move
from ipyremote.core.state import Ledger, Task
from ipyremote.core.tasks import fail, is_creation
from ipyremote.core.transitions import BLOCKED, CANCELLED, CANCELLING, READY, RUNNING, SENT, STOPPING, WAITING
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.messages import CancelRun, CancelTask, Failure

__all__ = ["cancel_task", "cancel_tree", "on_cancel"]


def on_cancel(ledger: Ledger, pool: WorkerPool, message: CancelTask) -> None:
    """Cancel the task that returns an object, for a client. The creation of an actor is not cancelled."""
    obj = ledger.objects.get(message.object_id)
    task = obj.producer if obj is not None else ledger.tasks.get(message.object_id)
    if task is not None and not is_creation(task):
        cancel_tree(ledger, pool, task, force=message.force, recursive=message.recursive)


def cancel_tree(
    ledger: Ledger, pool: WorkerPool, task: Task, *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel a task and, if `recursive`, all tasks that it has submitted, with their own children."""
    todo = [task]
    while todo:
        task = todo.pop()
        if recursive and task.children:
            todo.extend(sorted(task.children, key=lambda child: -child.spec.task_id))
        if is_creation(task):
            continue
        if task.state in (WAITING, READY):
            cancel_task(ledger, task, "")
        elif force and task.actor is None and task.state in (RUNNING, BLOCKED, CANCELLING):
            _force(ledger, pool, task)
        elif task.state in (SENT, RUNNING, BLOCKED):
            assert task.worker is not None, "a sent task has a worker"
            move(ledger, task, CANCELLING)
            task.note(ledger.now, "asked its worker to cancel it")
            ledger.out.append(Send(task.worker.id, CancelRun(task.spec.task_id, task.attempt)))


def cancel_task(ledger: Ledger, task: Task, why: str) -> None:
    """End a task that has not been sent to a worker."""
    text = f"{task.spec.label} was cancelled before it started" + (f": {why}." if why else ".")
    fail(ledger, task, Failure("task_cancelled", text), CANCELLED)


def _force(ledger: Ledger, pool: WorkerPool, task: Task) -> None:
    worker = task.worker
    assert worker is not None, "a running task has a worker"
    if worker.tasks[0] is not task:
        return
    if worker.state != STOPPING:
        pool.stop(worker, kill=True)
    detach(ledger, worker, task)
    text = f"{task.spec.label} was force-cancelled; its worker (pid {worker.pid}) was killed."
    fail(ledger, task, Failure("task_cancelled", text), CANCELLED)
