"""The loop around the core: it reads all that is readable, lets the core decide, and performs the core's commands.

The scheduler owns the socket, the zygote, the clock and the session directory. It decides nothing about tasks, and
never looks into user data. The program has one thread and one loop:

    poll -> receive -> core.handle(events, now) -> perform -> flush

Rules.

- Each turn has one call of `core.handle` for all that arrived, so the core reacts to all events before it places a
  task.
- The core is told of a worker's greeting before all other messages of the worker, and of the worker's death after them.
- The session ends when its driver says so, is gone, or has closed its lifeline. Then every other process of the session
  and the session directory are gone before this process ends. The session also ends when the zygote is lost; then the
  directory stays, with the log, for the driver to read and remove.
- In a session that is kept alive, the core deals with the loss of the session's own driver as with the loss of any
  other driver. The core is told of the loss after all messages of the driver.
- An error in the loop costs the turn in which it happens, and ends the session only if turn after turn fails.
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
from ipyremote.ids import DRIVER, FIRST_JOINED_CLIENT, SCHEDULER, ClientId
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

#: Time that the zygote and the workers get to end, in seconds.
END_SECONDS: Final = 1.5
#: Time that the whole end of the session may take before the kernel ends this process, in seconds.
HARD_END_SECONDS: Final = 2.5
#: Additional time for the processes of environments, which end at the same time as the zygote, in seconds.
MORE_END_SECONDS: Final = 0.5
#: Number of failed turns in a row after which the session ends.
MAX_FAILED_TURNS: Final = 20
#: Pause after a failed turn, in seconds. Without the pause, turns that fail at once would burn a processor.
FAILED_TURN_SECONDS: Final = 0.05
#: Time until the next try when the socket to the zygote had no room for all requests, in seconds.
LINK_SECONDS: Final = 0.01
#: Thresholds of the garbage collector, high because its work would be in vain: the ledger may hold a million records,
#: and the core makes no reference cycles in its normal work.
GC_THRESHOLDS: Final = (100_000, 20, 20)


class Scheduler:
    """The scheduler of a session. `run` returns when the session is over."""

    def __init__(self, boot: Boot, link: ZygoteLink, core: Core, entry: str) -> None:
        """Serve the directory of `boot`. `link`: the socket to the zygote. `entry`: the function that workers run."""
        self._directory = SessionDirectory.attach(Path(boot.directory))
        self._journal = Journal()
        self._link = link
        self._workers = Workers(self._directory.path)
        self._environments = EnvironmentProcesses(boot, self._directory.path, entry)
        #: Key, link and reason of each environment that was lost and has workers that were not reported yet. The link
        #: is None for an environment whose process could not be started.
        self._lost: list[tuple[str, EnvironmentLink | None, str]] = []
        self._core = core
        #: Exit status of this process, once the session is over.
        self._status: int | None = None
        #: Clients that are gone and whose remaining segments were not removed yet.
        self._departed: list[ClientId] = []
        #: Whether the session may outlive its driver.
        self._keeps_alive = boot.keep_alive > 0
        #: Client id of each connected driver, by the driver's process file descriptor.
        self._drivers: dict[int, ClientId] = {}
        #: Time until which to wait for the last messages of each driver whose process has ended, by client id, in
        #: seconds.
        self._leaving: dict[ClientId, float] = {}
        #: Questions about kept sessions that arrived while a driver was leaving. They wait until the driver has left.
        self._asked: list[Received] = []
        #: Client ids of all drivers that have left.
        self._left: set[ClientId] = set()
        self._lifeline = Lifeline(boot.lifeline)
        # The descriptor stays open until this process ends, and its end tells the driver so.
        os.set_inheritable(boot.alive, False)
        self._server = Server(
            self._directory.socket_path, boot.secret, admit=self._admit, log=self._journal.write
        )
        self._wake = _wake_on(signal.SIGTERM)
        self._poll = select.poll()
        #: Function to call when a descriptor is readable. The server's socket is not here, because every turn reads it.
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
        """Serve the session to its end. Returns the exit status for the process."""
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        failed = 0
        # The first turn waits for nothing, so that the core starts the first workers at once.
        gather: Callable[[], list[Event]] = partial(list, (Tick(),))
        while self._status is None:
            try:
                self._turn(gather())
                failed = 0
            except Exception:
                # This is a bug in ipyremote. The session goes on if it can, because it holds the user's objects.
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
            # A client that is gone leaves segments that it kept for reuse, or had made and not announced yet.
            client_id = self._departed.pop()
            keep, on_disk = self._core.segments(client_id), self._core.spilled(client_id)
            reap(self._directory.path, client_id, keep, on_disk)

    def _gather(self) -> list[Event]:
        """Wait until something happens, and return the events."""
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
        """Return how long the poll may take, in milliseconds."""
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
                # The driver had only joined the session, which goes on without this driver.
                self._unwatch_driver(client_id)
                self._forget_driver(client_id, events)
            elif isinstance(message, Kept) and self._leaving:
                self._asked.append(Received(client_id, message))
            else:
                events.append(Received(client_id, message))
        for fault in self._server.faults():
            if self._workers.is_known(fault.client_id):
                # The lost message may have been a result. The tasks of this worker must not hang for ever.
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
        # Ids of tasks and objects contain the driver's number, and those of the former driver may still be in use.
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
        # The lifeline alone is not enough: a child that the driver forked has a copy of it, and may outlive the driver.
        try:
            fd = os.pidfd_open(hello.pid)
        except (OSError, AttributeError) as error:
            # This system cannot watch processes, or the driver has ended already. The end of the session's own driver
            # is told by its lifeline.
            if isinstance(error, ProcessLookupError) and hello.client_id != DRIVER:
                self._on_driver_ended(hello.client_id, time.monotonic())
            return
        self._drivers[fd] = hello.client_id
        self._listen(fd, lambda events, now: self._on_driver_ended(hello.client_id, now))

    def _unwatch_driver(self, client_id: ClientId) -> None:
        for fd in [fd for fd, driver in self._drivers.items() if driver == client_id]:
            self._ignore(fd)
            del self._drivers[fd]
            os.close(fd)

    def _on_lifeline_cut(self, events: list[Event], now: float) -> None:
        self._ignore(self._lifeline.fileno())
        self._on_driver_ended(DRIVER, now)

    def _on_driver_ended(self, client_id: ClientId, now: float) -> None:
        self._unwatch_driver(client_id)
        if client_id == DRIVER and not self._keeps_alive:
            # The session ends at once, whatever state the core is in.
            self._status = 0
        elif client_id not in self._left:
            self._leaving.setdefault(client_id, now + LAST_FRAMES_SECONDS)

    def _collect_leavers(self, events: list[Event], now: float) -> None:
        """Forget the drivers that have ended and from which no more messages can come."""
        for client_id, overdue in list(self._leaving.items()):
            if now < overdue and self._server.is_connected(client_id):
                continue
            # The connection is closed, so all messages of the driver are in the queue now.
            self._receive(events)
            if self._server.readable() and now < overdue:
                continue
            if client_id in self._leaving:
                self._forget_driver(client_id, events)
        if self._asked and not self._leaving:
            events += self._asked
            self._asked.clear()

    def _forget_driver(self, client_id: ClientId, events: list[Event]) -> None:
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
        """Report the lost environments whose workers were all reported."""
        for lost in self._lost[:]:
            key, link, reason = lost
            if link is None or not self._workers.are_left(link):
                self._lost.remove(lost)
                events.append(EnvironmentLost(key, reason))

    def _collect_exits(self, events: list[Event], now: float) -> None:
        """Report the workers that have ended and from which no more messages can come."""
        for worker_id in self._workers.ended():
            overdue = self._workers.is_overdue(worker_id, now)
            if not overdue and self._server.is_connected(worker_id):
                continue
            # The connection is closed, so all messages of the worker are in the queue now.
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
            # The system may have no descriptors or processes left, for example.
            self._lost.append((environment.key, None, f"its process could not be started: {error}"))
            return
        self._listen(link.fileno(), partial(self._on_environment, link))

    def _end(self) -> None:
        """End every process of the session, and remove its files."""
        # The kernel ends this process after a while, even if this process hangs. The zygote then sees the end of file
        # on its socket.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, HARD_END_SECONDS)
        # After an orderly end nobody reads messages any more.
        self._server.close(0 if self._status == 0 else LINGER_MS)
        self._environments.hang_up()
        status = self._link.end(END_SECONDS)
        self._environments.end(MORE_END_SECONDS)
        if status:
            self._journal.write(f"the process that starts the workers ended with wait status {status}")
        if self._status == 0 or self._lifeline.is_cut():
            self._directory.remove()


def _wake_on(number: signal.Signals) -> int:
    """Return a descriptor that becomes readable when the signal arrives. A handler alone would not interrupt a poll."""
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    signal.signal(number, lambda number, frame: None)
    return wake
