"""What is free, and which GPU is whose. Logical amounts in ten-thousandths; nothing here measures a machine.

A worker holds a lease: the resources of one shape, drawn from one stock (the session's, or a bundle's of a placement
group) when it gets its first task and given back after its last. While its task is blocked, the CPUs of the lease are
lent out, to others that draw from the same stock. GPUs are whole devices with an index: a request of one or more takes
devices that nobody else has, a fraction shares one device.
"""

from __future__ import annotations

from ipyremote.backend.placement import Place, described, labels_text, match_some
from ipyremote.core.state import Environment, GroupState, Ledger, Shape, ShapeKey, Stock, Worker
from ipyremote.messages import RESOURCE_UNIT, Resources

__all__ = [
    "amount_text",
    "count_gpus",
    "environment_of",
    "fits",
    "give_back",
    "gpus_of",
    "has",
    "intern_shape",
    "key_of",
    "lacking_of",
    "larger",
    "lend_cpus",
    "pick_gpus",
    "sources_of",
    "swap",
    "take",
    "unlend_cpus",
]


def environment_of(ledger: Ledger, key: str) -> Environment:
    """The one record of an environment."""
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
    """The one `Shape` for these needs in this place, which `bundles.refusal` has nothing against.

    Actor creations and what needs GPUs are `exclusive` in any case.
    """
    needs = tuple((name, amount) for name, amount in needs if amount > 0)
    key = (needs, exclusive or creates or gpus_of(needs) > 0, creates, _narrowed(ledger, place), environment)
    shape = ledger.shapes.get(key)
    if shape is None:
        shape = ledger.shapes[key] = _make_shape(ledger, key)
        shape.environment.shapes.append(shape)
    return shape


def key_of(shape: Shape) -> ShapeKey:
    """What a shape is filed under in `Ledger.shapes`."""
    return shape.needs, shape.exclusive, shape.creates, shape.place, shape.environment.key


def _narrowed(ledger: Ledger, place: Place | None) -> Place | None:
    """Return what makes a difference on this machine: a place without its node and without labels that are met."""
    if place is None:
        return None
    labels = () if match_some(place.labels, ledger.labels) else place.labels
    place = place._replace(captures=None, labels=labels, node="")
    return None if place.is_anywhere else place


def _make_shape(ledger: Ledger, key: ShapeKey) -> Shape:
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
    """What the whole session has too little of, in words."""
    return [
        f"{amount_text(amount)} {name} (the session has {amount_text(ledger.total.get(name, 0))})"
        for name, amount in needs
        if amount > ledger.total.get(name, 0)
    ]


def sources_of(stocks: tuple[Stock, ...], place: Place) -> tuple[Stock, ...]:
    """The bundles that something in a group may draw from; none while the group is not reserved."""
    return stocks if place.bundle < 0 else stocks[place.bundle : place.bundle + 1]


def gpus_of(needs: Resources) -> int:
    """The GPU amount among these."""
    return next((amount for name, amount in needs if name == "GPU"), 0)


def larger(one: Resources, other: Resources) -> Resources:
    """For each resource the larger amount."""
    amounts = dict(one)
    for name, amount in other:
        amounts[name] = max(amount, amounts.get(name, 0))
    return tuple(sorted(amounts.items()))


def amount_text(amount: int) -> str:
    """An amount for people: 1, 0.5."""
    return f"{amount / RESOURCE_UNIT:g}"


def has(stock: Stock, shape: Shape) -> bool:
    """Whether what is free of a stock meets the shape's needs."""
    free = stock.free
    for name, amount in shape.needs:
        if free.get(name, 0) < amount:
            return False
    return not shape.gpu or pick_gpus(stock, shape.gpu) is not None


def fits(shape: Shape) -> bool:
    """Whether what is free somewhere meets the shape's needs."""
    return any(has(stock, shape) for stock in shape.sources)


def take(ledger: Ledger, worker: Worker, shape: Shape, stock: Stock) -> None:
    """Begin a worker's lease. The caller has checked that the stock has what it needs."""
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


def give_back(worker: Worker) -> None:
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


def swap(worker: Worker, held: Shape) -> None:
    """Turn a worker's lease into a smaller one: an actor keeps less than its creation needed."""
    old, stock = worker.shape, worker.stock
    gpus = worker.gpus
    unlend_cpus(worker)
    assert old is not None, "an actor's worker has a lease"
    assert stock is not None, "a lease is drawn from something"
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
    """The worker's task is blocked: others may use its CPUs."""
    if worker.cpus_lent or worker.shape is None or worker.stock is None:
        return
    worker.cpus_lent = True
    for name, amount in worker.shape.needs:
        if name == "CPU":
            worker.stock.free[name] += amount


def unlend_cpus(worker: Worker) -> None:
    """The worker's task goes on at once; the free CPUs go below zero when others use them."""
    if not worker.cpus_lent or worker.shape is None or worker.stock is None:
        return
    worker.cpus_lent = False
    for name, amount in worker.shape.needs:
        if name == "CPU":
            worker.stock.free[name] -= amount


def pick_gpus(stock: Stock, amount: int) -> tuple[int, ...] | None:
    """Devices that meet a request, lowest indices first; a fraction goes where the least is left. None: not now."""
    if amount < RESOURCE_UNIT:
        left = [(free, index) for index, free in stock.gpu_free.items() if free >= amount]
        return (min(left)[1],) if left else None
    whole = [index for index, free in stock.gpu_free.items() if free == RESOURCE_UNIT]
    count = -(-amount // RESOURCE_UNIT)
    return tuple(whole[:count]) if len(whole) >= count else None


def count_gpus(stock: Stock, gpus: tuple[int, ...], amount: int, sign: int) -> None:
    """These devices get so much more, or less, that is free."""
    each = amount if amount < RESOURCE_UNIT else RESOURCE_UNIT
    for index in gpus:
        stock.gpu_free[index] += sign * each
