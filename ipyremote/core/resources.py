"""The accounts of resources: free amounts, leases of workers, and the owners of GPUs.

Amounts are logical, in ten-thousandths; nothing here measures a machine. A worker holds a lease: the resources of one
shape, drawn from one stock (the session's, or that of a placement group's bundle) when the worker gets its first task
and given back after its last. While its task is blocked, the CPUs of the lease are lent to other leases from the same
stock. GPUs are devices with an index: a request for one or more takes whole devices that nobody else has; requests for
a fraction share a device.
"""

from __future__ import annotations

from ipyremote.backend.placement import Place, described, labels_text, match_some
from ipyremote.core.state import Environment, GroupState, Ledger, Shape, ShapeKey, Stock, Worker
from ipyremote.messages import RESOURCE_UNIT, Resources

__all__ = [
    "amount_text",
    "begin_lease",
    "count_gpus",
    "end_lease",
    "environment_of",
    "fits",
    "gpus_of",
    "has",
    "intern_shape",
    "key_of",
    "lacking_of",
    "larger",
    "lend_cpus",
    "pick_gpus",
    "shrink_lease",
    "sources_of",
    "unlend_cpus",
]


def environment_of(ledger: Ledger, key: str) -> Environment:
    """Return the record of an environment, a new one at the first call for its key."""
    if not key:
        return ledger.home
    environment = ledger.environments.get(key)
    if environment is None:
        environment = ledger.environments[key] = Environment(key, ledger.now)
    return environment


def intern_shape(
    ledger: Ledger,
    needs: Resources,
    *,
    exclusive: bool = False,
    creates: bool = False,
    place: Place | None = None,
    environment: str = "",
) -> Shape:
    """Return the only `Shape` for these needs in this place, a new one at the first call.

    The caller has checked the place with `group_reservation.refusal`. Shapes of actor creations and shapes with GPUs
    are `exclusive` in any case.
    """
    needs = tuple((name, amount) for name, amount in needs if amount > 0)
    key = (needs, exclusive or creates or gpus_of(needs) > 0, creates, _narrowed(ledger, place), environment)
    shape = ledger.shapes.get(key)
    if shape is None:
        shape = ledger.shapes[key] = _make_shape(ledger, key)
        shape.environment.shapes.append(shape)
    return shape


def key_of(shape: Shape) -> ShapeKey:
    """Return the key of a shape in `Ledger.shapes`."""
    return shape.needs, shape.exclusive, shape.creates, shape.place, shape.environment.key


def _narrowed(ledger: Ledger, place: Place | None) -> Place | None:
    """Return a place without its node and without labels that this machine meets; None if nothing is left."""
    if place is None:
        return None
    labels = () if match_some(place.labels, ledger.labels) else place.labels
    place = place._replace(captures=None, labels=labels, node="")
    return None if place.is_anywhere else place


def _make_shape(ledger: Ledger, key: ShapeKey) -> Shape:
    """Make the shape of a key, and add the shape to its placement group, if any."""
    needs, exclusive, creates, place, environment = key
    group: GroupState | None
    missing = []
    if place is not None and place.labels:
        missing.append(
            f"a machine with {described(place.labels)} (this one has {labels_text(ledger.labels)})"
        )
    if place is not None and place.group_id:
        group = ledger.groups[place.group_id]
        sources = sources_of(group.stocks, place)
    else:
        group = None
        sources = (ledger.stock,)
        missing += lacking_of(ledger, needs)
    shape = Shape(
        environment=environment_of(ledger, environment),
        needs=needs,
        exclusive=exclusive,
        gpu=gpus_of(needs),
        missing=", ".join(missing),
        sources=sources,
        place=place,
        group=group,
        creates=creates,
    )
    if group is not None:
        group.shapes.append(shape)
    return shape


def lacking_of(ledger: Ledger, needs: Resources) -> list[str]:
    """Return, in words, the resources of which even the whole idle session has too little for these needs."""
    return [
        f"{amount_text(amount)} {name} (the session has {amount_text(ledger.total.get(name, 0))})"
        for name, amount in needs
        if amount > ledger.total.get(name, 0)
    ]


def sources_of(stocks: tuple[Stock, ...], place: Place) -> tuple[Stock, ...]:
    """Return the stocks of the bundles from which a task or actor in this place may draw.

    `stocks`: those of all bundles of the group; none while the group is not reserved.
    """
    return stocks if place.bundle < 0 else stocks[place.bundle : place.bundle + 1]


def gpus_of(needs: Resources) -> int:
    """Return the amount of GPUs among these needs, in ten-thousandths."""
    return next((amount for name, amount in needs if name == "GPU"), 0)


