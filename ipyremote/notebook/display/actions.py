"""The actions of a click on a display: cancel, run again, open one ref of a board. Used on the updater's thread.

To run a ref again is to submit a new task with the same function, arguments and options. From then on the clicked ref
stands for the new task, everywhere in the program. Tasks that depended on the failed run have failed, and stay failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ipyremote.backend import Backend
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.displays import OpenedRef, ScreenDisplay
from ipyremote.notebook.display.models import BoardModel, RefModel
from ipyremote.refs import ObjectRef

__all__ = ["cancel", "open_ref", "retry"]


def cancel(display: ScreenDisplay, backend: Backend, place: int) -> None:
    """Cancel the ref at this place of a display, or all refs (place -1)."""
    refs = [display.ref_at(place)] if place >= 0 else list(display.refs)
    for ref in refs:
        if ref is not None:
            with suppress(Exception):  # the task, or the session, has ended meanwhile
                backend.cancel(ref._id)


def retry(display: ScreenDisplay, backend: Backend, place: int) -> Iterator[tuple[ObjectId, ObjectId]]:
    """Run the ref at this place again, or all refs that failed or were cancelled (place -1).

    Yields the old and the new id of each ref. The reason why a ref cannot be run again is shown on the display.
    """
    model = display.model
    if not isinstance(model, RefModel | BoardModel):
        return
    count = max(len(display.refs), len(display.former))
    for at in [place] if place >= 0 else range(count):
        ref = display.ref_at(at)
        if ref is None or _state(display, ref) not in ("failed", "cancelled"):
            continue
        try:
            if backend.history is None:
                raise ValueError(backend.capabilities.history or "this session cannot run a task again")
            new = backend.history.retry(ref._id)
        except Exception as error:  # shown where the user has clicked
            said = display.opened.model if display.opened is not None and place >= 0 else model
            said.note = f"This task cannot be run again: {error}"
            continue
        old, ref._id, ref._task = ref._id, new, new
        backend.release(old)
        model.on_retried(old, new)
        if display.opened is not None and display.opened.object_id == old:
            display.opened = _opened(at, ref)
        yield old, new


def open_ref(display: ScreenDisplay, place: int) -> OpenedRef | None:
    """Open the ref at this place of a board: its card is shown below the board."""
    ref = display.ref_at(place)
    if ref is None or not isinstance(display.model, BoardModel):
        return None
    display.opened = _opened(place, ref)
    return display.opened


def _opened(place: int, ref: ObjectRef[Any]) -> OpenedRef:
    return OpenedRef(place, ref._id, RefModel(ref._label))


def _state(display: ScreenDisplay, ref: ObjectRef[Any]) -> str:
    model = display.model
    return model.state_of(ref._id) if isinstance(model, BoardModel) else model.state
