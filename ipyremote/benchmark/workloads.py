"""The functions and actor classes that run in workers.

They live at the top of a module of their own because engines that pickle by reference must be able to
import them. They do next to nothing: what is measured is the engine around them.
"""

import importlib
from typing import Any

MIB = 2**20


def nothing() -> None:
    """The empty task."""


def size(array: Any) -> int:
    """Touch an array only by its header, so that the cost of handing it over is all there is."""
    return int(array.nbytes)


def fresh_array(mib: int) -> Any:
    """A new array of so many MiB, its pages untouched: filling them would cost more than handing them over."""
    import numpy as np

    return np.zeros(mib * MIB // 8)


def count(*values: Any) -> int:
    """How many arguments arrived."""
    return len(values)


def tree(api: str, depth: int) -> int:
    """A node of a blocking binary tree, for engines whose module `api` has the functions of Ray."""
    if depth == 0:
        return 1
    engine = importlib.import_module(api)
    node = engine.remote(tree)
    ran: list[int] = engine.get([node.remote(api, depth - 1), node.remote(api, depth - 1)])
    return 1 + sum(ran)


class CountingActor:
    """The actor: state that each call changes."""

    def __init__(self) -> None:
        self.calls = 0

    def add(self) -> int:
        """Count one call."""
        self.calls += 1
        return self.calls


class AsyncCounter:
    """The same with a coroutine, which makes the actor an async one."""

    def __init__(self) -> None:
        self.calls = 0

    async def add(self) -> int:
        """Count one call."""
        self.calls += 1
        return self.calls
