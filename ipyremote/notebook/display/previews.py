"""A look at what a ref turned out to be: a preview that a worker makes of its value, or the text of its failure.

The value itself never comes to the kernel. The preview is a task of no CPU and no retries, so it takes no one's place;
it runs below the API, because it must neither start a cluster nor count as the user's work. Used on the updater's
thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ipyremote.backend import Backend, TaskOptions
from ipyremote.exceptions import TaskError
from ipyremote.notebook.display.html import Preview
from ipyremote.notebook.display.models import RefModel
from ipyremote.notebook.display.sanitiser import sanitised
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.preview import preview

__all__ = ["Previewer"]

#: Not a name that a user's function is likely to have: labels are counted by name.
_NAME: Final = "_preview"
_OPTIONS: Final = TaskOptions(resources=(), max_retries=0)
#: Seconds after which a display is final without a look.
_PATIENCE: Final = 30.0
#: Seconds between two checks for that.
_CHECK: Final = 1.0
#: Seconds within which the news of a failure follow the change of its task's state.
_NEWS: Final = 0.5


class Previewer:
    """Takes looks. `done` is called once for each, on the updater's thread."""

    def __init__(self, updater: UpdateScheduler, clock: Callable[[], float] = time.monotonic) -> None:
        self._updater = updater
        self._clock = clock
        #: Looks that were not answered yet and when they end without an answer, oldest first.
        self._open: dict[_PreviewRequest, float] = {}
        self._checking = False

    def take(self, backend: Backend, ref: ObjectRef[Any], model: RefModel, done: Callable[[], None]) -> None:
        """Put the preview or the failure's text into `model`, then call `done`."""
        look = _PreviewRequest(model, done)
        try:
            if model.state == "resolved":
                exported = backend.define(preview, _NAME)
                object_id, _ = backend.submit(exported, (ref,), {}, _OPTIONS)
                on_ready = partial(self._on_preview, look, backend, object_id)
            else:
                object_id = ref._id
                on_ready = partial(self._on_failure, look, backend, object_id)
            self._open[look] = self._clock() + _PATIENCE
            backend.on_ready(object_id, lambda _: self._updater.call(on_ready))
            self._check_soon()
        except Exception as error:  # the session has ended
            self._open.pop(look, None)
            look.finish(str(error))

    def told(self, backend: Backend, object_id: int) -> None:
        """A display tells of this failure by itself, so nobody needs to be told of it otherwise."""
        if backend.history is not None:
            # The news of it may be on their way still.
            self._updater.call_later(_NEWS, backend.history.ask, (object_id,))

    def _check_soon(self) -> None:
        if self._open and not self._checking:
            self._checking = True
            self._updater.call_later(_CHECK, self._check)

    def _check(self) -> None:
        """Finish what has waited too long."""
        self._checking = False
        now = self._clock()
        for look, deadline in tuple(self._open.items()):
            if deadline > now:
                break
            del self._open[look]
            look.finish("it took too long")
        self._check_soon()

    def _on_preview(self, look: _PreviewRequest, backend: Backend, object_id: int) -> None:
        self._open.pop(look, None)
        try:
            if not look.finished:
                look.model.preview = _preview_of(backend.get([object_id], timeout=0)[0])
            look.finish("")
        except Exception as error:  # the worker died of it, or the value cannot be opened there
            look.finish(str(error).strip().rpartition("\n")[2])
        finally:
            # No ObjectRef stands for the preview, so nobody else gives it back.
            backend.release(object_id)

    def _on_failure(self, look: _PreviewRequest, backend: Backend, object_id: int) -> None:
        self._open.pop(look, None)
        try:
            if not look.finished:
                # Raises: the task is known to have failed.
                backend.get([object_id], timeout=0)
        except Exception as error:  # the failure that is to be shown
            look.model.error = _failure_text(error)
        look.finish("")


class _PreviewRequest:
    """One look, which ends once: with an answer, or by itself."""

    __slots__ = ("_done", "finished", "model")

    def __init__(self, model: RefModel, done: Callable[[], None]) -> None:
        self.model = model
        self.finished = False
        self._done = done

    def finish(self, problem: str) -> None:
        """The look is over; `problem` says why there is nothing to see."""
        if self.finished:
            return
        self.finished = True
        if self.model.state == "resolved" and self.model.preview is None:
            self.model.preview = Preview(type="", problem=problem or "none was made")
        done, self._done = self._done, _nothing
        done()


def _nothing() -> None:
    """The look is over."""


def _preview_of(found: Any) -> Preview:
    """Return the record of what `remote_cells.preview.preview` returned, with its HTML sanitised."""
    size = found.get("size")
    return Preview(
        type=str(found.get("type", "")),
        text=str(found.get("repr", "")),
        shape=str(found.get("shape", "")),
        dtype=str(found.get("dtype", "")),
        size=size if isinstance(size, int) else None,
        html=sanitised(str(found.get("html", ""))),
        problem=str(found.get("problem", "")),
    )


def _failure_text(error: BaseException) -> str:
    """The traceback of the task if it has one, else the message."""
    if isinstance(error, TaskError) and error.traceback_text.strip():
        return error.traceback_text
    return f"{type(error).__name__}: {error}"
