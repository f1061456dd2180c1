"""The record of a stock: amounts of resources that leases are drawn from.

The session has one stock, and each bundle of a reserved placement group has another. A group is reserved whole: its
bundles are taken from the session's stock, and only tasks and actors that are placed in the group draw from them. An
amount and a device are therefore always in exactly one place: the session's stock, a bundle's stock, or a lease.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Stock"]


class Stock:
    """Amounts in ten-thousandths, by resource, and the parts of each GPU."""

    __slots__ = ("free", "gpu_free", "gpus", "total")

    def __init__(self, total: Mapping[str, int], gpus: Mapping[int, int]) -> None:
        #: Amount owned of each resource, by name, in ten-thousandths.
        self.total = dict(total)
        #: Amount owned of each GPU, by device index, in ten-thousandths.
        self.gpus = dict(gpus)
        #: The part of `total` that no lease and no bundle has. CPU may be below zero: a task that stops waiting gets
        #: its CPUs back at once, even while others use them.
        self.free = dict(total)
        #: The part of `gpus` that no lease and no bundle has, by device index.
        self.gpu_free = dict(gpus)
