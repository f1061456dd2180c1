"""Failures of tasks whose refs were all released before the failure: nobody can retrieve them, so the driver is told.

A failure with a ref is left to the holders of the ref. Of each cell, only the first few failures are told.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.state import Ledger, Task
from ipyremote.messages import Failure, Notice

__all__ = ["notify_unretrieved"]

#: Number of failures of one cell that the driver is told.
_TOLD: Final = 5
#: Number of cells whose failures are counted.
_CELLS: Final = 1_000
#: Kinds of failures that the driver is told. The user has cancelled tasks and killed actors, and knows of their ends.
_KINDS: Final = frozenset({"task_error", "worker_crashed", "out_of_memory", "store_full"})


def notify_unretrieved(ledger: Ledger, task: Task, failure: Failure) -> None:
    """Tell the driver of a task's failure whose object is gone already, unless its cell has had too many."""
    spec = task.spec
    if failure.kind not in _KINDS or spec.driver not in ledger.clients:
        return
    key = (spec.driver, spec.cell)
    count = ledger.unretrieved[key] = ledger.unretrieved.get(key, 0) + 1
    if len(ledger.unretrieved) > _CELLS:
        del ledger.unretrieved[next(iter(ledger.unretrieved))]
    if count <= _TOLD:
        text = f"{spec.label} failed, and nobody has asked for its result. {failure.line}"
    elif count == _TOLD + 1:
        text = "More tasks failed whose results nobody has asked for; they are not listed."
    else:
        return
    ledger.out.append(Send(spec.driver, Notice(text, spec.cell)))
