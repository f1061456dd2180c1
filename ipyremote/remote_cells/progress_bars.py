"""`tqdm` in a worker: its bars are reported as `BarState`, not drawn as text.

Bars that write to the worker's own stdout or stderr are reported; bars that write to a file of the user's, and disabled
bars, stay unchanged. `tqdm.write` writes text as before. `tqdm.notebook` has no notebook here, so its bars are plain
bars. The class `tqdm.std.tqdm` is adapted when it is imported, and with it the classes that derive from it. Rules.

- A bar gets its number in its task when it is first shown, so bars that enclose others have smaller numbers.
- Bars in the same row of a task share a pace (see `rate_limit.py`). A bar that was closed before it was ever reported
  may give way to the next bar in its row, so that a thousand short inner bars are not a thousand messages.
- When a task ends, its open bars are closed as they are. A bar that goes on in another task, as in an actor, is a new
  bar there.
- A bar may be closed by a finalizer, of the bar or of a generator, which can run in the middle of our own code. The
  finalizer only appends to `_ended`; the report follows soon after.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any, Generic, TypeVar

from ipyremote.backend.reporter import BarState, Reporter
from ipyremote.remote_cells.changes import Changes
from ipyremote.remote_cells.output import OutputCapture, TextStream
from ipyremote.remote_cells.rate_limit import Pacer

__all__ = ["Bars"]

Task = TypeVar("Task", bound=Hashable)


class _Bar(Generic[Task]):
    """A reported bar of a task."""

    __slots__ = ("announced", "number", "row", "source", "state", "task")

    def __init__(self, source: Any, task: Task, number: int) -> None:
        self.task = task
        self.number = number
        #: Row on screen when the bar began; bars in one row share a pace, and a bar may move later.
        self.row = abs(int(getattr(source, "pos", 0) or 0))
        #: Weak reference to the tqdm object.
        self.source = weakref.ref(source)
        #: Latest state of the bar.
        self.state = self.look(source)
        #: Whether any state of the bar was reported.
        self.announced = False

    def look(self, source: Any, *, closed: bool = False) -> BarState:
        """Return the state of the bar now."""
        scale = getattr(source, "unit_scale", False)
        factor = 1.0 if isinstance(scale, bool) or not scale else float(scale)
        total = source.total
        self.state = BarState(
            self.number,
            _description(source),
            float(source.n) * factor,
            None if total is None else float(total) * factor,
            str(source.unit or ""),
            closed,
        )
        return self.state

    def give_up(self) -> None:
        """Close the bar as it is, because its task has ended."""
        source = self.source()
        if source is not None:
            self.look(source, closed=True)
        else:
            self.state = dataclasses.replace(self.state, closed=True)


def _description(source: Any) -> str:
    # tqdm itself adds a colon to the description.
    words = str(source.desc or "").strip().removesuffix(":")
    postfix = str(source.postfix or "")
    return f"{words}, {postfix}" if words and postfix else words or postfix


class Bars(Generic[Task]):
    """All bars of a worker. Thread-safe."""

    def __init__(
        self,
        reporter: Reporter[Task],
        owner: Callable[[], Task],
        output: OutputCapture[Task],
        wake: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        """Report bars to `reporter`. `owner`, `wake` and `shared` are those of `output`."""
        self._owner = owner
        self._shared = shared
        self._output = output
        self._report = reporter.progress
        self._wake = wake
        self._pacer: Pacer[tuple[Task, BarState]] = Pacer(self._deliver, wake)
        #: Open bars by task and number.
        self._open: dict[Hashable, dict[int, _Bar[Task]]] = {}
        #: Number of the last bar of each task.
        self._numbers: dict[Hashable, int] = {}
        #: Bars that were closed, or whose tqdm object was collected as garbage.
        self._ended: deque[_Bar[Task]] = deque()
        self._pid = os.getpid()
        output.attach(self)

    def install(self, changes: Changes) -> None:
        """Adapt tqdm, now or when it is imported."""
        changes.after_import("tqdm.std", lambda module: self._adapt(module, changes))
        if not self._shared:
            changes.after_import("tqdm.notebook", lambda module: _adapt_notebook(module, changes))

    def takes(self, source: Any) -> bool:
        """Return whether a tqdm object belongs to a task and draws on this worker's own streams."""
        if self._shared and self._owner() is None and "_ipyremote_bar" not in vars(source):
            return False
        stream = getattr(source, "fp", None)
        return isinstance(getattr(stream, "_wrapped", stream), TextStream) and os.getpid() == self._pid

    def show(self, source: Any) -> None:
        """Report the state of a tqdm object that is to be drawn."""
        self._close_ended()
        bar: _Bar[Task] | None = vars(source).get("_ipyremote_bar")
        if bar is None or bar.number not in self._open.get(bar.task, ()):
            bar = source._ipyremote_bar = self._begin(source)
        self._pacer.post(bar.task, bar.row, (bar.task, bar.look(source)))

    def end(self, source: Any) -> None:
        """Note that a tqdm object was closed or is being collected as garbage."""
        bar = vars(source).get("_ipyremote_bar")
        if bar is not None:
            bar.look(source, closed=True)
            self._ended.append(bar)
            self._wake()

    def send_late(self) -> bool:
        """Report states that have waited long enough. Returns whether any state still waits."""
        self._close_ended()
        return self._pacer.send_late()

    def finish(self, task: Hashable) -> None:
        """Report the last state of all bars of a task that has ended."""
        self._close_ended()
        for bar in list(self._open.get(task, {}).values()):
            bar.give_up()
            self._close(bar)
        self._pacer.finish(task)
        self._open.pop(task, None)
        self._numbers.pop(task, None)

    def _begin(self, source: Any) -> _Bar[Task]:
        task = self._owner()
        self._output.showing.add(task)
        number = self._numbers[task] = self._numbers.get(task, 0) + 1
        bar = _Bar(source, task, number)
        self._open.setdefault(task, {})[number] = bar
        return bar

    def _close(self, bar: _Bar[Task]) -> None:
        if self._open.get(bar.task, {}).pop(bar.number, None) is None:
            return
        self._pacer.post(bar.task, bar.row, (bar.task, bar.state), now=bar.announced)

    def _close_ended(self) -> None:
        with contextlib.suppress(IndexError):  # another thread has taken the last bar
            while self._ended:
                self._close(self._ended.popleft())

    def _deliver(self, report: tuple[Task, BarState]) -> None:
        task, state = report
        bar = self._open.get(task, {}).get(state.number)
        if bar is not None:
            bar.announced = True
        self._report(task, state)

    def _adapt(self, module: ModuleType, changes: Changes) -> None:
        """Have the bars of a just imported `tqdm.std` reported."""
        kind: Any = module.tqdm
        bars = self
        draw, clear, move, close, collect = kind.display, kind.clear, kind.moveto, kind.close, kind.__del__

        def display(self: Any, msg: str | None = None, pos: int | None = None) -> Any:
            if not bars.takes(self):
                return draw(self, msg, pos)
            bars.show(self)
            return True

        def clear_bar(self: Any, nolock: bool = False) -> None:
            if not bars.takes(self):
                clear(self, nolock)

        def moveto(self: Any, n: int) -> None:
            if not bars.takes(self):
                move(self, n)

        def close_bar(self: Any) -> None:
            if not getattr(self, "disable", True) and bars.takes(self):
                # tqdm's own `close` then writes nothing to the stream.
                self.sp = None
                bars.end(self)
            close(self)

        def collect_bar(self: Any) -> None:
            if not getattr(self, "disable", True) and bars.takes(self):
                # tqdm's own finalizer would take locks; its registry forgets the bar without it.
                self.disable = True
                bars.end(self)
            else:
                collect(self)

        methods = {
            "display": display,
            "clear": clear_bar,
            "moveto": moveto,
            "close": close_bar,
            "__del__": collect_bar,
        }
        for name, method in methods.items():
            method.__name__ = name
        changes.replace(kind, **methods)


def _adapt_notebook(module: ModuleType, changes: Changes) -> None:
    """Replace the class of `tqdm.notebook`, which needs a notebook, by a plain one that takes the same arguments."""
    std: Any = importlib.import_module("tqdm.std").tqdm

    class tqdm_notebook(std):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("display", None)
            super().__init__(*args, **options)

    tqdm_notebook.__module__ = module.__name__
    changes.replace(module, tqdm_notebook=tqdm_notebook, tqdm=tqdm_notebook)
