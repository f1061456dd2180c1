"""What leases are drawn from: the stock of the session, and the bundles of placement groups. Records, no decisions.

A group is reserved whole: its bundles are taken from the session's stock, each becomes a stock of its own, and only
tasks and actors that are placed in the group draw from these. Its resources and devices are therefore always in exactly
one place, the session's stock, a bundle's, or a lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipyremote.core.transitions import PENDING
from ipyremote.messages import CreateGroup

if TYPE_CHECKING:
    from ipyremote.core.state.ledger import Shape

__all__ = ["Group", "Stock"]


class Stock:
    """Amounts, of which leases are parts."""

    __slots__ = ("free", "gpu_free", "gpus", "total")

    def __init__(self, total: Mapping[str, int], gpus: Mapping[int, int]) -> None:
        self.total = dict(total)
        #: What belongs to it of each single GPU, by index.
        self.gpus = dict(gpus)
        #: Of `total`, what nobody has. CPU may be below zero: who unblocks does not wait.
        self.free = dict(total)
        #: What is free of each.
        self.gpu_free = dict(gpus)


class Group:
    """A placement group, from its creation until it is removed."""

    __slots__ = (
        "actor_id",
        "id",
        "namespace",
        "reserved_at",
        "shape",
        "shapes",
        "spec",
        "state",
        "stocks",
        "submitted",
    )

    def __init__(self, spec: CreateGroup, namespace: str, actor_id: int, shape: Shape, now: float) -> None:
        self.id = spec.group_id
        self.spec = spec
        self.state: str = PENDING
        #: Where its name, if any, is looked up.
        self.namespace = namespace
        #: The actor that created it, with which it ends; 0: it ends with the driver in its `spec`.
        self.actor_id = actor_id
        #: All that it reserves, which waits its turn like what a task needs.
        self.shape = shape
        #: What tasks and actors need that are placed in it.
        self.shapes: list[Shape] = []
        #: Its bundles, in order, while they are reserved.
        self.stocks: tuple[Stock, ...] = ()
        self.submitted = now
        #: When it was reserved.
        self.reserved_at = 0.0

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.spec.label
