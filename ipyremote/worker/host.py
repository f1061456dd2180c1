"""The queue of runs that were sent to this worker, between the threads that read the socket and the main thread.

Rules. Everything here happens under the session's lock, so a recalled or cancelled run has either started or never
will. A message may be handled twice (see `client/channel.py`): run numbers tell repetitions.

Cancelling. Python raises an exception in the main thread only through a signal handler. `SIGINT` is that signal: its
handler, which runs on the main thread itself between two bytecodes, raises KeyboardInterrupt only if user code of
exactly the cancelled run is on the stack. So a cancel that comes too late never hits the next task.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn, Protocol

from ipyremote.ids import ObjectId, TaskId
from ipyremote.messages import (
    CancelRun,
    Define,
    Exit,
    Failure,
    Inline,
    Recall,
    Returned,
    RunTask,
    Stored,
    StreamDemand,
    TaskDone,
)

__all__ = ["Assignment", "Host"]

#: Exit status of a worker whose scheduler is gone.
ORPHANED: Final = 70


class Link(Protocol):
    """The part of the session that the host needs. Every method is called with the session's lock held."""

    def reply(self, message: Returned | TaskDone) -> None:
        """Queue a message to the scheduler."""

    def prefetched_value(self, object_id: ObjectId) -> Inline | Stored | Failure | None:
        """Return and forget a value that came before the run that needs the value."""

    def forget_prefetched(self) -> None:
        """Forget all values that came ahead: the run has taken its own."""


class Assignment:
    """A run with all that it needs."""

    __slots__ = ("cancelled", "demand", "interrupt", "message", "on_demand", "values")

    def __init__(self, message: RunTask, values: tuple[Inline | Stored | Failure, ...]) -> None:
        self.message = message
        #: Values of the task's dependencies.
        self.values = values
        #: Whether the run was cancelled.
        self.cancelled = False
        #: Interrupts a call among several that run at a time; None where that is impossible.
        self.interrupt: Callable[[], object] | None = None
        #: Number of items that are wanted so far, as in `StreamDemand`; 0 also for a task that yields nothing.
        self.demand = message.spec.stream
        #: Called, with the session's lock held, when `demand` has changed.
        self.on_demand: Callable[[], object] | None = None


