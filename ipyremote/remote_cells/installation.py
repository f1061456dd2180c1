"""The adaptation of one process to user code of a notebook: what is shown there goes to a `Reporter`.

`install` needs nothing but the reporter, so it works in a process of any engine. It changes, until `undo`:

- `sys.stdout` and `sys.stderr`, which report text;
- the built-in `display`, IPython's functions that publish, and the figures of matplotlib (`display.py`, `figures.py`);
- the bars of tqdm (`progress_bars.py`), and `IPython.get_ipython` while a cell runs (`shell.py`);
- `input`, `getpass` and `breakpoint`, which say that there is no keyboard, where there is none (`keyboard.py`);
- with `redirect` also descriptors 1 and 2, so that text of C code and of other programs is reported.

A process may be more than a worker, such as that of the notebook itself. There, with `shared`, only what tasks show is
reported, each function does for other code what it did before, and the parts that cannot tell one from the other stay
as they are: figures, `tqdm.notebook` and the keyboard.

Not undone: matplotlib's choice of a backend without a screen, and what user code has kept of ours, such as a reference
to `sys.stdout`. Modules are adapted when user code imports them; nothing is imported for it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Generic, TypeVar

from ipyremote.backend.reporter import Reporter
from ipyremote.remote_cells import keyboard
from ipyremote.remote_cells.changes import Changes
from ipyremote.remote_cells.display import Displays
from ipyremote.remote_cells.output import OutputCapture
from ipyremote.remote_cells.progress_bars import Bars
from ipyremote.remote_cells.shell import adapt_ipython

__all__ = ["Installation", "install"]

Task = TypeVar("Task", bound=Hashable)

#: Seconds between two looks at what waits, while anything does.
_SOON: Final = 0.02
#: Seconds between two looks at the redirected descriptors, while nothing waits.
_SELDOM: Final = 0.25
#: Number of bytes in the file of the redirected descriptors from which the file is emptied.
_LOG_LIMIT: Final = 64 << 20

#: The task that code in the present thread or coroutine runs for, by `Installation.running`.
_running: ContextVar[Any] = ContextVar("ipyremote_task", default=None)


class Installation(Generic[Task]):
    """What `install` has put into this process. Thread-safe, except for `undo`."""

    def __init__(
        self,
        reporter: Reporter[Task],
        owner: Callable[[], Task] | None,
        wake: Callable[[], None],
        *,
        shared: bool = False,
    ) -> None:
        self._reporter = reporter
        self._shared = shared
        self._changes = Changes()
        #: Tasks of `running` that have not ended, the newest last.
        self._tasks: list[Task] = []
        owner = owner or self._owner
        self.output: OutputCapture[Task] = OutputCapture(reporter, owner, wake, shared=shared)
        self.displays: Displays[Task] = Displays(reporter, owner, self.output, wake, shared=shared)
        self.bars: Bars[Task] = Bars(reporter, owner, self.output, wake, shared=shared)

    def _begin(self) -> None:
        self.displays.install(self._changes)
        self.bars.install(self._changes)
        adapt_ipython(self._changes)
        self.output.install(self._changes)
        if not self._shared:
            keyboard.install(self._changes)

    def _redirect(self) -> None:
        """Lead descriptors 1 and 2 to a file that is followed."""
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        made, path = tempfile.mkstemp(prefix="ipyremote-")
        os.close(made)
        # Appending: two descriptors, and other programs, write to the file.
        log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        os.unlink(path)
        try:
            for fd in (1, 2):
                former = os.dup(fd)
                self._changes.on_undo(partial(_lead_back, fd, former))
                os.dup2(log, fd)
            self.output.follow(log)
        finally:
            os.close(log)

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        """Report that a task starts, what code in this block shows, and that the task has ended.

        Several tasks may run at a time, in threads or coroutines of their own. An engine that gives `install` an
        `owner` of its own, and learns of starts and ends otherwise, has no use for this.
        """
        token = _running.set(task)
        self._tasks.append(task)
        self._reporter.started(task)
        try:
            yield
        finally:
            self.output.collect()
            self.output.finish(task)
            self._tasks.remove(task)
            _running.reset(token)
            self._reporter.finished(task)

    def _owner(self) -> Any:
        """Return the task of the calling code; None outside of tasks."""
        task = _running.get()
        if task is None and self._tasks and not self._shared:
            # A thread that user code has started, or one of ours that reads what other programs wrote.
            with contextlib.suppress(IndexError):  # the last task has just ended
                return self._tasks[-1]
        return task

    def preview(self, task: Task, value: Any) -> None:
        """Report a look at the task's value."""
        from ipyremote.remote_cells.preview import preview  # most workers are never asked for one

        self._reporter.preview(task, preview(value))

    def send_late(self) -> bool:
        """Report what has waited long enough. Returns whether anything still waits, so that this is due again soon."""
        return self.output.send_late()

    def send_all(self) -> None:
        """Report all text that waits."""
        self.output.send_all()

    def undo(self) -> None:
        """Give the process back what `install` has changed. A second call does nothing."""
        self._changes.undo()
        self.output.unfollow()


