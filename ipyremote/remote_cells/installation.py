"""The adaptation of one process to user code of a notebook: text, displays and bars go to a `Reporter`.

`install` needs only the reporter, so it works in a process of any engine. Until `undo`, it changes:

- `sys.stdout` and `sys.stderr`, which report text;
- the built-in `display`, IPython's functions that publish, and the figures of matplotlib (`display.py`, `figures.py`);
- the bars of tqdm (`progress_bars.py`), and `IPython.get_ipython` while a cell runs (`shell.py`);
- `input`, `getpass` and `breakpoint`, which refuse in a process without a keyboard (`keyboard.py`);
- with `redirect` also descriptors 1 and 2, so that text of C code and of other programs is reported.

A process may be more than a worker, such as the process of the notebook itself. There, with `shared`, only the output
of tasks is reported, each function works for other code as before, and the parts that cannot tell tasks from other code
stay unchanged: figures, `tqdm.notebook` and the keyboard.

Not undone: matplotlib's choice of a backend without a screen, and objects of ours that user code has kept, such as a
reference to `sys.stdout`. Modules are adapted when user code imports them; no module is imported for its adaptation.
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

#: Time between two calls of `send_late` while reports wait, in seconds.
_SOON: Final = 0.02
#: Time between two reads of the redirected descriptors' file while no report waits, in seconds.
_SELDOM: Final = 0.25
#: Size above which the redirected descriptors' file is emptied, in bytes.
_LOG_LIMIT: Final = 64 << 20

#: Task of the present thread or coroutine, set by `Installation.running`.
_running: ContextVar[Any] = ContextVar("ipyremote_task", default=None)


class Installation(Generic[Task]):
    """The adaptation of this process by `install`. Thread-safe, except for `undo`."""

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
        #: Running tasks, the newest last.
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
        """Redirect descriptors 1 and 2 to a file whose text is reported."""
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        made, path = tempfile.mkstemp(prefix="ipyremote-")
        os.close(made)
        # In append mode, because two descriptors and other programs write to the file.
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
        """Report the start of a task, the output of the code in this block, and the end of the task.

        Several tasks may run at a time, in threads or coroutines of their own. An engine that gives `install` an
        `owner` of its own, and learns of starts and ends otherwise, does not need `running`.
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
            # The thread was started by user code, or is ours and reads the text of other programs.
            with contextlib.suppress(IndexError):  # the last task has just ended
                return self._tasks[-1]
        return task

    def preview(self, task: Task, value: Any) -> None:
        """Report a preview of the task's value."""
        from ipyremote.remote_cells.preview import (
            preview,
        )  # imported here, because most workers need no preview

        self._reporter.preview(task, preview(value))

    def send_late(self) -> bool:
        """Report output that has waited long enough. Returns whether output still waits, and another call is due."""
        return self.output.send_late()

    def send_all(self) -> None:
        """Report all waiting text."""
        self.output.send_all()

    def undo(self) -> None:
        """Undo the changes of `install`. A second call does nothing."""
        self._changes.undo()
        self.output.unfollow()


def _lead_back(fd: int, former: int) -> None:
    os.dup2(former, fd)
    os.close(former)


class _Ticker:
    """A thread that calls `send_late` while reports wait, for engines without a thread for such calls."""

    def __init__(self, *, follows: bool) -> None:
        #: True for a call of `send_late`, False for the end. Only `SimpleQueue.put` may be called by finalizers, too.
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        #: Whether the queue already has a call.
        self._called = False
        self._follows = follows
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have `send_late` called soon."""
        if not self._called:
            self._called = True
            self._calls.put(True)

    def start(self, installation: Installation[Any]) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._serve, args=(installation,), name="ipyremote-output", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for its end."""
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
    """Adapt this process, so that the output of its tasks goes to `reporter`; see the module docstring.

    Parameters
    ----------
    reporter
        The engine's way to the driver.
    owner
        Returns the task that the calling code belongs to. Called on any thread for all output, so `owner` must be
        quick. By default the task of `Installation.running` in this thread or coroutine; in a thread that user code has
        started, the task that began last; None outside of tasks.
    wake
        Asks the engine to call `Installation.send_late` within some hundredths of a second, and again as long as
        `send_late` returns True. May be called by a finalizer, so `wake` must not lock or wait. By default a thread of
        our own makes the calls.
    log
        Descriptor of a file to which descriptors 1 and 2 of this process append already; its text is reported. The
        engine calls `send_late` now and then, and `Installation.output.collect` before a task's end.
    log_from_start
        Whether the text that is in `log` already is reported, too.
    redirect
        Whether to redirect descriptors 1 and 2 to a file of our own, whose text is reported. Not together with `log`.
    shared
        Whether code that belongs to no task runs in this process, too: if `owner` returns None, output goes to its
        former place. A thread that user code has started then belongs to no task. Not together with `log` or
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
    assert called is not None, "there is a ticker if there is no `wake`"
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
