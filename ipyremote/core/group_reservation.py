"""How a placement group gets its bundles out of the session's stock, and gives them back.

All or nothing: bundles are split off a trial copy of what is free, and only if that works for each of them is it done.
A group that is dissolved gives back what is free in its bundles; the rest comes back, straight to the session's stock,
when the workers that have it are gone.
"""

from __future__ import annotations

from ipyremote.backend.placement import NODE_ID, Place, described, labels_text, match_some
from ipyremote.core.queues import enlist
from ipyremote.core.resources import (
    amount_text,
    count_gpus,
    gpus_of,
    key_of,
    lacking_of,
    pick_gpus,
    sources_of,
)
from ipyremote.core.state import GroupState, Ledger, Shape, Stock, move_group
from ipyremote.core.transitions import RESERVED
from ipyremote.messages import RESOURCE_UNIT, CreateGroup, Resources

__all__ = ["dissolve", "refusal", "reserve", "shape_of"]


def shape_of(ledger: Ledger, message: CreateGroup) -> Shape:
    """What a group is to reserve, to wait for as tasks wait for what they need."""
    bundles = message.bundles
    amounts: dict[str, int] = {}
    for bundle in bundles:
        for name, amount in bundle:
            amounts[name] = amounts.get(name, 0) + amount
    needs = tuple(sorted(amounts.items()))
    missing = lacking_of(ledger, needs)
    if message.strategy == "STRICT_SPREAD" and len(bundles) > 1:
        missing.append(f"{len(bundles)} machines, one for each bundle (STRICT_SPREAD; the session has one)")
    unmet = [some for some in message.labels if not match_some((some,), ledger.labels)]
    if unmet:
        own = labels_text(ledger.labels)
        missing.append(
            f"a machine with {' and '.join(described((some,)) for some in unmet)} (this one has {own})"
        )
    gpus = ledger.stock.gpus
    if not missing and _split(Stock(ledger.total, gpus), bundles) is None:
        missing.append(f"GPUs in such parts (the session has {len(gpus)})")
    # Which devices they are is looked into when the amounts are there.
    return Shape(
        environment=ledger.home,
        needs=needs,
        exclusive=True,
        gpu=0,
        missing=", ".join(missing),
        sources=(ledger.stock,),
    )


def reserve(ledger: Ledger, group: GroupState) -> bool:
    """Reserve all bundles of a group that waits for them, and let its tasks be placed; whether that is possible now."""
    session = ledger.stock
    trial = Stock(session.free, session.gpu_free)
    stocks = _split(trial, group.spec.bundles)
    if stocks is None:
        return False
    session.free.update(trial.free)
    session.gpu_free.update(trial.gpu_free)
    move_group(group, RESERVED)
    del ledger.waiting_groups[group.id]
    group.reserved_at = ledger.now
    group.stocks = stocks
    for shape in group.shapes:
        assert shape.place is not None, "it is placed in the group"
        shape.sources = sources_of(stocks, shape.place)
        if shape.ready and not shape.missing:
            enlist(ledger, shape)
    return True


def dissolve(ledger: Ledger, group: GroupState) -> None:
    """Give back what a group has reserved. Its tasks and actors have ended, or are about to with their workers."""
    session = ledger.stock
    for worker in ledger.workers.values():
        if worker.stock in group.stocks:
            worker.stock = session
    for stock in group.stocks:
        for name, amount in stock.free.items():
            session.free[name] += amount
        for index, amount in stock.gpu_free.items():
            session.gpu_free[index] += amount
    group.stocks = ()
    for shape in group.shapes:
        shape.sources = ()
        del ledger.shapes[key_of(shape)]
        shape.environment.shapes.remove(shape)
    group.shapes.clear()


def _split(stock: Stock, bundles: tuple[Resources, ...]) -> tuple[Stock, ...] | None:
    """Take these bundles out of a stock. None: it has too little, and is of no use any more."""
    made: dict[int, Stock] = {}
    # Whole devices come before parts of them, and large parts before small ones.
    for index in sorted(range(len(bundles)), key=lambda index: -gpus_of(bundles[index])):
        bundle = _take(stock, bundles[index])
        if bundle is None:
            return None
        made[index] = bundle
    return tuple(made[index] for index in range(len(bundles)))


def _take(stock: Stock, bundle: Resources) -> Stock | None:
    for name, amount in bundle:
        if stock.free.get(name, 0) < amount:
            return None
        stock.free[name] -= amount
    amount = gpus_of(bundle)
    gpus = pick_gpus(stock, amount) if amount else ()
    if gpus is None:
        return None
    count_gpus(stock, gpus, amount, -1)
    return Stock(dict(bundle), dict.fromkeys(gpus, min(amount, RESOURCE_UNIT)))


def refusal(ledger: Ledger, needs: Resources, place: Place) -> tuple[str, str] | None:
    """(kind, why) where what needs so much can never be placed there, instead of waiting. None: it can wait.

    The kind is that of a `Failure`, without the "task" or "actor" in front.
    """
    own = ledger.labels.get(NODE_ID, "")
    if place.node and place.node != own:
        return (
            "unschedulable",
            f"it is to run on node {place.node}, and the only node of this session is {own}",
        )
    if not place.group_id:
        return None
    group = ledger.groups.get(place.group_id)
    if group is None:
        return "placement_group_removed", "its placement group was removed, or is another session's"
    count = len(group.spec.bundles)
    if place.bundle >= count:
        return (
            "unschedulable",
            f"{group.label} has no bundle {place.bundle}: they are numbered from 0 to {count - 1}",
        )
    bundles = group.spec.bundles if place.bundle < 0 else group.spec.bundles[place.bundle : place.bundle + 1]
    if any(_holds(dict(bundle), needs) for bundle in bundles):
        return None
    asked = ", ".join(f"{amount_text(amount)} {name}" for name, amount in needs)
    which = f"bundle {place.bundle}" if place.bundle >= 0 else "no bundle"
    verb = "has less" if place.bundle >= 0 else "has that much"
    return "unschedulable", f"it needs {asked}, and {which} of {group.label} {verb}"


def _holds(bundle: dict[str, int], needs: Resources) -> bool:
    return all(amount <= bundle.get(name, 0) for name, amount in needs)
