"""The worker's side of the door: how a process that runs user code tells the notebook what its tasks show.

An engine implements `Reporter` once, over whatever channel its workers have to the driver. `remote_cells.install` takes
the reporter and adapts a process: from then on prints, displays, figures and progress bars of user code become calls
of these methods. The reporter's far end is the engine's half in the driver, which calls the `Listener` there.

Rules.

- Threads. Any thread may call any method, several threads at a time. The caller may hold locks of `remote_cells`, so a
  method must be quick, must not raise, print or run user code, and must not call back into `remote_cells`.
- Order. An engine delivers the reports of one task in the order of the calls, and before the task's result. Everything
  that a task has shown is reported before `finished` of that task is called; `preview` comes before it, too.
- Batches. The caller batches: text is gathered for some hundredths of a second, the states of one progress bar and the
  updates of one display are reported ten times a second at most, their last one always. An engine adds no delay.
- Bounds. A display is `DISPLAY_LIMIT` bytes at most. Text comes in pieces of 16,384 characters or a little more; only
  one `write` of user code that is longer than that makes a longer piece.
- A task is known by the engine's own key for it, which the caller never looks into. The engine chooses a key for text
  that no task has written, too.

Display. What a task shows that is not text is one JSON object in UTF-8, which needs no decoding on its way:

    {"kind": "display_data" | "update_display_data" | "clear_output",
     "data": {mime type: ...}, "metadata": {...}, "transient": {"display_id"?: str}, "wait"?: bool}
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, Protocol, TypeVar

from ipyremote.backend.records import BarState

__all__ = ["DISPLAY_LIMIT", "STDERR", "STDOUT", "BarState", "Reporter"]

#: Values of `stream` in `Reporter.text`.
STDOUT: Final = 1
STDERR: Final = 2
#: Size of the largest display, in bytes: a notebook that holds a larger one could hardly be opened.
DISPLAY_LIMIT: Final = 32 << 20

Task_contra = TypeVar("Task_contra", bound=Hashable, contravariant=True)


class Reporter(Protocol[Task_contra]):
    """Where the tasks of one process report to; see the module docstring for the rules.

    An engine that learns something in another way does nothing in the method for it: one whose scheduler starts each
    task need not be told by `started`.
    """

    def started(self, task: Task_contra) -> None:
        """User code of this task begins to run in this process."""

    def text(self, task: Task_contra, stream: int, text: str) -> None:
        """Pass on a piece of text, which can be encoded as UTF-8. `stream` is `STDOUT` or `STDERR`."""

    def display(self, task: Task_contra, content: bytes) -> None:
        """Pass on something that is not text; the module docstring draws `content`."""

    def progress(self, task: Task_contra, bar: BarState) -> None:
        """Pass on the state of a progress bar."""

    def preview(self, task: Task_contra, look: Mapping[str, Any]) -> None:
        """Pass on a look at the task's value; `remote_cells.preview` says what is in one."""

    def finished(self, task: Task_contra) -> None:
        """User code of this task has ended, and nothing that it has shown is left to report."""