class Host:
    """The queue, what runs, and how to interrupt it; see the module docstring."""

    def __init__(self) -> None:
        self._queue: deque[Assignment] = deque()
        self._last_run = 0
        self._main = threading.main_thread().ident or 0
        self._leaving = False
        #: Whether code in this worker has decided to leave, so that no further run starts.
        self.has_left = False
        #: Whether cancelling a run interrupts it; else the run only learns of it when it asks.
        self.interrupts = True
        #: The run that the main thread is at, from the arguments to the report.
        self.current: Assignment | None = None
        #: Whether user code of `current` is on the main thread's stack.
        self.interruptible = False
        #: Whether this worker is an actor, whose calls are never handed back.
        self.is_actor = False
        #: Calls that run at a time with others, by task id.
        self._concurrent: dict[TaskId, Assignment] = {}
        #: Called, with the session's lock held, when there is something to do, for a thread that does not wait in the
        #: session.
        self.on_work: Callable[[], object] | None = None
        #: Payloads of functions and classes by digest, until they are loaded.
        self.payloads: dict[bytes, bytes] = {}
        self._link: Link | None = None
        self._late_text: Callable[[], bool] | None = None
        self._all_text: Callable[[], object] | None = None

    def connect(self, link: Link) -> None:
        """Answer messages through `link` from now on."""
        self._link = link

    def look_after(self, late_text: Callable[[], bool], all_text: Callable[[], object]) -> None:
        """Have `late_text` called now and then, soon again if it returns True; and `all_text` before submissions."""
        self._late_text = late_text
        self._all_text = all_text

    def before_call(self) -> None:
        """Send all text before code here submits a call, so that the text is shown before the text of that call."""
        if self._all_text is not None:
            self._all_text()

    def attend(self) -> bool:
        """Do what is due. The session's thread calls this now and then, soon again if it returns True."""
        return self._late_text is not None and self._late_text()

    @property
    def link(self) -> Link:
        """The session that messages are answered through."""
        if self._link is None:
            raise RuntimeError("the host is not connected to a session")
        return self._link

    # Called by the session, with its lock held.

    def on_message(self, message: Define | RunTask | Recall | CancelRun | Exit | StreamDemand) -> None:
        """Take note of a message that only workers get."""
        match message:
            case Define(digest, payload):
                self.payloads.setdefault(digest, payload)
            case RunTask():
                self._on_run_task(message)
            case Recall(task_ids):
                self._on_recall(frozenset(task_ids))
            case CancelRun(task_id, attempt):
                self._on_cancel(task_id, attempt)
            case StreamDemand(task_id, attempt, items):
                self._on_demand(task_id, attempt, items)
            case Exit():
                self._leaving = True
                self._tell()

    def hand_back(self) -> tuple[TaskId, ...]:
        """Return the tasks that have not started, because the running one waits; an actor keeps its calls."""
        if self.is_actor:
            return ()
        returned = tuple(run.message.spec.task_id for run in self._queue)
        self._queue.clear()
        return returned

    def on_lost(self) -> NoReturn:
        """End the process: with the scheduler, everyone is gone who could want a result."""
        os._exit(ORPHANED)

    def leave(self) -> None:
        """Leave on purpose. Runs that have not started never do; the caller tells the scheduler at once."""
        self.has_left = self._leaving = True
        self._queue.clear()
        self._tell()

    def refuse(self, run: Assignment) -> None:
        """Report a run that was cancelled and never starts."""
        spec = run.message.spec
        failure = Failure("task_cancelled", f"{spec.label} was cancelled before it started.")
        self.link.reply(TaskDone(spec.task_id, run.message.attempt, (failure,) * spec.returns))

    def _on_run_task(self, message: RunTask) -> None:
        if message.run <= self._last_run or self.has_left:
            return
        values = []
        for object_id, value in zip(message.spec.deps, message.values, strict=True):
            known = value if value is not None else self.link.prefetched_value(object_id)
            values.append(
                known or Failure("object_lost", f"An argument of {message.spec.label} did not arrive.")
            )
        self.link.forget_prefetched()
        self._queue.append(Assignment(message, tuple(values)))
        self._last_run = message.run
        self._tell()

    def _tell(self) -> None:
        if self.on_work is not None:
            self.on_work()

    def _on_recall(self, task_ids: frozenset[TaskId]) -> None:
        taken = [run for run in self._queue if run.message.spec.task_id in task_ids]
        for run in taken:
            self._queue.remove(run)
        self.link.reply(Returned(tuple(run.message.spec.task_id for run in taken)))

    def _on_cancel(self, task_id: TaskId, attempt: int) -> None:
        current = self.current
        if current is not None and _is(current, task_id, attempt):
            current.cancelled = True
            if self.interruptible and self.interrupts:
                signal.pthread_kill(self._main, signal.SIGINT)
            return
        concurrent = self._concurrent.get(task_id)
        if concurrent is not None and _is(concurrent, task_id, attempt):
            concurrent.cancelled = True
            if concurrent.interrupt is not None:
                concurrent.interrupt()
            return
        for run in self._queue:
            if _is(run, task_id, attempt):
                self._queue.remove(run)
                self.refuse(run)
                return

    def _on_demand(self, task_id: TaskId, attempt: int, items: int) -> None:
        current = () if self.current is None else (self.current,)
        for run in (*current, *self._concurrent.values(), *self._queue):
            if _is(run, task_id, attempt):
                run.demand = items
                if run.on_demand is not None:
                    run.on_demand()

    @property
    def running(self) -> tuple[Assignment, ...]:
        """The runs that have begun and were not reported yet. Any thread, without the lock."""
        # One step of the interpreter copies the values, so no other thread changes the dictionary meanwhile.
        concurrent = tuple(self._concurrent.values())
        current = self.current
        return concurrent if current is None else (current, *concurrent)

    # Called by the main thread.

    @property
    def empty(self) -> bool:
        """Whether no further run waits here."""
        return not self._queue

    def take(self) -> bool:
        """Make the next run `current`. Returns True if there is one or the worker should leave. Needs the lock."""
        if self._queue:
            self.current = self._queue.popleft()
            return True
        return self._leaving

    def take_one(self) -> Assignment | None:
        """Return the next run, to go on beside others, without making it `current`. Needs the session's lock."""
        if not self._queue:
            return None
        run = self._queue.popleft()
        self._concurrent[run.message.spec.task_id] = run
        return run

    def on_ended(self, run: Assignment) -> None:
        """Forget a run from `take_one` that has been reported. Needs the session's lock."""
        self._concurrent.pop(run.message.spec.task_id, None)

    @property
    def leaving(self) -> bool:
        """Whether to leave once all runs have ended."""
        return self._leaving

    def on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGINT on the main thread; see the module docstring."""
        current = self.current
        if current is not None and current.cancelled and self.interruptible:
            self.interruptible = False
            raise KeyboardInterrupt


def _is(run: Assignment, task_id: TaskId, attempt: int) -> bool:
    return run.message.spec.task_id == task_id and run.message.attempt == attempt
