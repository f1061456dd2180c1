"""The invariants of the ledger, checked one by one. Tests call `audit` after every event; no other code does."""

from __future__ import annotations

from collections import Counter

from ipyremote.core.resources import key_of
from ipyremote.core.state import DETACHED, FIRST_ID, SAVED, SESSION, Ledger, Object, Stock, Task, Worker
from ipyremote.core.streams import is_stream
from ipyremote.core.tasks import is_creation
from ipyremote.core.transitions import (
    ALIVE,
    BLOCKED,
    BUSY,
    CANCELLING,
    DEAD,
    ENDED,
    FAILED,
    IDLE,
    OPEN,
    PENDING,
    PROMISED,
    READY,
    RESERVED,
    RUNNING,
    SEALED,
    SENT,
    SERVING,
    STARTING,
    STOPPING,
    WAITING,
    CoreError,
)
from ipyremote.ids import NOBODY, ClientId, ObjectId, TaskId
from ipyremote.messages import Failure, Stored

__all__ = ["audit"]


def audit(ledger: Ledger) -> None:
    """Raise CoreError at the first invariant that does not hold."""
    _check_settled(ledger)
    for obj in ledger.objects.values():
        _check_object(ledger, obj)
    for task in ledger.tasks.values():
        _check_task(ledger, task)
    for worker in ledger.workers.values():
        _check_worker(ledger, worker)
    _check_queues(ledger)
    _check_resources(ledger)
    _check_groups(ledger)
    _check_environments(ledger)
    _check_actors(ledger)
    _check_clients(ledger)
    _check_streams(ledger)


def _check(holds: bool, text: str, task_id: TaskId = NOBODY) -> None:
    if not holds:
        raise CoreError(text, task_id)


def _holders(obj: Object) -> set[int]:
    have = obj.holders
    return have if isinstance(have, set) else {have} if have else set()


def _check_settled(ledger: Ledger) -> None:
    _check(not ledger.woken and not ledger.touched, "woken tasks or touched actors were not dealt with")
    _check(not ledger.orphans, "actors that nobody holds were not dealt with")
    _check(not ledger.lost_segments, "dropped segments were not sent")
    _check_stored(ledger)
    _check(all(id in ledger.objects for id in ledger.storage.freeing), "a dropped object is to be freed")


def _check_stored(ledger: Ledger) -> None:
    own = [obj for obj in ledger.objects.values() if obj.creator and isinstance(obj.value, Stored)]
    size = {obj.id: obj.value.size for obj in own if isinstance(obj.value, Stored)}
    moving = {move.obj.id for move in ledger.storage.moves.values() if move.obj is not None}
    in_tables = ledger.storage.in_memory.keys() | moving
    _check(in_tables <= size.keys(), "an object without a segment counts as stored")
    _check(not moving & ledger.storage.in_memory.keys(), "an object that is being moved may be chosen again")
    memory = ledger.storage.memory_bytes
    disk = ledger.storage.disk_bytes
    in_memory = sum(size[id] for id in in_tables)
    on_disk = sum(size.values()) - in_memory
    _check(in_memory == memory, f"{memory} bytes are counted as in memory, {in_memory} are there")
    _check(on_disk == disk, f"{disk} bytes are counted as on disk, {on_disk} are there")
    clients = {move.client for move in ledger.storage.moves.values()}
    _check(clients <= ledger.clients.keys(), "a client that is gone moves objects")


