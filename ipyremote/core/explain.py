"""Explanations of the state of a task in a sentence, the watching of tasks, and the snapshot of the session."""

from __future__ import annotations

from collections import Counter

from ipyremote.backend.placement import GroupRecord
from ipyremote.core.commands import Send
from ipyremote.core.dispatch import run_seconds
from ipyremote.core.lifetimes import final_state
from ipyremote.core.placement import AGING_SECONDS
from ipyremote.core.resources import amount_text, fits, gpus_of
from ipyremote.core.state import Environment, GroupState, Ledger, Object, Shape, Stock, Task, Worker
from ipyremote.core.streams import is_paused
from ipyremote.core.transitions import (
    ALIVE,
    BLOCKED,
    BUSY,
    CANCELLING,
    OPEN,
    OPENING,
    PENDING,
    PROMISED,
    READY,
    RUNNING,
    SENT,
    SERVING,
    SHOWN,
    STOPPING,
    WAITING,
)
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import RESOURCE_UNIT, ClusterStatus, Resources, TaskUpdate, WorkerStatus

__all__ = ["explain", "group_status", "status", "unwatch", "watch"]

#: Number of tasks or objects that a sentence names, at most.
NAMED: int = 3


def explain(ledger: Ledger, pool: WorkerPool, object_id: ObjectId) -> str:
    """Return why the task of an object does not run, or what the task does, in one sentence."""
    obj = ledger.objects.get(object_id)
    task = obj.producer if obj is not None else ledger.tasks.get(object_id)
    if task is not None:
        return _explain_task(ledger, pool, task, {})
    if obj is None:
        return "It is not in this session any more: nobody holds a ref to it."
    if obj.forward is not None:
        target = obj.forward
        name = target.label or f"object {target.id:#x}"
        return f"{obj.label} has returned {name}, whose value is not there yet."
    state, detail = final_state(obj)
    return f"{obj.label or 'The object'} is {state}" + (f": {detail}" if detail else ".")


def watch(ledger: Ledger, pool: WorkerPool, client_id: ClientId, ids: tuple[ObjectId, ...]) -> None:
    """Tell a client the present states of tasks, and their changes from now on."""
    # The reason why tasks of one shape wait is worked out once for all of them.
    reasons: dict[Shape, str] = {}
    for object_id in ids:
        obj = ledger.objects.get(object_id)
        if obj is None:
            update = TaskUpdate(object_id, "failed", detail=explain(ledger, pool, object_id))
        elif obj.value is not None:
            state, detail = final_state(obj)
            update = TaskUpdate(object_id, state, obj.label, obj.seconds, detail)
        else:
            update = _present(ledger, pool, obj, reasons)
            obj.watchers = (obj.watchers or set()) | {client_id}
            if obj.producer is not None:
                obj.producer.watched = True
        ledger.out.append(Send(client_id, update))


def unwatch(ledger: Ledger, client_id: ClientId, ids: tuple[ObjectId, ...]) -> None:
    """Stop telling a client about the tasks of these objects."""
    for object_id in ids:
        obj = ledger.objects.get(object_id)
        if obj is not None and obj.watchers is not None:
            obj.watchers.discard(client_id)


def status(ledger: Ledger) -> ClusterStatus:
    """Return a snapshot of the session. The cost grows with workers, actors and their calls, not with queued tasks."""
    sent = Counter(task.state for worker in ledger.workers.values() for task in worker.tasks)
    ready = sum(shape.ready for shape in ledger.shapes.values())
    waiting = len(ledger.tasks) - ready - sent.total()
    for actor in ledger.actors.values():
        idle = sum(1 for call in actor.calls.values() if call.state == READY)
        ready += idle
        waiting -= idle
    counts = {WAITING: waiting, READY: ready, **sent, **ledger.counts}
    return ClusterStatus(
        total=_amounts(ledger.total),
        available=_amounts(ledger.free),
        workers=tuple(_worker_status(worker) for worker in ledger.workers.values()),
        tasks={state: count for state, count in counts.items() if count},
        actors=dict(Counter(actor.state for actor in ledger.actors.values())),
        objects=len(ledger.objects),
        stored_bytes=ledger.storage.memory_bytes,
        spilled_bytes=ledger.storage.disk_bytes,
        labels=tuple(ledger.labels.items()),
    )


