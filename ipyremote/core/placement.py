"""The choice of a worker for each ready task.

Once per batch of events, placement groups are reserved as far as possible; then come three steps. Idle workers get
leases: shapes are served in turn, clients in turn inside a shape. Then busy workers are sent further tasks of their
lease's shape ahead: as many as fill `PREFETCH_MICROS` by their functions' average durations, spread evenly over the
workers. Then tasks that were sent ahead and do not start are recalled if another worker could run them.

Against starvation: a lease gets no more tasks after `LEASE_SECONDS` if other shapes wait. A shape that has not fitted
for `AGING_SECONDS`, or a placement group that was not reserved for as long, gets the resources that it lacks kept for
it; not resources of actors, groups and blocked tasks, which may hold them for ever or wait for a task that would be
kept from starting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from ipyremote.core.actors import Actors
from ipyremote.core.commands import Send
from ipyremote.core.dispatch import send
from ipyremote.core.group_reservation import reserve
from ipyremote.core.queues import head, take_head
from ipyremote.core.resources import begin_lease, end_lease, fits, has
from ipyremote.core.state import Ledger, Shape, Stock, Task, Worker, move_worker
from ipyremote.core.tasks import is_creation
from ipyremote.core.transitions import BUSY, SENT
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.ids import NO_CLIENT
from ipyremote.messages import RESOURCE_UNIT, Recall

__all__ = ["Placement"]

#: Expected duration of all tasks on a worker, in microseconds, up to which tasks are sent ahead.
PREFETCH_MICROS: Final = 5_000.0
#: Largest number of tasks on a worker at a time, however short the tasks are.
MOST_IN_FLIGHT: Final = 128
#: Age of a lease, in seconds, after which it gets no more tasks while other shapes wait.
LEASE_SECONDS: Final = 0.005
#: Time in seconds for which a shape must not have fitted before free resources are kept for it.
AGING_SECONDS: Final = 1.0
#: Time since a worker's latest report, in seconds, after which half of its tasks sent ahead are recalled, if another
#: worker could run them at once.
RECALL_SECONDS: Final = 0.002
#: Time since a worker's latest report, in seconds, after which all of its tasks sent ahead are recalled, if another
#: worker could run them at once.
RECALL_ALL_SECONDS: Final = 0.005
#: Time since a worker's latest report, in seconds, after which all of its tasks sent ahead are recalled even if no
#: other worker could run them: newer tasks must not overtake the tasks sent ahead for long.
RECALL_ANYWAY_SECONDS: Final = 0.05

#: The shape that gets a resource of a stock next, after lacking it for too long; by stock and resource.
_Reserved: TypeAlias = dict[tuple[Stock, str], Shape]


class Placement:
    """The placement of ready tasks on workers. The queues and leases are in the ledger."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors
        #: Largest number of tasks at a time of a shape that needs no resources.
        self._free_limit = max(4, 2 * (ledger.total.get("CPU", 0) // RESOURCE_UNIT))
        #: Time of the next recall; None while none is due.
        self.deadline: float | None = None
        #: Number of leases given so far.
        self._turns = 0
        #: The task that is being placed; whoever catches an error fails this task.
        self.placing: Task | None = None

    def place(self) -> None:
        """Reserve placement groups, place tasks, start and stop workers, and recall tasks, as far as possible now."""
        self.placing = None
        ledger = self._ledger
        rota = ledger.rota
        home, environments = ledger.home, ledger.environments
        home.wanted = 0
        for environment in environments.values():
            environment.wanted = 0
        for _ in range(len(rota)):
            shape = rota.popleft()
            if shape.ready:
                rota.append(shape)
            else:
                shape.listed = False
                shape.starved_since = None
        if ledger.waiting_groups:
            self._reserve_groups()
        if rota:
            reserved = self._reserved()
            if home.idle or environments:
                self._lease(reserved)
            if not home.idle or environments:
                self._count_wanted(reserved)
            if ledger.leased:
                self._prefetch()
        self.placing = None
        self._pool.settle()
        self.deadline = None
        if ledger.leased:
            self._recall()

    # -------------------------------------------------------------------------------------------------------- leases

    def _lease(self, reserved: _Reserved) -> None:
        """Give idle workers leases, each with a first task."""
        ledger = self._ledger
        rota = ledger.rota
        progress = True
        while progress and (ledger.home.idle or ledger.environments):
            progress = False
            # The shape that was served longest ago comes first, but after the shapes that resources are reserved for.
            order = sorted(rota, key=lambda shape: shape.served) if len(rota) > 1 else list(rota)
            if reserved:
                order.sort(key=lambda shape: shape not in reserved.values())
            for shape in order:
                idle = shape.environment.idle
                if not idle or not shape.ready:
                    continue
                stock = self._source(shape, reserved)
                if stock is None:
                    if shape.starved_since is None:
                        shape.starved_since = ledger.now
                    continue
                shape.starved_since = None
                task = head(shape)
                assert task is not None, "the shape has ready tasks"
                self.placing = task
                take_head(shape)
                worker = idle.popitem()[1]
                begin_lease(ledger, worker, shape, stock)
                if is_creation(task):
                    self._actors.adopt(worker, task)
                else:
                    move_worker(worker, BUSY)
                    ledger.leased[worker.id] = worker
                    task.estimate = worker.load = self._estimate(task)
                send(ledger, worker, task)
                progress = True
                self._turns += 1
                shape.served = self._turns

    def _count_wanted(self, reserved: _Reserved) -> None:
        """Set `wanted` of each environment, by giving trial leases to workers that do not exist."""
        ledger = self._ledger
        room = self._pool.room() + self._pool.starting()
        lent: list[Worker] = []
        for shape in ledger.rota:
            environment = shape.environment
            left = 0 if environment.idle else shape.ready
            while left and len(lent) < room:
                stock = self._source(shape, reserved, lent)
                if stock is None:
                    break
                worker = Worker(NO_CLIENT, ledger.now, environment)
                begin_lease(ledger, worker, shape, stock)
                lent.append(worker)
                environment.wanted += 1
                left -= 1
        for worker in lent:
            end_lease(worker)

    def _source(self, shape: Shape, reserved: _Reserved, lent: list[Worker] | None = None) -> Stock | None:
        """Return the stock from which a lease of this shape can be drawn now, if any.

        `lent`: workers with trial leases, which count as leased.
        """
        if not shape.needs:
            return shape.sources[0] if shape.sources and self._is_allowed(shape, lent) else None
        for stock in shape.sources:
            if has(stock, shape) and (not reserved or _is_open(stock, shape, reserved)):
                return stock
        return None

    def _is_allowed(self, shape: Shape, lent: list[Worker] | None) -> bool:
        """Return whether a shape that needs no resources may get one more lease."""
        if shape.creates:
            return True
        leased = self._ledger.leased.values()
        count = sum(1 for worker in leased if worker.shape is shape and not worker.blocked)
        return count + sum(1 for worker in lent or () if worker.shape is shape) < self._free_limit

    def _reserved(self) -> _Reserved:
        """Return the resources that are kept for starving shapes, the longest starved first to choose."""
        ledger = self._ledger
        shapes: Iterable[Shape] = ledger.rota
        if ledger.waiting_groups:
            shapes = [*shapes, *(group.shape for group in ledger.waiting_groups.values())]
        starving = [
            shape
            for shape in shapes
            if shape.starved_since is not None and ledger.now - shape.starved_since >= AGING_SECONDS
        ]
        reserved: _Reserved = {}
        reachables: dict[Stock, dict[str, int]] = {}
        for shape in sorted(starving, key=lambda shape: shape.starved_since or 0.0):
            for stock in shape.sources:
                reachable = reachables.get(stock)
                if reachable is None:
                    reachable = reachables[stock] = self._reachable(stock)
                if all(amount <= reachable.get(name, 0) for name, amount in shape.needs):
                    for name, amount in shape.needs:
                        if stock.free[name] < amount:
                            reserved.setdefault((stock, name), shape)
                    break
        return reserved

    def _reachable(self, stock: Stock) -> dict[str, int]:
        """Return the amounts of a stock that are free or become free by themselves.

        Amounts of actors, blocked tasks and placement groups are left out.
        """
        ledger = self._ledger
        reachable = dict(stock.total)
        for worker in ledger.workers.values():
            if worker.stock is not stock or worker.shape is None:
                continue
            if worker.actor is not None or worker.blocked:
                for name, amount in worker.shape.needs:
                    if name != "CPU" or not worker.cpus_lent:
                        reachable[name] -= amount
        if stock is ledger.stock:
            for group in ledger.groups.values():
                for bundle in group.stocks:
                    for name, amount in bundle.total.items():
                        reachable[name] -= amount
        return reachable

    # --------------------------------------------------------------------------------------------------------- groups

    def _reserve_groups(self) -> None:
        """Reserve waiting placement groups, as far as resources are free and are not kept for a starving shape."""
        ledger = self._ledger
        stock = ledger.stock
        reserved: _Reserved | None = None
        for group in list(ledger.waiting_groups.values()):
            shape = group.shape
            if has(stock, shape):
                reserved = self._reserved() if reserved is None else reserved
                if _is_open(stock, shape, reserved) and reserve(ledger, group):
                    continue
            if shape.starved_since is None:
                shape.starved_since = ledger.now

    # ------------------------------------------------------------------------------------------------------- prefetch

    def _estimate(self, task: Task) -> float:
        """Return the expected duration of a task in microseconds; a function that never ran counts as a full load."""
        function = task.function
        return PREFETCH_MICROS if function is None or function.micros < 0.0 else function.micros

    def _prefetch(self) -> None:
        """Send ready tasks ahead to busy workers with a lease of the tasks' shape."""
        ledger = self._ledger
        active = len(ledger.rota) + len(ledger.waiting_groups)
        open_leases: dict[Shape, list[Worker]] = {}
        for worker in ledger.leased.values():
            shape = worker.shape
            if shape is None or not shape.ready or shape.exclusive or worker.blocked or worker.recall:
                continue
            open_leases.setdefault(shape, []).append(worker)
        for shape, workers in open_leases.items():
            in_flight = sum(len(worker.tasks) for worker in workers)
            # Workers that are starting will want their share.
            target = -(-(shape.ready + in_flight) // (len(workers) + shape.environment.wanted))
            for worker in workers:
                if active == 1 or ledger.now - worker.leased_at <= LEASE_SECONDS:
                    self._fill(worker, shape, min(target, MOST_IN_FLIGHT))

    def _fill(self, worker: Worker, shape: Shape, target: int) -> None:
        """Send tasks ahead to one worker until its load is full or it has `target` tasks."""
        ledger = self._ledger
        tasks = worker.tasks
        while worker.load < PREFETCH_MICROS and len(tasks) < target:
            task = head(shape)
            if task is None:
                return
            estimate = self._estimate(task)
            if worker.load + estimate > PREFETCH_MICROS:
                return
            self.placing = task
            take_head(shape)
            task.estimate = estimate
            worker.load += estimate
            shape.starved_since = None
            send(ledger, worker, task)

    # --------------------------------------------------------------------------------------------------------- recall

    def _recall(self) -> None:
        """Recall tasks from workers that have not reported for long, and note when to look again in `deadline`."""
        ledger = self._ledger
        now = ledger.now
        due_next: float | None = None
        ready = any(shape.ready for shape in ledger.rota)
        has_room = self._pool.room() > 0
        for worker in ledger.leased.values():
            if len(worker.tasks) < 2 or worker.recall == 2:
                continue
            shape = worker.shape
            assert shape is not None, "a leased worker has a shape"
            due = worker.reported + RECALL_ANYWAY_SECONDS
            share = 2
            environment = worker.environment
            hands = environment.idle or (has_room and not environment.starting)
            if hands and not ready and fits(shape):
                share = worker.recall + 1
                due = worker.reported + (RECALL_SECONDS if share == 1 else RECALL_ALL_SECONDS)
            if now < due:
                due_next = due if due_next is None else min(due_next, due)
                continue
            ahead = [task.spec.task_id for task in worker.tasks if task.state == SENT]
            worker.recall = share
            if share == 1:
                ahead = ahead[len(ahead) // 2 :]
                later = worker.reported + RECALL_ALL_SECONDS
                due_next = later if due_next is None else min(due_next, later)
            if ahead:
                ledger.out.append(Send(worker.id, Recall(tuple(ahead))))
        self.deadline = due_next


def _is_open(stock: Stock, shape: Shape, reserved: _Reserved) -> bool:
    """Return whether no resource that a shape needs is kept in a stock for another shape."""
    return all(reserved.get((stock, name), shape) is shape for name, _ in shape.needs)
