"""The calls of a driver's listener: output, displays, progress, states and notices, one call for each message."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from ipyremote import messages as m
from ipyremote.backend import BarState, DisplayReport, Listener, ProgressReport, StateReport, TextReport

__all__ = ["Delivery", "deliver"]

#: Messages for the listener.
Delivery: TypeAlias = m.OutputText | m.DisplayContent | m.ProgressUpdate | m.TaskUpdate | m.Notice


def deliver(message: Delivery, listener: Listener) -> None:
    """Call the listener's method for a message."""
    match message:
        case m.OutputText(cell, label, stream, text, task_id):
            listener.on_output(TextReport(cell, label, stream, text, task_id))
        case m.DisplayContent(cell, label, task_id, content):
            listener.on_display(DisplayReport(cell, label, task_id, m.decode_content(content)))
        case m.ProgressUpdate(cell, label, task_id, bar, description, done, total, unit, closed):
            state = BarState(bar, description, done, total if total >= 0 else None, unit, closed)
            listener.on_progress(ProgressReport(cell, label, task_id, state))
        case m.TaskUpdate(object_id, state, label, seconds, detail):
            listener.on_update(StateReport(object_id, state, label, seconds, detail))
        case m.Notice(text, cell):
            listener.on_notice(cell, text)
        case _:
            assert_never(message)