def _check_object(ledger: Ledger, obj: Object) -> None:
    name = f"object {obj.label or hex(obj.id)}"
    _check(ledger.objects[obj.id] is obj, f"{name} is filed under another id", obj.id)
    state = PROMISED if obj.value is None else FAILED if isinstance(obj.value, Failure) else SEALED
    _check(obj.state == state, f"{name} is {obj.state} but should be {state}", obj.id)
    holders = _holders(obj)
    _check(0 not in holders, f"{name} has 0, which is no holder, among its holders", obj.id)
    _check(bool(holders) or obj.id in ledger.actors, f"{name} has no holder", obj.id)
    for holder in holders:
        if holder in (SESSION, SAVED, DETACHED):
            continue
        if holder < 0:
            _check(
                -holder in ledger.tasks or -holder in ledger.actors,
                f"{name} is held by an ended task",
                obj.id,
            )
        elif holder < FIRST_ID:
            _check(holder in ledger.clients, f"{name} is held by client {holder}, which is gone", obj.id)
            held = ledger.clients[ClientId(holder)].held
            _check(held is None or obj.id in held, f"{name} is not in its client's index", obj.id)
        else:
            outer = ledger.objects.get(ObjectId(holder))
            _check(
                outer is not None and obj.id in outer.refs,
                f"{name} is held by an object that is dropped, or does not refer to it",
                obj.id,
            )
    for ref in obj.refs:
        inner = ledger.objects.get(ref)
        holds = inner is not None and obj.id in _holders(inner)
        _check(holds, f"{name} does not hold an object that it refers to", obj.id)
    if obj.value is not None:
        unsettled = obj.producer, obj.forward, obj.waiters, obj.wanted, obj.watchers
        _check(unsettled == (None,) * 5, f"{name} has a value, and a producer or somebody who waits", obj.id)
    else:
        producer = obj.producer
        pending = producer is not None and ledger.tasks.get(producer.spec.task_id) is producer
        _check(pending or obj.forward is not None, f"{name} will never have a value", obj.id)


def _check_task(ledger: Ledger, task: Task) -> None:
    label = task.spec.label
    task_id = task.spec.task_id
    _check(ledger.tasks[task_id] is task and task.state not in ENDED, f"{label} has ended", task_id)
    placed = task.state in (SENT, RUNNING, BLOCKED, CANCELLING)
    _check(
        placed == (task.worker is not None),
        f"{label} is {task.state}, {'with' if task.worker is not None else 'without'} a worker",
        task_id,
    )
    if task.worker is not None:
        _check(task in task.worker.tasks, f"{label} is not on its worker", task_id)
    promised = [
        dep for dep in task.spec.deps if dep in ledger.objects and ledger.objects[dep].state == PROMISED
    ]
    _check((task.state == WAITING) == bool(promised), f"{label} is {task.state} with {promised=}", task_id)
    _check(
        task.missing == len(promised),
        f"{label} counts {task.missing} missing values, not {promised}",
        task_id,
    )
    for ref in (*task.spec.deps, *task.spec.refs):
        obj = ledger.objects.get(ref)
        _check(obj is None or -task_id in _holders(obj), f"{label} does not hold {ref:#x}", task_id)
    if task.parent is not None:
        _check(task in (task.parent.children or ()), f"{label} is unknown to its parent", task_id)
        _check(task.parent.spec.task_id in ledger.tasks, f"the parent of {label} has ended", task_id)
    for child in task.children or ():
        _check(child.parent is task, f"a child of {label} has another parent", task_id)


def _check_worker(ledger: Ledger, worker: Worker) -> None:
    name = f"worker {worker.id}"
    states = [task.state for task in worker.tasks]
    _check(all(task.worker is worker for task in worker.tasks), f"{name} has tasks of another")
    _check((worker.shape is None) == (worker.stock is None), f"{name} has a lease of nothing")
    _check(worker.blocked <= set(worker.tasks), f"{name} is blocked by tasks that are not on it")
    # A worker that was told to stop may never report that its tasks go on, and needs its CPUs no more.
    lent_rightly = worker.cpus_lent == bool(worker.blocked) or worker.state == STOPPING
    _check(lent_rightly, f"{name} has {len(worker.blocked)} blocked tasks and {worker.cpus_lent=}")
    is_idle = worker.id in worker.environment.idle
    _check((worker.state == IDLE) == is_idle, f"{name} is {worker.state} with {is_idle=}")
    in_its_own = worker.shape is None or worker.shape.environment is worker.environment
    _check(in_its_own, f"{name} has tasks of another environment")
    is_leased = worker.id in ledger.leased
    _check((worker.state == BUSY) == is_leased, f"{name} is {worker.state} with {is_leased=}")
    if worker.state in (STARTING, IDLE):
        _check(not states and worker.shape is None, f"{name} is {worker.state} and has work")
    if worker.state in (BUSY, SERVING):
        running = 1 if worker.actor is None else worker.actor.max_running
        _check(SENT not in states[:running], f"{name} could run a task that is SENT: {states}")
        _check(worker.shape is not None, f"{name} has no lease")
    if worker.state == BUSY:
        _check(bool(states), f"{name} is busy with nothing")
        _check(all(state in (SENT, CANCELLING) for state in states[1:]), f"{name} runs two tasks: {states}")
        _check(all(task.shape is worker.shape for task in worker.tasks), f"{name} has tasks of another shape")
    runs = [task.run for task in worker.tasks]
    _check(runs == sorted(set(runs)), f"{name} has runs out of order: {runs}")


