"""Which ready task goes to which worker.

Once per batch of events, placement groups are reserved as far as possible; then come three steps. Idle workers get
leases: shapes are served in turn, clients in turn inside a shape. Then busy workers get further tasks of their lease's
shape sent ahead, as many as fill `PREFETCH_MICROS` by the average duration of what they run, spread evenly. Then what
was sent ahead and does not start is recalled where somebody else could run it.

Against starving: a lease that others wait for gets no more tasks after `LEASE_SECONDS`; and a shape that has not fitted
for `AGING_SECONDS`, or a placement group that was not reserved for so long, has what it lacks kept for it, unless that
is held by actors, groups or blocked tasks, which may hold it for ever or wait for the very tasks that would be stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from ipyremote.core.actors import Actors
from ipyremote.core.commands import Send
from ipyremote.core.dispatch import send
from ipyremote.core.group_reservation import reserve
from ipyremote.core.queues import head, take_head
from ipyremote.core.resources import fits, give_back, has, take
from ipyremote.core.state import Ledger, Shape, Stock, Task, Worker, move_worker
from ipyremote.core.tasks import is_creation
from ipyremote.core.transitions import BUSY, SENT
from ipyremote.core.worker_pool import WorkerPool
from ipyremote.messages import RESOURCE_UNIT, Recall

__all__ = ["Placement"]

#: What is sent to a worker at a time is meant to keep it busy this long.
PREFETCH_MICROS: Final = 5_000.0
#: Tasks on a worker at a time, however short.
MOST_IN_FLIGHT: Final = 128
LEASE_SECONDS: Final = 0.005
AGING_SECONDS: Final = 1.0
#: A worker that has been silent for so long is asked for half of what was sent ahead if somebody is idle,
RECALL_SECONDS: Final = 0.002
#: then for all of it,
RECALL_ALL_SECONDS: Final = 0.005
#: and for all of it even if nobody is: new tasks must not overtake these for long.
RECALL_ANYWAY_SECONDS: Final = 0.05

#: Which shape is next to get a resource of a stock that it has lacked for too long.
_Reserved: TypeAlias = dict[tuple[Stock, str], Shape]


class Placement:
    """Places tasks. The queues and leases are in the ledger."""

    def __init__(self, ledger: Ledger, pool: WorkerPool, actors: Actors) -> None:
        self._ledger = ledger
        self._pool = pool
        self._actors = actors
        #: Tasks that need nothing at all and run at a time.
        self._free_limit = max(4, 2 * (ledger.total.get("CPU", 0) // RESOURCE_UNIT))
        #: When the next recall is due.
        self.deadline: float | None = None
        #: Leases given so far.
        self._turns = 0
        #: The task that is being placed, for whoever catches an error.
        self.placing: Task | None = None

    def place(self) -> None:
        """Do all that can be done now."""
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
        """Give idle workers their first task."""
        ledger = self._ledger
        rota = ledger.rota
        progress = True
        while progress and (ledger.home.idle or ledger.environments):
            progress = False
            # Who was served longest ago comes first, after those that resources are reserved for.
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
                take(ledger, worker, shape, stock)
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
        """How many further workers could be put to work at once, in each environment."""
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
                worker = Worker(0, ledger.now, environment)
                take(ledger, worker, shape, stock)
                lent.append(worker)
                environment.wanted += 1
                left -= 1
        for worker in lent:
            give_back(worker)

    def _source(self, shape: Shape, reserved: _Reserved, lent: list[Worker] | None = None) -> Stock | None:
        """What a lease of this shape can be drawn from now; None: nothing."""
        if not shape.needs:
            return shape.sources[0] if shape.sources and self._is_allowed(shape, lent) else None
        for stock in shape.sources:
            if has(stock, shape) and (not reserved or _is_open(stock, shape, reserved)):
                return stock
        return None

    def _is_allowed(self, shape: Shape, lent: list[Worker] | None) -> bool:
        """Whether one more lease is not too many of a shape that needs nothing."""
        if shape.creates:
            return True
        leased = self._ledger.leased.values()
        count = sum(1 for worker in leased if worker.shape is shape and not worker.blocked)
        return count + sum(1 for worker in lent or () if worker.shape is shape) < self._free_limit

    def _reserved(self) -> _Reserved:
        """Which shape is next to get a resource that it has lacked for too long."""
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
        """What of a stock is free or can become so by itself: not what actors, blocked tasks and groups have."""
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
        """Reserve what placement groups wait for, as far as it is there and is no other's turn."""
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
        """Microseconds that a task counts for; an unknown function fills a worker."""
        function = task.function
        return PREFETCH_MICROS if function is None or function.micros < 0.0 else function.micros

    def _prefetch(self) -> None:
        """Send tasks ahead to workers whose lease is of their shape."""
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
            # Workers that are starting will want their part.
            target = -(-(shape.ready + in_flight) // (len(workers) + shape.environment.wanted))
            for worker in workers:
                if active == 1 or ledger.now - worker.leased_at <= LEASE_SECONDS:
                    self._fill(worker, shape, min(target, MOST_IN_FLIGHT))

    def _fill(self, worker: Worker, shape: Shape, target: int) -> None:
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
        """Ask silent workers for what they have not started, and note when to look again."""
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
    """Whether nothing of what a shape needs is kept in a stock for another."""
    return all(reserved.get((stock, name), shape) is shape for name, _ in shape.needs)