def group_status(ledger: Ledger, group: GroupState) -> GroupRecord:
    """Return the record of a placement group, with the reason why the group waits, if it does."""
    spec = group.spec
    seconds = (group.reserved_at or ledger.now) - group.submitted
    detail = _explain_group(ledger, group) if group.state == PENDING else ""
    return GroupRecord(
        group.id, spec.label, spec.name, spec.strategy, spec.bundles, group.state, seconds, detail
    )


def _present(ledger: Ledger, pool: WorkerPool, obj: Object, reasons: dict[Shape, str]) -> TaskUpdate:
    task = obj.producer
    if task is None:
        return TaskUpdate(obj.id, "waiting", obj.label, obj.seconds, explain(ledger, pool, obj.id))
    detail = _explain_task(ledger, pool, task, reasons) if task.state in (WAITING, READY, SENT) else ""
    return TaskUpdate(obj.id, SHOWN[task.state], obj.label, run_seconds(ledger, task), detail)


def _explain_task(ledger: Ledger, pool: WorkerPool, task: Task, reasons: dict[Shape, str]) -> str:
    label = task.spec.label
    if task.state == WAITING:
        return _explain_waiting(ledger, task)
    if task.state == READY:
        return _explain_ready(ledger, pool, task, reasons)
    worker = task.worker
    assert worker is not None, "a sent task has a worker"
    if task.state == SENT:
        return (
            f"{label} was sent to worker {worker.pid}, behind {worker.tasks[0].spec.label}, which runs there."
        )
    doing = {RUNNING: "runs", BLOCKED: "waits for other tasks", CANCELLING: "is being cancelled"}[task.state]
    if task.state == BLOCKED and is_paused(ledger, task):
        doing = "waits until more of what it yielded is taken"
    return f"{label} {doing} on worker {worker.pid} for {ledger.now - task.started:.1f} s."


def _explain_waiting(ledger: Ledger, task: Task) -> str:
    missing = [dep for dep in dict.fromkeys(task.spec.deps) if ledger.objects[dep].state == PROMISED]
    names = [ledger.objects[dep].label or f"object {dep:#x}" for dep in missing]
    return f"{task.spec.label} waits for the value of {_named(names)}."


def _explain_ready(ledger: Ledger, pool: WorkerPool, task: Task, reasons: dict[Shape, str]) -> str:
    label = task.spec.label
    actor = task.actor
    if actor is not None and task.spec.actor_id:
        if actor.state != ALIVE:
            why = explain(ledger, pool, actor.id) if actor.id in ledger.tasks else ""
            return f"{label} waits for its actor, which is {actor.state}. {why}".rstrip()
        ahead = len(actor.worker.tasks) if actor.worker is not None else 0
        return f"{label} waits for its actor, which has {ahead} calls before it."
    shape = task.shape
    assert shape is not None, "a ready task is a method call or has a shape"
    if shape.missing:
        return f"{label} can never start in this session: it needs {shape.missing}."
    if shape.group is not None and shape.group.state == PENDING:
        return f"{label} waits for its placement group: {_explain_group(ledger, shape.group)}"
    if shape not in reasons:
        reasons[shape] = _explain_shape(ledger, pool, shape)
    return f"{label} {reasons[shape]}"


def _explain_group(ledger: Ledger, group: GroupState) -> str:
    """Return why a placement group is not reserved."""
    shape = group.shape
    if shape.missing:
        return f"{group.label} can never be reserved in this session: it needs {shape.missing}."
    lacking = _explain_lacking(ledger, ledger.stock, shape)
    if not lacking and gpus_of(shape.needs):
        lacking = "GPUs with large enough free parts"
    if not lacking:
        lacking = "a larger request that has waited for longer"
    return f"{group.label} waits for {lacking}."


