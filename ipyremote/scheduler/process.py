"""The shell around the core: reads all that is readable, lets the core decide, performs its commands.

It owns the socket, the zygote, the clock and the session directory. It decides nothing that concerns tasks, and never
looks into user data. One thread, one loop:

    poll -> receive -> core.handle(events, now) -> perform -> flush

Rules.

- One `core.handle` for all that arrived in a turn: the core reacts to all of it before it places anything.
- A worker's death is told to the core after everything that the worker had sent, and its greeting before.
- The session ends when its driver says so, is gone, or has closed its lifeline: then every process of it and its
  directory are gone before this process is. It also ends when the zygote is lost; then the directory stays, with the
  log, for the driver to read and remove.
- Where the session is kept alive, the loss of its driver is the core's to deal with, like that of any other driver. The
  core is told after everything that the driver had sent.
- An error in here costs the turn in which it happens, not the session, unless it comes back turn after turn.
"""

from __future__ import annotations

import gc
import math
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from ipyremote.core import Core
from ipyremote.core.commands import (
    CloseEnvironment,
    Command,
    DropSegment,
    Log,
    OpenEnvironment,
    Quit,
    Send,
    StartWorker,
    StopWorker,
)
from ipyremote.core.events import (
    ClientGone,
    ClientJoined,
    EnvironmentLost,
    EnvironmentOpened,
    Event,
    Received,
    Tick,
    WorkerStarted,
)
from ipyremote.ids import DRIVER, FIRST_JOINED_CLIENT, SCHEDULER
from ipyremote.messages import Boot, Bye, EnvironmentSpec, Exit, Hello, Kept, Notice, Welcome
from ipyremote.scheduler.environments import EnvironmentLink, EnvironmentProcesses
from ipyremote.scheduler.journal import Journal
from ipyremote.scheduler.link import ZygoteLink
from ipyremote.scheduler.workers import LAST_FRAMES_POLL, LAST_FRAMES_SECONDS, Workers
from ipyremote.store.directory import SessionDirectory
from ipyremote.store.segments import reap, unlink
from ipyremote.wire.lifeline import Lifeline
from ipyremote.wire.server import LINGER_MS, Server

__all__ = ["Scheduler"]

#: The zygote and the workers get so many seconds to die, and the whole end of the session so many.
END_SECONDS: Final = 1.5
HARD_END_SECONDS: Final = 2.5
#: The processes of environments, which end at the same time, get so many more.
MORE_END_SECONDS: Final = 0.5
#: After so many turns in a row that failed, the session is beyond help.
MAX_FAILED_TURNS: Final = 20
#: The pause after a failed turn, so that one that fails at once does not burn a processor.
FAILED_TURN_SECONDS: Final = 0.05
#: How soon to try again when the zygote had no room for all requests.
LINK_SECONDS: Final = 0.01
#: The ledger may hold a million records, which the garbage collector would visit again and again for nothing: the core
#: makes no reference cycles in its normal work.
GC_THRESHOLDS: Final = (100_000, 20, 20)


