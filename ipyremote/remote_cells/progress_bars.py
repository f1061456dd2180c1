"""`tqdm` in a worker: its bars are reported as `Progress`, not drawn as text.

Bars that write to the worker's own stdout or stderr are; those that write to a file of the user's, and disabled ones,
are left alone. `tqdm.write` stays text. `tqdm.notebook` has no notebook here: its bars are plain ones. The class
`tqdm.std.tqdm` is adapted when it is imported, so whatever builds on it is adapted as well. Rules.

- A bar gets its number in its task when it is first shown, so bars that enclose others have smaller numbers.
- Bars in the same row of a task share a pace (see `pacing.py`). One that was closed before anybody heard of it may give
  way to the next in its row, so that a thousand short inner bars are not a thousand messages.
- When a task ends, its open bars are closed as they are. A bar that goes on in another task, as in an actor, is a new
  bar there.
- What closes a bar may be a finalizer, of the bar or of a generator, anywhere in our own code too. It only appends to
  `_ended`; the report follows soon after.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ipyremote.messages import Progress
from ipyremote.remote_cells.import_hooks import after_import
from ipyremote.remote_cells.output import OutputCapture, TextStream
from ipyremote.remote_cells.rate_limit import Pacer

__all__ = ["Bars"]


class _Bar:
    """A bar of a task, as it was reported."""

    __slots__ = ("announced", "number", "row", "source", "state", "task_id")

    def __init__(self, source: Any, task_id: int, number: int) -> None:
        self.task_id = task_id
        self.number = number
        #: Its pace; a bar may move on screen later.
        self.row = abs(int(getattr(source, "pos", 0) or 0))
        self.source = weakref.ref(source)
        #: Its latest state.
        self.state = self.look(source)
        #: Whether it was ever sent.
        self.announced = False

    def look(self, source: Any, *, closed: bool = False) -> Progress:
        """The state of the bar now."""
        scale = getattr(source, "unit_scale", False)
        factor = 1.0 if isinstance(scale, bool) or not scale else float(scale)
        total = source.total
        self.state = Progress(
            self.task_id,
            self.number,
            _description(source),
            float(source.n) * factor,
            -1.0 if total is None else float(total) * factor,
            str(source.unit or ""),
            closed,
        )
        return self.state

    def give_up(self) -> None:
        """Its task has ended: it is closed as it is."""
        source = self.source()
        if source is not None:
            self.look(source, closed=True)
        else:
            last = self.state
            self.state = Progress(
                last.task_id, last.bar, last.description, last.done, last.total, last.unit, closed=True
            )


def _description(source: Any) -> str:
    # tqdm itself adds the colon.
    words = str(source.desc or "").strip().removesuffix(":")
    postfix = str(source.postfix or "")
    return f"{words}, {postfix}" if words and postfix else words or postfix


class Bars:
    """All bars of a worker. Any thread."""

    def __init__(
        self,
        owner: Callable[[], int],
        output: OutputCapture,
        send: Callable[[Progress], None],
        wake: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._output = output
        self._send = send
        self._wake = wake
        self._pacer: Pacer[Progress] = Pacer(self._deliver, wake)
        #: Open bars by task and number, and the number of the last bar of each task.
        self._open: dict[int, dict[int, _Bar]] = {}
        self._numbers: dict[int, int] = {}
        #: Bars that were closed, or whose tqdm was collected as garbage.
        self._ended: deque[_Bar] = deque()
        self._pid = os.getpid()
        output.attach(self)

    def install(self) -> None:
        """Adapt tqdm, now or when it is imported."""
        after_import("tqdm.std", self._adapt)
        after_import("tqdm.notebook", _adapt_notebook)

    def takes(self, source: Any) -> bool:
        """Whether a tqdm draws on this worker's own streams."""
        stream = getattr(source, "fp", None)
        return isinstance(getattr(stream, "_wrapped", stream), TextStream) and os.getpid() == self._pid

    def show(self, source: Any) -> None:
        """A tqdm wants to be drawn."""
        self._close_ended()
        bar = vars(source).get("_ipyremote_bar")
        if bar is None or bar.number not in self._open.get(bar.task_id, ()):
            bar = source._ipyremote_bar = self._begin(source)
        self._pacer.post(bar.task_id, bar.row, bar.look(source))

    def end(self, source: Any) -> None:
        """A tqdm was closed or is collected as garbage."""
        bar = vars(source).get("_ipyremote_bar")
        if bar is not None:
            bar.look(source, closed=True)
            self._ended.append(bar)
            self._wake()

    def send_late(self) -> bool:
        """Send what has waited long enough. True: something still waits."""
        self._close_ended()
        return self._pacer.send_late()

    def finish(self, task_id: int) -> None:
        """The task has ended: everybody hears the last of its bars."""
        self._close_ended()
        for bar in list(self._open.get(task_id, {}).values()):
            bar.give_up()
            self._close(bar)
        self._pacer.finish(task_id)
        self._open.pop(task_id, None)
        self._numbers.pop(task_id, None)

    def _begin(self, source: Any) -> _Bar:
        task_id = self._owner()
        self._output.showing.add(task_id)
        number = self._numbers[task_id] = self._numbers.get(task_id, 0) + 1
        bar = _Bar(source, task_id, number)
        self._open.setdefault(task_id, {})[number] = bar
        return bar

    def _close(self, bar: _Bar) -> None:
        if self._open.get(bar.task_id, {}).pop(bar.number, None) is None:
            return
        self._pacer.post(bar.task_id, bar.row, bar.state, now=bar.announced)

    def _close_ended(self) -> None:
        with contextlib.suppress(IndexError):  # another thread took the last one
            while self._ended:
                self._close(self._ended.popleft())

    def _deliver(self, state: Progress) -> None:
        bar = self._open.get(state.task_id, {}).get(state.bar)
        if bar is not None:
            bar.announced = True
        self._send(state)

    def _adapt(self, module: ModuleType) -> None:
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
                # It says nothing more to its stream.
                self.sp = None
                bars.end(self)
            close(self)

        def collect_bar(self: Any) -> None:
            if not getattr(self, "disable", True) and bars.takes(self):
                # Without tqdm's own locks; its registry forgets the bar by itself.
                self.disable = True
                bars.end(self)
            else:
                collect(self)

        for name, method in {
            "display": display,
            "clear": clear_bar,
            "moveto": moveto,
            "close": close_bar,
            "__del__": collect_bar,
        }.items():
            method.__name__ = name
            setattr(kind, name, method)


def _adapt_notebook(module: ModuleType) -> None:
    """There is no notebook in a worker: its class is replaced by a plain one that takes the same arguments."""
    std: Any = __import__("tqdm.std", fromlist=["tqdm"]).tqdm

    class tqdm_notebook(std):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("display", None)
            super().__init__(*args, **options)

    tqdm_notebook.__module__ = module.__name__
    vars(module).update(tqdm_notebook=tqdm_notebook, tqdm=tqdm_notebook)
