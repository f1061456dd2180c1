"""Failures of tasks whose refs were all dropped before they failed: nobody can ask for them, so the driver is told.

A failure that somebody holds a ref to is that somebody's affair. Of each cell only the first few are told.
"""

from __future__ import annotations

from typing import Final

from ipyremote.core.commands import Send
from ipyremote.core.state import Ledger, Task
from ipyremote.messages import Failure, Notice

__all__ = ["notify_unretrieved"]

#: Failures told of one cell, and cells that are counted.
_TOLD: Final = 5
_CELLS: Final = 1_000
#: What the user does not know of; cancelled tasks and killed actors were the user's own doing.
_KINDS: Final = frozenset({"task_error", "worker_crashed", "out_of_memory", "store_full"})


def notify_unretrieved(ledger: Ledger, task: Task, failure: Failure) -> None:
    """A task failed, and its result is gone already."""
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