class Scheduler:
    """The session's scheduler. `run` returns when the session is over."""

    def __init__(self, boot: Boot, link: ZygoteLink, core: Core, entry: str) -> None:
        """`entry`: what workers run, as for the zygote at the other end of `link`."""
        self._directory = SessionDirectory.attach(Path(boot.directory))
        self._journal = Journal()
        self._link = link
        self._workers = Workers(self._directory.path)
        self._environments = EnvironmentProcesses(boot, self._directory.path, entry)
        #: Environments that were lost, whose workers were not all reported yet: key, link, why.
        self._lost: list[tuple[str, EnvironmentLink | None, str]] = []
        self._core = core
        #: The exit status, once the session is over.
        self._status: int | None = None
        #: Clients that are gone and whose segments have not been looked through.
        self._departed: list[int] = []
        #: Whether the session may outlive its driver.
        self._keeps_alive = boot.keep_alive > 0
        #: Process file descriptor of each connected driver, and the driver's number.
        self._drivers: dict[int, int] = {}
        #: Drivers whose process has ended, and how long to wait for the last that they sent.
        self._leaving: dict[int, float] = {}
        #: What was asked about the session's driver while one was leaving.
        self._asked: list[Received] = []
        #: All drivers that have left.
        self._left: set[int] = set()
        self._lifeline = Lifeline(boot.lifeline)
        # Held until the end of the process, which the driver learns by it.
        os.set_inheritable(boot.alive, False)
        self._server = Server(
            self._directory.socket_path, boot.secret, admit=self._admit, log=self._journal.write
        )
        self._wake = _wake_on(signal.SIGTERM)
        self._poll = select.poll()
        #: What to do when a descriptor is readable. The socket's is not among them: it is read in every turn.
        self._sources: dict[int, Callable[[list[Event], float], None]] = {}
        self._poll.register(self._server.fd, select.POLLIN)
        self._listen(link.fileno(), self._on_zygote)
        self._listen(self._lifeline.fileno(), self._on_lifeline_cut)
        self._listen(self._wake, self._on_signal)

    def _listen(self, fd: int, source: Callable[[list[Event], float], None]) -> None:
        self._sources[fd] = source
        self._poll.register(fd, select.POLLIN)

    def _ignore(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._sources[fd]

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> int:
        """Serve the session to its end; the exit status of the process."""
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        failed = 0
        # The first turn has nothing to wait for: it lets the core start the workers.
        gather: Callable[[], list[Event]] = partial(list, (Tick(),))
        while self._status is None:
            try:
                self._turn(gather())
                failed = 0
            except Exception:
                # A bug of ours. The session goes on if it can: the user's objects are in it.
                failed += 1
                self._journal.write(f"a turn of the loop failed:\n{traceback.format_exc()}")
                if failed == MAX_FAILED_TURNS:
                    self._status = 1
                time.sleep(FAILED_TURN_SECONDS)
            gather = self._gather
        self._end()
        return self._status

    def _turn(self, events: list[Event]) -> None:
        now = time.monotonic()
        if events:
            for command in self._core.handle(events, now):
                self._perform(command, now)
        self._server.flush()
        self._link.flush()
        for link in self._environments:
            link.flush()
        while self._departed:
            # Segments that it kept to use again, or made and did not come round to announce.
            client_id = self._departed.pop()
            keep, on_disk = self._core.segments(client_id), self._core.spilled(client_id)
            reap(self._directory.path, client_id, keep, on_disk)

    def _gather(self) -> list[Event]:
        """Wait until something happens; what has happened."""
        ready = self._poll.poll(self._timeout())
        now = time.monotonic()
        events: list[Event] = []
        for fd, _ in ready:
            source = self._sources.get(fd)
            if source is not None:
                source(events, now)
        self._receive(events)
        self._workers.tend(now)
        self._collect_exits(events, now)
        if self._lost:
            self._collect_lost(events)
        self._collect_leavers(events, now)
        deadline = self._core.deadline()
        if deadline is not None and deadline <= now:
            events.append(Tick())
        return events

    def _timeout(self) -> int:
        """Milliseconds that the poll may take."""
        if self._server.readable():
            return 0
        now = time.monotonic()
        due = self._workers.deadline(now)
        deadline = self._core.deadline()
        if deadline is not None and deadline < due:
            due = deadline
        if self._link.has_unsent or any(link.has_unsent for link in self._environments):
            due = min(due, now + LINK_SECONDS)
        if self._leaving or self._lost:
            due = min(due, now + LAST_FRAMES_POLL)
        return max(0, math.ceil((due - now) * 1000))

    # ----------------------------------------------------------------------------------------------- what has happened

    def _receive(self, events: list[Event]) -> None:
        for client_id, message in self._server.receive():
            if isinstance(message, Hello):
                self._on_greeting(message, events)
            elif isinstance(message, Bye) and client_id != self._core.owner:
                # A driver that only joined: the session goes on without it.
                self._unwatch_driver(client_id)
                self._forget_driver(client_id, events)
            elif isinstance(message, Kept) and self._leaving:
                self._asked.append(Received(client_id, message))
            else:
                events.append(Received(client_id, message))
        for fault in self._server.faults():
            if self._workers.is_known(fault.client_id):
                # What it wanted to say is lost, perhaps a result: its tasks must not hang.
                self._workers.kill(fault.client_id, f"it sent {fault.text}")
            else:
                notice = Notice(f"ipyremote lost a message: the scheduler received {fault.text}")
                self._server.send(fault.client_id, notice)

    def _admit(self, hello: Hello) -> str:
        if hello.role == "worker":
            return self._workers.refusal(hello.client_id)
        if hello.role != "driver":
            return "unknown role"
        if hello.client_id != DRIVER and not FIRST_JOINED_CLIENT <= hello.client_id < SCHEDULER:
            return "this number is not a driver's"
        # Ids with this number may be in use.
        return "this number was another driver's" if hello.client_id in self._left else ""

    def _on_greeting(self, hello: Hello, events: list[Event]) -> None:
        self._server.send(hello.client_id, Welcome(hello.client_id, os.getpid()))
        if hello.role == "worker":
            self._workers.greet(hello.client_id)
            events.append(WorkerStarted(hello.client_id, hello.pid))
        else:
            self._watch_driver(hello)
            events.append(ClientJoined(hello.client_id, hello.pid))

    def _watch_driver(self, hello: Hello) -> None:
        # Beside the lifeline: a child that the driver forked holds a copy of that, and may outlive it.
        try:
            fd = os.pidfd_open(hello.pid)
        except (OSError, AttributeError) as error:
            # Not to be watched on this system, or gone already. Of the first driver its lifeline tells that.
            if isinstance(error, ProcessLookupError) and hello.client_id != DRIVER:
                self._on_driver_ended(hello.client_id, time.monotonic())
            return
        self._drivers[fd] = hello.client_id
        self._listen(fd, lambda events, now: self._on_driver_ended(hello.client_id, now))

    def _unwatch_driver(self, client_id: int) -> None:
        for fd in [fd for fd, driver in self._drivers.items() if driver == client_id]:
            self._ignore(fd)
            del self._drivers[fd]
            os.close(fd)

    def _on_lifeline_cut(self, events: list[Event], now: float) -> None:
        self._ignore(self._lifeline.fileno())
        self._on_driver_ended(DRIVER, now)

    def _on_driver_ended(self, client_id: int, now: float) -> None:
        self._unwatch_driver(client_id)
        if client_id == DRIVER and not self._keeps_alive:
            # At once, and whatever state the core is in.
            self._status = 0
        elif client_id not in self._left:
            self._leaving.setdefault(client_id, now + LAST_FRAMES_SECONDS)

    def _collect_leavers(self, events: list[Event], now: float) -> None:
        """Forget the drivers that have ended and of which nothing more can come."""
        for client_id, overdue in list(self._leaving.items()):
            if now < overdue and self._server.is_connected(client_id):
                continue
            # As with a worker.
            self._receive(events)
            if self._server.readable() and now < overdue:
                continue
            if client_id in self._leaving:
                self._forget_driver(client_id, events)
        if self._asked and not self._leaving:
            events += self._asked
            self._asked.clear()

    def _forget_driver(self, client_id: int, events: list[Event]) -> None:
        self._leaving.pop(client_id, None)
        self._left.add(client_id)
        self._asked = [asked for asked in self._asked if asked.sender != client_id]
        self._server.forget(client_id)
        self._journal.write(f"driver {client_id} has left")
        events.append(ClientGone(client_id))
        self._departed.append(client_id)

    def _on_signal(self, events: list[Event], now: float) -> None:
        self._status = 0

    def _on_zygote(self, events: list[Event], now: float) -> None:
        self._workers.hear(self._link, now)
        if not self._link.is_lost:
            return
        why = "the process that starts the workers was lost"
        self._journal.write(f"{why}; the session ends")
        self._status = 1
        events.extend(self._workers.lose_all(self._link, why))

    def _on_environment(self, link: EnvironmentLink, events: list[Event], now: float) -> None:
        was_open = link.is_open
        self._workers.hear(link, now)
        if link.is_open and not was_open:
            events.append(EnvironmentOpened(link.key))
        if not link.is_lost:
            return
        self._ignore(link.fileno())
        self._workers.lose(link, "the process that had started it was lost", now)
        reason = self._environments.lose(link)
        if reason is not None:
            self._lost.append((link.key, link, reason))

    def _collect_lost(self, events: list[Event]) -> None:
        """Report the environments that were lost and whose workers were reported."""
        for lost in self._lost[:]:
            key, link, reason = lost
            if link is None or not self._workers.are_left(link):
                self._lost.remove(lost)
                events.append(EnvironmentLost(key, reason))

    def _collect_exits(self, events: list[Event], now: float) -> None:
        """Report the workers that have ended and of which nothing more can come."""
        for worker_id in self._workers.ended():
            overdue = self._workers.is_overdue(worker_id, now)
            if not overdue and self._server.is_connected(worker_id):
                continue
            # The connection is closed, so whatever it has sent is in the queue now.
            self._receive(events)
            if self._server.readable() and not overdue:
                continue
            self._server.forget(worker_id)
            exited = self._workers.report(worker_id)
            self._journal.write(f"worker {worker_id} has ended: {exited.end.text}")
            events.append(exited)
            self._departed.append(worker_id)

    # ----------------------------------------------------------------------------------------------------- what to do

    def _perform(self, command: Command, now: float) -> None:
        match command:
            case Send(to, message):
                self._server.send(to, message)
            case StartWorker(worker_id, key):
                link = self._environments.get(key) if key else self._link
                self._workers.start(worker_id, now, link)
            case StopWorker(worker_id, how):
                if how == "exit":
                    self._server.send(worker_id, Exit())
                self._workers.stop(worker_id, how, now)
            case OpenEnvironment(environment):
                self._open(environment)
            case CloseEnvironment(key):
                self._environments.close(key)
            case DropSegment(segments, where):
                unlink(self._directory.path, segments, where)
            case Log(text):
                self._journal.write(text)
            case Quit():
                self._status = 0
            case _:
                assert_never(command)

    def _open(self, environment: EnvironmentSpec) -> None:
        try:
            link = self._environments.open(environment)
        except OSError as error:
            # No descriptor or process is left, say.
            self._lost.append((environment.key, None, f"its process could not be started: {error}"))
            return
        self._listen(link.fileno(), partial(self._on_environment, link))

    def _end(self) -> None:
        """Take every process and file of the session away."""
        # A limit that holds even if this process hangs: the kernel's. The zygote sees the end of the socket then.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, HARD_END_SECONDS)
        # After an orderly end nobody listens any more.
        self._server.close(0 if self._status == 0 else LINGER_MS)
        self._environments.hang_up()
        status = self._link.end(END_SECONDS)
        self._environments.end(MORE_END_SECONDS)
        if status:
            self._journal.write(f"the process that starts the workers ended with wait status {status}")
        if self._status == 0 or self._lifeline.is_cut():
            self._directory.remove()


def _wake_on(number: signal.Signals) -> int:
    """A descriptor that becomes readable when the signal arrives: a handler alone would not interrupt a poll."""
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    signal.signal(number, lambda number, frame: None)
    return wake
