"""The functions and actor classes that run in workers.

The functions and classes are at the top level of a module, because engines that pickle by reference must be able to
import them. Each does almost nothing, so that the time measured is the engine's.
"""

import importlib
from typing import Any

MIB = 2**20


def nothing() -> None:
    """Do nothing."""


def size(array: Any) -> int:
    """Return the size of an array in bytes, without touching its data: only the transfer of the array costs time."""
    return int(array.nbytes)


def fresh_array(mib: int) -> Any:
    """Return a new array of `mib` MiB with untouched pages: filling the pages would cost more than the transfer."""
    import numpy as np

    return np.zeros(mib * MIB // 8)


def count(*values: Any) -> int:
    """Return the number of arguments."""
    return len(values)


def tree(api: str, depth: int) -> int:
    """Run a node of a blocking binary tree and return its number of nodes; module `api` has the functions of Ray."""
    if depth == 0:
        return 1
    engine = importlib.import_module(api)
    node = engine.remote(tree)
    ran: list[int] = engine.get([node.remote(api, depth - 1), node.remote(api, depth - 1)])
    return 1 + sum(ran)


class CountingActor:
    """An actor class with state that each call changes."""

    def __init__(self) -> None:
        self.calls = 0

    def add(self) -> int:
        """Count one call."""
        self.calls += 1
        return self.calls


class AsyncCounter:
    """An actor class like `CountingActor` with a coroutine method, which makes the actor an async actor."""

    def __init__(self) -> None:
        self.calls = 0

    async def add(self) -> int:
        """Count one call."""
        self.calls += 1
        return self.calls