def _lead_back(fd: int, former: int) -> None:
    os.dup2(former, fd)
    os.close(former)


class _Ticker:
    """A thread that calls `send_late` while anything waits, for engines that have no thread for it."""

    def __init__(self, *, follows: bool) -> None:
        #: `queue.SimpleQueue.put` is the one way to wake a thread that a finalizer may take, too.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        #: Whether a call is on its way already.
        self._called = False
        self._follows = follows
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have `send_late` called soon."""
        if not self._called:
            self._called = True
            self._calls.put(True)

    def start(self, installation: Installation[Any]) -> None:
        """Begin."""
        self._thread = threading.Thread(
            target=self._serve, args=(installation,), name="ipyremote-output", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._calls.put(False)
        if self._thread is not None:
            self._thread.join()

    def _serve(self, installation: Installation[Any]) -> None:
        soon = False
        while True:
            try:
                if not self._calls.get(timeout=_SOON if soon else _SELDOM if self._follows else None):
                    return
                self._called = False
            except queue.Empty:
                pass
            soon = installation.send_late()
            if self._follows:
                installation.output.cut_log(_LOG_LIMIT)


def install(
    reporter: Reporter[Task],
    *,
    owner: Callable[[], Task] | None = None,
    wake: Callable[[], None] | None = None,
    log: int | None = None,
    log_from_start: bool = False,
    redirect: bool = False,
    shared: bool = False,
) -> Installation[Task]:
    """Adapt this process, so that what its tasks show goes to `reporter`; see the module docstring.

    Parameters
    ----------
    reporter
        The engine's way to the driver.
    owner
        Returns the task that the calling code belongs to. Called on any thread for all that is shown, so it must be
        quick. By default the task of `Installation.running` in this thread or coroutine; in a thread that user code has
        started, the task that began last; None outside of tasks.
    wake
        Asks the engine to call `Installation.send_late` within some hundredths of a second, and again as long as it
        returns True. May be called by a finalizer, so it must not lock or wait. By default a thread of our own does it.
    log
        Descriptor of a file to which descriptors 1 and 2 of this process append already; its text is reported. The
        engine calls `send_late` now and then, and `Installation.output.collect` before a task's end.
    log_from_start
        Whether what is in `log` already is reported, too.
    redirect
        Lead descriptors 1 and 2 to a file of our own, and report its text. Not together with `log`.
    shared
        Whether code that belongs to no task runs in this process, too: where `owner` returns None, what is shown goes
        where it went before. A thread that user code has started belongs to no task then. Neither with `log` nor with
        `redirect`.

    Raises
    ------
    ValueError
        More than one of `log`, `redirect` and `shared` was given.
    """
    if (log is not None) + redirect + shared > 1:
        raise ValueError("install() takes a log, redirect=True or shared=True, and only one of them")
    ticker = _Ticker(follows=redirect or log is not None) if wake is None else None
    called = wake if ticker is None else ticker.wake
    assert called is not None, "one of the two is there"
    installation: Installation[Task] = Installation(reporter, owner, called, shared=shared)
    installation._begin()
    if redirect:
        installation._redirect()
    elif log is not None:
        installation.output.follow(log, from_start=log_from_start)
    if ticker is not None:
        ticker.start(installation)
        installation._changes.on_undo(ticker.stop)
    return installation
