"""The routing of a task's output, displays and progress: to the driver and the notebook cell that the task runs for."""

from __future__ import annotations

from typing import assert_never

from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.commands import Send
from ipyremote.core.detached import Detached
from ipyremote.core.state import Ledger
from ipyremote.ids import DRIVER
from ipyremote.messages import Display, DisplayContent, Output, OutputText, Progress, ProgressUpdate

__all__ = ["show"]


def show(
    ledger: Ledger, keeping: Detached, names: ActorNameTable, message: Output | Display | Progress
) -> None:
    """Send a task's output, display or progress to the driver that is to see it, if that driver is connected."""
    task = ledger.tasks.get(message.task_id)
    driver, cell, label = (
        (DRIVER, 0, "") if task is None else (task.spec.driver, task.spec.cell, task.spec.label)
    )
    driver, cell = keeping.audience(driver, cell)
    if task is not None and task.actor is not None:
        label = names.title_of(task.actor.id) or label
    if driver not in ledger.clients:
        return
    shown: OutputText | DisplayContent | ProgressUpdate
    match message:
        case Output(task_id, stream, text):
            shown = OutputText(cell, label, stream, text, task_id)
        case Display(task_id, content):
            shown = DisplayContent(cell, label, task_id, content)
        case Progress(task_id, bar, description, done, total, unit, closed):
            shown = ProgressUpdate(cell, label, task_id, bar, description, done, total, unit, closed)
        case _:
            assert_never(message)
    ledger.out.append(Send(driver, shown))
