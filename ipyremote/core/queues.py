"""The queues of ready tasks, by shape. In a shape each client has a lane, first in first out; lanes are served in turn.

A shape that the session can never meet keeps its tasks and is not served; the driver is told once. A shape in a
placement group keeps its tasks until the group is reserved. A cancelled task is not searched for: the task stays in its
lane and is skipped, so that cancelling a million tasks is cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ipyremote.core.commands import Send
from ipyremote.core.state import Ledger, Shape, Task
from ipyremote.core.transitions import OPEN, READY
from ipyremote.ids import ClientId
from ipyremote.messages import Notice

__all__ = ["enlist", "head", "push", "put_back", "take_head", "withdraw"]


def push(ledger: Ledger, shape: Shape, task: Task) -> None:
    """Add a task that has become ready to the end of its client's lane."""
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


def _lane(shape: Shape, client: ClientId) -> deque[Task]:
    """Return the lane of a client, a new one if it has none."""
    lane = shape.lanes.get(client)
    if lane is None:
        lane = shape.lanes[client] = deque()
        shape.client_ring.append(client)
    return lane


def _list(ledger: Ledger, shape: Shape, task: Task) -> None:
    """Have a shape served from now on, or tell the driver of `task` once that the session can never meet the shape."""
    if not shape.missing:
        enlist(ledger, shape)
    elif not shape.noticed:
        shape.noticed = True
        text = f"{task.spec.label} cannot start: it needs {shape.missing}. It waits until it is cancelled."
        if task.spec.driver in ledger.clients:
            ledger.out.append(Send(task.spec.driver, Notice(text, task.spec.cell)))


def enlist(ledger: Ledger, shape: Shape) -> None:
    """Have a shape served from now on if its environment is open and its placement group, if any, is reserved.

    The caller has checked that the session can meet the shape.
    """
    if shape.sources and shape.environment.state == OPEN:
        shape.listed = True
        ledger.rota.append(shape)


def head(shape: Shape) -> Task | None:
    """Return the task to be placed next, without taking it from the queue; None if no task is ready."""
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
    """Remove the task that `head` returned, and give the turn to the next client."""
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
    """Count out a ready task of a shape that has ended without being placed."""
    shape.ready -= 1
    if not shape.ready:
        shape.lanes.clear()
        shape.client_ring.clear()