def _check_queues(ledger: Ledger) -> None:
    queued: Counter[int] = Counter()
    for shape in ledger.shapes.values():
        ready = [task for lane in shape.lanes.values() for task in lane if task.state == READY]
        queued.update(task.spec.task_id for task in ready)
        _check(len(ready) == shape.ready, f"a shape counts {shape.ready} ready tasks and has {len(ready)}")
        _check(set(shape.client_ring) == set(shape.lanes), "a client is not served")
        _check(len(set(shape.client_ring)) == len(shape.client_ring), "a client is served twice")
        in_rota = shape in ledger.rota
        _check(shape.listed == in_rota, f"a shape has {shape.listed=} and {in_rota=}")
        is_open = shape.environment.state == OPEN
        _check(is_open or not shape.listed, "tasks of an environment that is not open are served")
        _check(
            shape.listed or not ready or bool(shape.missing) or not shape.sources or not is_open,
            "ready tasks are not served",
        )
    for task in ledger.tasks.values():
        if task.shape is not None and task.state == READY:
            _check(queued[task.spec.task_id] == 1, f"{task.spec.label} is queued wrongly", task.spec.task_id)


def _check_resources(ledger: Ledger) -> None:
    bundles = [bundle for group in ledger.groups.values() for bundle in group.stocks]
    _check_stock(ledger, ledger.stock, bundles)
    for bundle in bundles:
        _check_stock(ledger, bundle, [])
    stocks = [ledger.stock, *bundles]
    for worker in ledger.workers.values():
        known = worker.stock is None or worker.stock in stocks
        _check(known, f"worker {worker.id} draws from a stock that is gone")


def _check_stock(ledger: Ledger, stock: Stock, parts: list[Stock]) -> None:
    """Check that the free amounts, the leases of workers and the bundles add up to the whole stock."""
    used: Counter[str] = Counter()
    gpus = Counter(stock.gpu_free)
    for worker in ledger.workers.values():
        if worker.shape is None or worker.stock is not stock:
            continue
        for name, amount in worker.shape.needs:
            if name != "CPU" or not worker.cpus_lent:
                used[name] += amount
        for index in worker.gpus:
            gpus[index] += min(worker.shape.gpu, 10_000)
    for part in parts:
        used.update(part.total)
        gpus.update(part.gpus)
    for name, total in stock.total.items():
        _check(stock.free[name] + used[name] == total, f"{name}: {stock.free[name]} free, {used[name]} used")
        _check(name == "CPU" or stock.free[name] >= 0, f"more {name} was given than there is")
    fits = gpus == stock.gpus and min(stock.gpu_free.values(), default=0) >= 0
    _check(fits, f"free and used parts of the GPUs are {dict(gpus)}, not {stock.gpus}")


