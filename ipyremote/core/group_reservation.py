"""The reservation of a placement group's bundles from the session's stock, and their return.

All or nothing: the bundles are split off a trial copy of the free amounts, and the session's stock changes only if that
succeeds for every bundle. A dissolved group gives back the free amounts of its bundles; amounts that workers hold
return directly to the session's stock when these workers are gone.
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
    """Return the sum of a group's bundles as one shape, which waits for resources as the shapes of tasks do."""
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
    # `gpu` is 0: `reserve` picks the devices, once the amounts are free.
    return Shape(
        environment=ledger.home,
        needs=needs,
        exclusive=True,
        gpu=0,
        missing=", ".join(missing),
        sources=(ledger.stock,),
    )


def reserve(ledger: Ledger, group: GroupState) -> bool:
    """Reserve all bundles of a waiting group and let its tasks be placed. Returns False if not all fit now."""
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
        assert shape.place is not None, "a shape of a group has a place"
        shape.sources = sources_of(stocks, shape.place)
        if shape.ready and not shape.missing:
            enlist(ledger, shape)
    return True


def dissolve(ledger: Ledger, group: GroupState) -> None:
    """Give back a group's resources. Its tasks and actors have ended, or end with their workers."""
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
    """Take bundles out of a stock and return a stock for each; None if one does not fit, which spoils the stock."""
    made: dict[int, Stock] = {}
    # Bundles with whole devices come before bundles with parts of a device, and large parts before small parts.
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
    """Return (kind, reason) if a task or actor with these needs can never run in this place; None if it can wait.

    The kind is the kind of a `Failure` without "task_" or "actor_" in front.
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
