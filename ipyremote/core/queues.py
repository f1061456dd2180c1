"""Ready tasks, by shape. Inside a shape each client has a lane, first in first out, and the lanes are served in turn.
A shape that the session can never meet keeps its tasks here and is not served; the driver is told once. So does one in
a placement group that is not reserved yet, until that is.

A cancelled task is not searched for: it stays in its lane and is skipped, so that cancelling a million tasks is cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ipyremote.core.commands import Send
from ipyremote.core.state import Ledger, Shape, Task
from ipyremote.core.transitions import OPEN, READY
from ipyremote.messages import Notice

__all__ = ["enlist", "head", "push", "put_back", "take_head", "withdraw"]


def push(ledger: Ledger, shape: Shape, task: Task) -> None:
    """Add a task that has become ready."""
    _lane(shape, task.submitter).append(task)
    shape.ready += 1
    if not shape.listed:
        _list(ledger, shape, task)


def put_back(ledger: Ledger, tasks: Iterable[Task]) -> None:
    """Add tasks that were ready before, in this order, at the front of their clients' lanes."""
    for task in reversed(list(tasks)):
        shape = task.shape
        assert shape is not None, "method calls are queued by their actor"
        _lane(shape, task.submitter).appendleft(task)
        shape.ready += 1
        if not shape.listed:
            _list(ledger, shape, task)


def _lane(shape: Shape, client: int) -> deque[Task]:
    lane = shape.lanes.get(client)
    if lane is None:
        lane = shape.lanes[client] = deque()
        shape.client_ring.append(client)
    return lane


def _list(ledger: Ledger, shape: Shape, task: Task) -> None:
    """Have a shape served from now on if that is possible, or tell the driver that it never will be."""
    if not shape.missing:
        enlist(ledger, shape)
    elif not shape.noticed:
        shape.noticed = True
        text = f"{task.spec.label} cannot start: it needs {shape.missing}. It waits until it is cancelled."
        if task.spec.driver in ledger.clients:
            ledger.out.append(Send(task.spec.driver, Notice(text, task.spec.cell)))


def enlist(ledger: Ledger, shape: Shape) -> None:
    """Have a shape served from now on that can be met, unless its environment is not open or its group not reserved."""
    if shape.sources and shape.environment.state == OPEN:
        shape.listed = True
        ledger.rota.append(shape)


def head(shape: Shape) -> Task | None:
    """The task to be placed next; it stays in the queue."""
    ring = shape.client_ring
    while ring:
        lane = shape.lanes[ring[0]]
        while lane:
            if lane[0].state == READY:
                return lane[0]
            lane.popleft()
        del shape.lanes[ring.popleft()]
    return None


def take_head(shape: Shape) -> None:
    """Remove what `head` returned; the next client's turn."""
    ring = shape.client_ring
    client = ring[0]
    lane = shape.lanes[client]
    lane.popleft()
    shape.ready -= 1
    if not lane:
        del shape.lanes[client]
        ring.popleft()
    elif len(ring) > 1:
        ring.rotate(-1)


def withdraw(shape: Shape) -> None:
    """One of its ready tasks ended without being placed."""
    shape.ready -= 1
    if not shape.ready:
        shape.lanes.clear()
        shape.client_ring.clear()
