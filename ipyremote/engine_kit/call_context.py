"""On whose behalf code runs in this process: a driver's own code, or one task.

It is the source of what a submission inherits: the parent, the driver and cell that get its output, and the label,
which counts by name inside the submitter (`fib#2.1` is the first `fib` that `fib#2` submitted), so that labels are the
same from run to run whichever worker runs what.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ipyremote.backend.placement import Place

__all__ = ["Cancellable", "Label", "Running", "concurrent", "concurrently"]


class Cancellable(Protocol):
    """A run that can be cancelled."""

    #: Whether it was.
    cancelled: bool


class Label(NamedTuple):
    """The name of a task, and the number that distinguishes its submitter's tasks of that name."""

    name: str
    number: str

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


class Running:
    """See the module docstring. Guarded by the session's lock."""

    __slots__ = ("_numbers", "_thread", "call", "cell", "driver", "gpus", "place", "prefix", "task_id")

    def __init__(
        self,
        *,
        driver: int,
        task_id: int = 0,
        cell: int = 0,
        number: str = "",
        gpus: tuple[int, ...] = (),
        call: Cancellable | None = None,
        place: Place | None = None,
    ) -> None:
        #: The running task, or 0 in a driver.
        self.task_id = task_id
        #: The client that its output and that of its children goes to.
        self.driver = driver
        self.cell = cell
        #: What precedes the number in the labels of its children.
        self.prefix = f"{number}." if number else ""
        #: What runs; None in a driver.
        self.call = call
        #: Indices of the GPUs assigned to the task.
        self.gpus = gpus
        #: Where the task was placed, or the actor that it belongs to.
        self.place = place
        self._numbers: dict[str, int] = {}
        self._thread = threading.get_ident()

    def number_of(self, name: str) -> str:
        """Return the number of the next submission with this name."""
        number = self._numbers.get(name, 0) + 1
        self._numbers[name] = number
        return f"{self.prefix}{number}"

    def label_of(self, name: str) -> Label:
        """Return the label of the next submission with this name."""
        return Label(name, self.number_of(name))

    def place_for(self, asked: Place | None) -> Place | None:
        """Where a submission goes that was asked to go there: perhaps to the placement group of who submits it."""
        own = self.place
        if own is None and asked is None:
            return None
        captures = bool(own is not None and own.captures)
        place = asked or Place()
        if place.captures is None:
            if captures and own is not None and not place.group_id:
                place = place._replace(group_id=own.group_id)
            place = place._replace(captures=captures)
        return place if place.group_id or place.labels or place.node else None

    def on_this_thread(self) -> bool:
        """Whether the calling thread is the one that runs the task."""
        return threading.get_ident() == self._thread


#: What runs in the present coroutine or thread, where several run at a time in one process.
concurrent: contextvars.ContextVar[Running | None] = contextvars.ContextVar("running", default=None)


@contextmanager
def concurrently(running: Running) -> Iterator[None]:
    """Code in this block, in this coroutine or thread, runs on behalf of `running`."""
    token = concurrent.set(running)
    try:
        yield
    finally:
        concurrent.reset(token)
