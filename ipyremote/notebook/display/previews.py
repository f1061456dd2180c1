"""Previews of ended refs: a worker's description of the value, or the text of the failure.

The value itself never comes to the kernel. A preview is a task without CPU and retries, so that it delays no task of
the user. It is submitted to the backend, not through the API: a preview must neither start a cluster nor count as the
user's work. Used on the updater's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ipyremote.backend import Backend, TaskOptions
from ipyremote.exceptions import TaskError
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.html import Preview
from ipyremote.notebook.display.models import RefModel
from ipyremote.notebook.display.sanitiser import sanitised
from ipyremote.notebook.display.updater import UpdateScheduler
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.preview import preview

__all__ = ["Previewer"]

#: Name of the preview's function: labels are numbered by name, so a user's function should not have this name.
_NAME: Final = "_preview"
_OPTIONS: Final = TaskOptions(resources=(), max_retries=0)
#: Time after which a display becomes final without a preview, in seconds.
_PATIENCE: Final = 30.0
#: Time between two checks for late previews, in seconds.
_CHECK: Final = 1.0
#: Time within which the news of a failure arrive after the task's change of state, in seconds.
_NEWS: Final = 0.5


class Previewer:
    """Requests previews. `done` is called once for each request, on the updater's thread."""

    def __init__(self, updater: UpdateScheduler, clock: Callable[[], float] = time.monotonic) -> None:
        self._updater = updater
        self._clock = clock
        #: Time at which each open request ends without an answer, oldest request first.
        self._open: dict[_PreviewRequest, float] = {}
        self._checking = False

    def take(self, backend: Backend, ref: ObjectRef[Any], model: RefModel, done: Callable[[], None]) -> None:
        """Put the preview or the failure's text into `model`, then call `done`."""
        request = _PreviewRequest(model, done)
        try:
            if model.state == "resolved":
                exported = backend.define(preview, _NAME)
                object_id, _ = backend.submit(exported, (ref,), {}, _OPTIONS)
                on_ready = partial(self._on_preview, request, backend, object_id)
            else:
                object_id = ref._id
                on_ready = partial(self._on_failure, request, backend, object_id)
            self._open[request] = self._clock() + _PATIENCE
            backend.on_ready(object_id, lambda _: self._updater.call(on_ready))
            self._check_soon()
        except Exception as error:  # the session has ended
            self._open.pop(request, None)
            request.finish(str(error))

    def told(self, backend: Backend, object_id: ObjectId) -> None:
        """Note that a display shows this failure, so that it does not count as unretrieved."""
        if backend.history is not None:
            # The news of the failure may still be on their way.
            self._updater.call_later(_NEWS, backend.history.mark_retrieved, (object_id,))

    def _check_soon(self) -> None:
        if self._open and not self._checking:
            self._checking = True
            self._updater.call_later(_CHECK, self._check)

    def _check(self) -> None:
        """Finish the requests that have waited too long."""
        self._checking = False
        now = self._clock()
        for request, deadline in tuple(self._open.items()):
            if deadline > now:
                break
            del self._open[request]
            request.finish("it took too long")
        self._check_soon()

    def _on_preview(self, request: _PreviewRequest, backend: Backend, object_id: ObjectId) -> None:
        self._open.pop(request, None)
        try:
            if not request.finished:
                request.model.preview = _preview_of(backend.get([object_id], timeout=0)[0])
            request.finish("")
        except Exception as error:  # the worker died of the preview, or cannot unpickle the value
            request.finish(str(error).strip().rpartition("\n")[2])
        finally:
            # No ObjectRef stands for the preview, so the hold on it is given back here.
            backend.release(object_id)

    def _on_failure(self, request: _PreviewRequest, backend: Backend, object_id: ObjectId) -> None:
        self._open.pop(request, None)
        try:
            if not request.finished:
                # `get` raises the failure: the task is known to have failed.
                backend.get([object_id], timeout=0)
        except Exception as error:  # the failure that is to be shown
            request.model.error = _failure_text(error)
        request.finish("")


class _PreviewRequest:
    """One request for a preview. It ends once: with an answer, or when its time is over."""

    __slots__ = ("_done", "finished", "model")

    def __init__(self, model: RefModel, done: Callable[[], None]) -> None:
        self.model = model
        self.finished = False
        self._done = done

    def finish(self, problem: str) -> None:
        """End the request. `problem` says why there is no preview, if there is none."""
        if self.finished:
            return
        self.finished = True
        if self.model.state == "resolved" and self.model.preview is None:
            self.model.preview = Preview(type="", problem=problem or "none was made")
        done, self._done = self._done, _nothing
        done()


def _nothing() -> None:
    """Do nothing: the request was finished before."""


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
    """Return the traceback in the task if the failure has one, else the error's message."""
    if isinstance(error, TaskError) and error.traceback_text.strip():
        return error.traceback_text
    return f"{type(error).__name__}: {error}"
