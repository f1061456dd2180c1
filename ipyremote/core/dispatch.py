"""How a task gets onto a worker and off it again. It does not choose: `placement` and `actors` do.

A worker runs what it was sent in order, so the first task that it has not reported on is RUNNING and the others are
SENT (an actor: the first `max_running`). Everything that concerns the load and the lease of a worker is counted here.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.lifetimes import show
from ipyremote.core.resources import give_back, lend_cpus, unlend_cpus
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

#: Inline dependencies of one task that are larger in sum travel in messages of their own.
LARGE_BYTES: Final = 1 << 20


def move(ledger: Ledger, task: Task, state: str) -> None:
    """Change a task's state and tell who watches it."""
    if task.watched and SHOWN[state] != SHOWN[task.state]:
        move_task(task, state)
        show_task(ledger, task)
    else:
        move_task(task, state)


def show_task(ledger: Ledger, task: Task) -> None:
    """Tell the watchers of a task that has not ended."""
    for index in range(task.spec.returns):
        obj = ledger.objects.get(task.spec.task_id + index)
        if obj is not None and obj.watchers:
            show(ledger, obj, SHOWN[task.state], "", run_seconds(ledger, task))


def run_seconds(ledger: Ledger, task: Task) -> float:
    """How long the present run has lasted; 0 when it is on no worker or has not started."""
    return ledger.now - task.started if task.state in (RUNNING, BLOCKED, CANCELLING) else 0.0


def send(ledger: Ledger, worker: Worker, task: Task) -> None:
    """Send a ready task to a worker that has, or now gets, the lease for it."""
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
    """A worker has reported the end of a task, or handed it back. The caller moves the task on."""
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
    """A worker will report on nothing any more. The caller moves the tasks on, and ends the lease with the worker."""
    tasks = list(worker.tasks)
    worker.tasks.clear()
    worker.blocked.clear()
    worker.load = 0.0
    for task in tasks:
        task.worker = None
    return tasks


def rest(ledger: Ledger, worker: Worker) -> None:
    """End the lease of a worker that has nothing left to do."""
    give_back(worker)
    ledger.leased.pop(worker.id, None)
    move_worker(worker, IDLE)
    worker.idle_since = ledger.now
    worker.environment.idle[worker.id] = worker


def block(ledger: Ledger, worker: Worker, task: Task) -> None:
    """A task waits: its worker's CPUs are lent out."""
    worker.blocked.add(task)
    worker.reported = ledger.now
    lend_cpus(worker)
    if task.state in (RUNNING, SENT):
        if task.state == SENT:
            task.started = ledger.now
        move(ledger, task, BLOCKED)


def unblock(ledger: Ledger, worker: Worker, task: Task) -> None:
    """A task goes on, or has ended while it waited."""
    worker.blocked.discard(task)
    if not worker.blocked:
        unlend_cpus(worker)
    if task.state == BLOCKED and task.worker is worker:
        move(ledger, task, RUNNING)


def _start_next(ledger: Ledger, worker: Worker) -> None:
    """Something left the worker's line: the next one is assumed to start."""
    actor = worker.actor
    running = 1 if actor is None else actor.max_running
    tasks = worker.tasks
    if len(tasks) >= running:
        task = tasks[running - 1]
        if task.state == SENT:
            task.started = ledger.now
            move(ledger, task, RUNNING)


def _values(ledger: Ledger, worker: Worker, task: Task) -> tuple[Inline | Stored | None, ...]:
    """The values for `RunTask`; large inline ones are sent ahead."""
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
    """A task will run again, or elsewhere. The caller queues it."""
    task.worker = None
    task.started = 0.0
    move(ledger, task, READY)
