"""The run that code of this process belongs to: a driver's own code, or one task.

A submission inherits from the run: the parent task, the driver and the cell that get the output, and the beginning of
the label. A submitter numbers its tasks by name (`fib#2.1` is the first `fib` that `fib#2` submitted), so labels are
the same in each execution of a program, whichever worker runs which task.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ipyremote.backend.placement import Place
from ipyremote.ids import NOBODY, ClientId, TaskId

__all__ = ["Cancellable", "Label", "Running", "concurrent", "concurrently"]


class Cancellable(Protocol):
    """A run that can be cancelled."""

    #: Whether the run was cancelled.
    cancelled: bool


class Label(NamedTuple):
    """The name of a task, and the number that distinguishes its submitter's tasks of that name."""

    name: str
    number: str

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


class Running:
    """A run; see the module docstring. Guarded by the session's lock."""

    __slots__ = ("_numbers", "_thread", "call", "cell", "driver", "gpus", "place", "prefix", "task_id")

    def __init__(
        self,
        *,
        driver: ClientId,
        task_id: TaskId = NOBODY,
        cell: int = 0,
        number: str = "",
        gpus: tuple[int, ...] = (),
        call: Cancellable | None = None,
        place: Place | None = None,
    ) -> None:
        #: Id of the running task; 0 in a driver.
        self.task_id = task_id
        #: Client that gets the output of the task and of its children.
        self.driver = driver
        self.cell = cell
        #: Beginning of the numbers in the labels of the task's children.
        self.prefix = f"{number}." if number else ""
        #: Call that runs; None in a driver.
        self.call = call
        #: Indices of the GPUs assigned to the task.
        self.gpus = gpus
        #: Place of the task, or of the actor that the task belongs to.
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
        """Return the place of a submission with the option `asked`; the submitter's own placement group may apply."""
        own = self.place
        if own is None and asked is None:
            return None
        captures = bool(own is not None and own.captures)
        place = asked or Place()
        if place.captures is None:
            if captures and own is not None and not place.group_id:
                place = place._replace(group_id=own.group_id)
            place = place._replace(captures=captures)
        return None if place.is_anywhere else place

    def on_this_thread(self) -> bool:
        """Return whether the calling thread is the thread that runs the task."""
        return threading.get_ident() == self._thread


#: Run of the present coroutine or thread, where a process has several runs at a time.
concurrent: contextvars.ContextVar[Running | None] = contextvars.ContextVar("running", default=None)


@contextmanager
def concurrently(running: Running) -> Iterator[None]:
    """Make the code of this block, in this coroutine or thread, part of `running`."""
    token = concurrent.set(running)
    try:
        yield
    finally:
        concurrent.reset(token)
