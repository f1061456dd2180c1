"""The way of a task onto a worker and off it again. `placement` and `actors` choose the task and the worker.

A worker runs its tasks in the order in which they were sent, so the first task that it has not reported on is RUNNING
and the others are SENT; of an actor the first `max_running` are RUNNING. The load and the lease of a worker are counted
here and nowhere else.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.lifetimes import show
from ipyremote.core.resources import end_lease, lend_cpus, unlend_cpus
from ipyremote.core.spilling import touch
from ipyremote.core.state import Ledger, Task, Worker, move_task, move_worker
from ipyremote.core.transitions import BLOCKED, BUSY, CANCELLING, IDLE, READY, RUNNING, SENT, SHOWN, STOPPING
from ipyremote.messages import Inline, ObjectReady, RunTask, Stored

__all__ = [
    "back_to_ready",
    "block",
    "detach",
    "detach_all",
    "move",
    "rest",
    "run_seconds",
    "send",
    "show_task",
    "unblock",
]

#: Total size in bytes of a task's inline dependencies above which each travels in a message of its own.
LARGE_BYTES: Final = 1 << 20


def move(ledger: Ledger, task: Task, state: str) -> None:
    """Change a task's state and tell the task's watchers."""
    if task.watched and SHOWN[state] != SHOWN[task.state]:
        move_task(task, state)
        show_task(ledger, task)
    else:
        move_task(task, state)


def show_task(ledger: Ledger, task: Task) -> None:
    """Tell the present state of a task that has not ended to its watchers."""
    for index in range(task.spec.returns):
        obj = ledger.objects.get(task.spec.task_id + index)  # type: ignore[call-overload]  # an id plus an index is an id
        if obj is not None and obj.watchers:
            show(ledger, obj, SHOWN[task.state], "", run_seconds(ledger, task))


def run_seconds(ledger: Ledger, task: Task) -> float:
    """Return the duration of a task's present run in seconds; 0 if no run has started."""
    return ledger.now - task.started if task.state in (RUNNING, BLOCKED, CANCELLING) else 0.0


def send(ledger: Ledger, worker: Worker, task: Task) -> None:
    """Send a ready task to a worker that has, or gets at this moment, the lease for the task."""
    spec = task.spec
    out = ledger.out
    function = task.function
    if function is not None and function not in worker.functions and function.define is not None:
        worker.functions.add(function)
        out.append(Send(worker.id, function.define))
    values = _values(ledger, worker, task) if spec.deps else ()
    tasks = worker.tasks
    actor = worker.actor
    if len(tasks) < (1 if actor is None else actor.max_running):
        task.started = ledger.now
        move(ledger, task, RUNNING)
    else:
        move(ledger, task, SENT)
    worker.runs = task.run = worker.runs + 1
    task.worker = worker
    tasks.append(task)
    made = actor.spec if actor is not None and task is actor.creation else None
    out.append(Send(worker.id, RunTask(spec, task.attempt, task.run, values, worker.gpus, made)))


def detach(ledger: Ledger, worker: Worker, task: Task) -> None:
    """Take a task off a worker that has reported its end or handed it back. The caller moves the task on."""
    tasks = worker.tasks
    if tasks[0] is task:
        tasks.popleft()
    else:
        tasks.remove(task)
    task.worker = None
    if worker.blocked:
        unblock(ledger, worker, task)
    worker.reported = ledger.now
    worker.recall = 0
    if tasks:
        worker.load -= task.estimate
        if worker.state != STOPPING:
            _start_next(ledger, worker)
    else:
        worker.load = 0.0
        if worker.state == BUSY:
            rest(ledger, worker)


def detach_all(worker: Worker) -> list[Task]:
    """Take all tasks off a worker that will report no more. The caller moves the tasks on and ends the lease."""
    tasks = list(worker.tasks)
    worker.tasks.clear()
    worker.blocked.clear()
    worker.load = 0.0
    for task in tasks:
        task.worker = None
    return tasks


def rest(ledger: Ledger, worker: Worker) -> None:
    """End the lease of a worker that has nothing left to do."""
    end_lease(worker)
    ledger.leased.pop(worker.id, None)
    move_worker(worker, IDLE)
    worker.idle_since = ledger.now
    worker.environment.idle[worker.id] = worker


def block(ledger: Ledger, worker: Worker, task: Task) -> None:
    """Note that a task waits, and lend its worker's CPUs to others."""
    worker.blocked.add(task)
    worker.reported = ledger.now
    lend_cpus(worker)
    if task.state in (RUNNING, SENT):
        if task.state == SENT:
            task.started = ledger.now
        move(ledger, task, BLOCKED)


def unblock(ledger: Ledger, worker: Worker, task: Task) -> None:
    """Note that a task goes on, or has ended while it waited, and take back the CPUs when no task waits."""
    worker.blocked.discard(task)
    if not worker.blocked:
        unlend_cpus(worker)
    if task.state == BLOCKED and task.worker is worker:
        move(ledger, task, RUNNING)


def _start_next(ledger: Ledger, worker: Worker) -> None:
    """Move the next task to RUNNING after a task has left the worker: the worker is assumed to start it."""
    actor = worker.actor
    running = 1 if actor is None else actor.max_running
    tasks = worker.tasks
    if len(tasks) >= running:
        task = tasks[running - 1]
        if task.state == SENT:
            task.started = ledger.now
            move(ledger, task, RUNNING)


def _values(ledger: Ledger, worker: Worker, task: Task) -> tuple[Inline | Stored | None, ...]:
    """Return the values of a task's dependencies for `RunTask`; None for an inline value that is sent ahead."""
    values: list[Inline | Stored | None] = []
    size = 0
    for dep in task.spec.deps:
        value = ledger.objects[dep].value
        assert isinstance(value, Inline | Stored), "a ready task has the values of its dependencies"
        values.append(value)
        if type(value) is Inline:
            size += len(value.data)
        else:
            touch(ledger, dep)
    if size <= LARGE_BYTES:
        return tuple(values)
    sent: set[int] = set()
    for index, (dep, value) in enumerate(zip(task.spec.deps, values, strict=True)):
        if type(value) is Inline:
            if dep not in sent:
                sent.add(dep)
                ledger.out.append(Send(worker.id, ObjectReady(dep, value)))
            values[index] = None
    return tuple(values)


def back_to_ready(ledger: Ledger, task: Task) -> None:
    """Make a task READY that will run again or on another worker. The caller queues the task."""
    task.worker = None
    task.started = 0.0
    move(ledger, task, READY)