def _check_groups(ledger: Ledger) -> None:
    _check(ledger.waiting_groups.keys() <= ledger.groups.keys(), "a group that is gone waits")
    for group in ledger.groups.values():
        bundles = len(group.stocks)
        missing = group.shape.missing
        _check(group.state in (PENDING, RESERVED), f"{group.label} is {group.state} and in the ledger")
        _check((group.state == RESERVED) == bool(bundles), f"{group.label} is {group.state} with {bundles=}")
        _check(not missing or group.state == PENDING, f"{group.label} is {group.state} with {missing=}")
        waits = group.state == PENDING and not missing
        is_filed = group.id in ledger.waiting_groups
        _check(
            waits == is_filed, f"{group.label} waits: {waits}, and is among the waiting groups: {is_filed}"
        )
        for shape in group.shapes:
            filed = ledger.shapes.get(key_of(shape))
            _check(shape.group is group and filed is shape, f"a shape of {group.label} is filed elsewhere")
            _check(
                set(shape.sources) <= set(group.stocks), f"a shape of {group.label} has a stock of another"
            )
            has_stock = bool(shape.sources)
            _check(has_stock == bool(bundles), f"a shape of {group.label} has {has_stock=} with {bundles=}")
    for task in ledger.tasks.values():
        group_of = task.shape.group if task.shape is not None else None
        gone = group_of is not None and ledger.groups.get(group_of.id) is not group_of
        _check(not gone, f"the placement group of {task.spec.label} was removed", task.spec.task_id)


def _check_environments(ledger: Ledger) -> None:
    filed = list(ledger.shapes.values())
    for environment in (ledger.home, *ledger.environments.values()):
        states = [worker.state for worker in ledger.workers.values() if worker.environment is environment]
        pool = sum(state in (STARTING, IDLE, BUSY) for state in states)
        counted = environment.members, environment.starting, environment.pool_size
        actual = len(states), states.count(STARTING), pool
        _check(counted == actual, f"(members, starting, pool) are counted as {counted} and are {actual}")
        alive = environment.state == OPEN or not states
        _check(alive, f"the environment {environment.title} is {environment.state} and has workers")
        own = [shape for shape in filed if shape.environment is environment]
        _check(
            environment.shapes == own, f"the environment {environment.title} lacks a shape or has another's"
        )
    _check(ledger.home.state == OPEN, "the environment of the session's own processes is not open")


def _check_actors(ledger: Ledger) -> None:
    for actor in ledger.actors.values():
        name = f"actor {actor.spec.class_name}"
        obj = ledger.objects.get(actor.id)
        _check(obj is not None, f"{name} has no object", actor.id)
        _check(
            (actor.state == DEAD) == (actor.cause is not None),
            f"{name} is {actor.state} {'with' if actor.cause is not None else 'without'} a cause of death",
            actor.id,
        )
        if actor.state == DEAD:
            _check(not actor.calls and not actor.outbox, f"{name} is dead and has calls", actor.id)
        if actor.state == ALIVE:
            _check(actor.worker is not None, f"{name} is alive without a worker", actor.id)
        waiting = [task for lane in actor.lanes.values() for task in lane if task.state == READY]
        waiting += [task for task in actor.outbox if task.state == READY]
        ready = [task for task in actor.calls.values() if task.state == READY]
        _check(Counter(waiting) == Counter(ready), f"{name} has calls that will never be sent", actor.id)
    for task in ledger.tasks.values():
        actor_of = task.actor
        if actor_of is not None and not is_creation(task):
            _check(
                actor_of.calls.get(task.spec.task_id) is task, f"{task.spec.label} is unknown to its actor"
            )
        elif actor_of is not None:
            _check(actor_of.creation is task, f"{task.spec.label} is not the creation that its actor knows")


def _check_streams(ledger: Ledger) -> None:
    _check(not ledger.streams.released, "a released generator was not dealt with")
    for task_id, stream in ledger.streams.known.items():
        task = ledger.tasks.get(task_id)
        _check(task is not None and is_stream(task), f"{task_id:#x} has ended, or is no stream", task_id)
        _check(
            0 <= stream.consumed <= stream.count, f"more of {task_id:#x} was consumed than there is", task_id
        )


def _check_clients(ledger: Ledger) -> None:
    for client in ledger.clients.values():
        for object_id in client.held or ():
            obj = ledger.objects.get(object_id)
            _check(
                obj is not None and client.id in _holders(obj),
                f"client {client.id} is no holder of {object_id:#x}, which is in its index",
            )