def larger(one: Resources, other: Resources) -> Resources:
    """Return the needs that meet both of these: of each resource the larger amount."""
    amounts = dict(one)
    for name, amount in other:
        amounts[name] = max(amount, amounts.get(name, 0))
    return tuple(sorted(amounts.items()))


def amount_text(amount: int) -> str:
    """Return an amount for people, in whole units: 1, 0.5."""
    return f"{amount / RESOURCE_UNIT:g}"


def has(stock: Stock, shape: Shape) -> bool:
    """Return whether the free amounts of a stock meet a shape's needs."""
    free = stock.free
    for name, amount in shape.needs:
        if free.get(name, 0) < amount:
            return False
    return not shape.gpu or pick_gpus(stock, shape.gpu) is not None


def fits(shape: Shape) -> bool:
    """Return whether any stock that the shape may draw from meets the shape's needs now."""
    return any(has(stock, shape) for stock in shape.sources)


def begin_lease(ledger: Ledger, worker: Worker, shape: Shape, stock: Stock) -> None:
    """Begin a worker's lease. The caller has checked that the stock meets the shape's needs."""
    worker.shape = shape
    worker.stock = stock
    worker.leased_at = worker.reported = ledger.now
    free = stock.free
    for name, amount in shape.needs:
        free[name] -= amount
    if shape.gpu:
        gpus = pick_gpus(stock, shape.gpu)
        assert gpus is not None, "the lease was checked to fit"
        worker.gpus = gpus
        count_gpus(stock, gpus, shape.gpu, -1)


def end_lease(worker: Worker) -> None:
    """End a worker's lease, if it has one."""
    shape, stock = worker.shape, worker.stock
    if shape is None or stock is None:
        return
    free = stock.free
    for name, amount in shape.needs:
        if name != "CPU" or not worker.cpus_lent:
            free[name] += amount
    if shape.gpu:
        count_gpus(stock, worker.gpus, shape.gpu, +1)
        worker.gpus = ()
    worker.cpus_lent = False
    worker.shape = worker.stock = None


def shrink_lease(worker: Worker, held: Shape) -> None:
    """Make a worker's lease smaller: an actor may hold less than its creation needed."""
    old, stock = worker.shape, worker.stock
    gpus = worker.gpus
    unlend_cpus(worker)
    assert old is not None, "an actor's worker has a lease"
    assert stock is not None, "a lease is drawn from a stock"
    for name, amount in old.needs:
        stock.free[name] += amount
    for name, amount in held.needs:
        stock.free[name] -= amount
    if old.gpu:
        count_gpus(stock, gpus, old.gpu, +1)
        worker.gpus = gpus[: -(-held.gpu // RESOURCE_UNIT)]
        count_gpus(stock, worker.gpus, held.gpu, -1)
    worker.shape = held


def lend_cpus(worker: Worker) -> None:
    """Let other leases use the CPUs of a worker whose task is blocked."""
    if worker.cpus_lent or worker.shape is None or worker.stock is None:
        return
    worker.cpus_lent = True
    for name, amount in worker.shape.needs:
        if name == "CPU":
            worker.stock.free[name] += amount


def unlend_cpus(worker: Worker) -> None:
    """Take back the CPUs of a worker whose task goes on at once. If they are in use, the free CPUs go below zero."""
    if not worker.cpus_lent or worker.shape is None or worker.stock is None:
        return
    worker.cpus_lent = False
    for name, amount in worker.shape.needs:
        if name == "CPU":
            worker.stock.free[name] -= amount


def pick_gpus(stock: Stock, amount: int) -> tuple[int, ...] | None:
    """Return the indices of devices that meet a request now, or None.

    Whole devices: the lowest indices. A fraction: the device with the least amount left that suffices.
    """
    if amount < RESOURCE_UNIT:
        left = [(free, index) for index, free in stock.gpu_free.items() if free >= amount]
        return (min(left)[1],) if left else None
    whole = [index for index, free in stock.gpu_free.items() if free == RESOURCE_UNIT]
    count = -(-amount // RESOURCE_UNIT)
    return tuple(whole[:count]) if len(whole) >= count else None


def count_gpus(stock: Stock, gpus: tuple[int, ...], amount: int, sign: int) -> None:
    """Add a lease's amount to the free amounts of its devices (`sign` 1), or subtract it (`sign` -1)."""
    each = amount if amount < RESOURCE_UNIT else RESOURCE_UNIT
    for index in gpus:
        stock.gpu_free[index] += sign * each