def _explain_shape(ledger: Ledger, pool: WorkerPool, shape: Shape) -> str:
    """Return why the ready tasks of a shape wait, as a sentence without its subject."""
    environment = shape.environment
    if environment.state != OPEN:
        return _explain_set_up(ledger, environment)
    others = shape.ready - 1
    more = f"; {others} other{'s wait' if others > 1 else ' waits'} for the same" if others else ""
    where = f" in {shape.group.label}" if shape.group is not None else ""
    if len(shape.sources) > 1 and not fits(shape):
        asked = " and ".join(f"{amount_text(amount)} {name}" for name, amount in shape.needs)
        users = _named([user for stock in shape.sources for user in _users(ledger, stock)])
        return f"waits{where} for a bundle with {asked} free; they are used by {users}{more}."
    lacking = _explain_lacking(ledger, shape.sources[0], shape)
    if lacking:
        return f"waits{where} for {lacking}{more}."
    if not fits(shape):
        return f"waits for a GPU with {amount_text(shape.gpu)} free."
    if environment.failures:
        return f"waits for a worker; the last one could not be started: {environment.reason}"
    if pool.room() <= 0 and not environment.idle:
        allowed = pool.max_workers
        return f"waits for a worker: all {allowed} that the session may have are busy, blocked or actors."
    waiting = [*ledger.rota, *(group.shape for group in ledger.waiting_groups.values())]
    if any(other.starved_since is not None for other in waiting if other is not shape):
        return f"waits while a larger request that has waited for over {AGING_SECONDS:g} s is served first."
    return "is next: it waits for a worker to start."


def _explain_set_up(ledger: Ledger, environment: Environment) -> str:
    if environment.definition is None:
        return "waits for an environment that nobody has described yet."
    for_how_long = f" for {ledger.now - environment.since:.1f} s" if environment.state == OPENING else ""
    return f"waits for its environment ({environment.title}) to be set up{for_how_long}."


def _explain_lacking(ledger: Ledger, stock: Stock, shape: Shape) -> str:
    """Return which resources a stock has too little of now, in words; empty when there is enough."""
    needs = ((name, amount) for name, amount in shape.needs if stock.free.get(name, 0) < amount)
    return "; ".join(_explain_lack(ledger, stock, name, amount) for name, amount in needs)


def _explain_lack(ledger: Ledger, stock: Stock, name: str, amount: int) -> str:
    """Return the lack of one resource in words, as in "2 CPUs: 4 of 4 are used by f#1, f#2"."""
    total = stock.total.get(name, 0)
    used = total - max(0, stock.free.get(name, 0))
    plural = "s" if amount != RESOURCE_UNIT and name in ("CPU", "GPU") else ""
    verb = "is" if used == RESOURCE_UNIT else "are"
    by = _named(_users(ledger, stock, name))
    users = f" by {by}" if by else ""
    return f"{amount_text(amount)} {name}{plural}: {amount_text(used)} of {amount_text(total)} {verb} used{users}"


def _users(ledger: Ledger, stock: Stock, name: str = "") -> list[str]:
    """Return labels of the tasks, actors and placement groups that hold a part of a stock.

    `name`: the resource that they hold; empty for any.
    """
    found = []
    for worker in ledger.workers.values():
        if worker.stock is not stock or worker.shape is None:
            continue
        lent = worker.cpus_lent and name == "CPU"
        if not lent and any(name in ("", need) for need, _ in worker.shape.needs):
            label = worker.actor.spec.class_name if worker.actor is not None else ""
            found.append(label or (worker.tasks[0].spec.label if worker.tasks else f"worker {worker.pid}"))
    if stock is ledger.stock:
        groups = ledger.groups.values()
        found += [group.label for group in groups if any(name in bundle.total for bundle in group.stocks)]
    return found


def _named(names: list[str]) -> str:
    """Return the first few names, and the number of the others, in words."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _amounts(amounts: dict[str, int]) -> Resources:
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount > 0))


def _worker_status(worker: Worker) -> WorkerStatus:
    label = worker.tasks[0].spec.label if worker.tasks else ""
    state = "blocked" if worker.blocked else worker.state
    if worker.actor is not None:
        label = label or worker.actor.spec.class_name
        state = SERVING
    queued = sum(1 for task in worker.tasks if task.state == SENT)
    return WorkerStatus(
        worker_id=worker.id,
        pid=worker.pid,
        state=BUSY if state == STOPPING else state,
        label=label,
        queued=queued,
        runs=bool(worker.tasks),
    )
