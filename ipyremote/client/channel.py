"""The channel between a client and the scheduler: sending, receiving, waiting, and the end.

Threads. `lock` guards the connection and all tables of the client; it is held for microseconds and never while user
code runs. Whoever waits reads the socket itself (`wait_until`); while nobody waits, the thread of `io_thread.py` does.
Deliveries to the listener happen in order under `_delivery`, and whoever waits passes through that lock before it goes
on, so a task's text is out before its result is.

Interrupts. A KeyboardInterrupt may strike the main thread between any two bytecodes. Handling a message is therefore
repeatable, and a frame is forgotten only after its last message was handled (see `wire/connection.py`).

Finalizers only append to `released`; the ids are worked off at the next turn.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, Protocol, TypeVar

from ipyremote import messages as m
from ipyremote.backend import Listener
from ipyremote.client.io_thread import IoThread
from ipyremote.client.listener_dispatch import Delivery, deliver
from ipyremote.client.objects import STEP, Objects, Value
from ipyremote.client.spilling import Spiller
from ipyremote.client.waiting import Waiter
from ipyremote.client.wakeup import Wakeup
from ipyremote.engine_kit.console_listener import PlainListener
from ipyremote.exceptions import ClusterLostError
from ipyremote.store.segments import SegmentStore
from ipyremote.wire.connection import Connection

__all__ = ["Channel", "Owner", "WorkerHooks"]

T = TypeVar("T")

#: A batch is sent when it has so many messages or is so old (seconds).
BATCH: Final = 64
BATCH_SECONDS: Final = 0.001
#: A waiting thread looks again at least so often: its messages may have been read by another thread.
SLICE_SECONDS: Final = 0.02
CROWDED_SLICE_SECONDS: Final = 0.002
#: A thread that has waited alone for so many slices goes on in long ones: it dozes, until nudged by who has read.
PATIENT_SLICES: Final = 15
LONG_SLICE_SECONDS: Final = 0.5


class Owner(Protocol):
    """Whoever started the scheduler, from the client's point of view."""

    def call_off(self) -> bool:
        """End a scheduler that has not begun to listen; whether it was one."""

    def stop(self) -> None:
        """The client said goodbye: see the scheduler end, and clean up."""

    def obituary(self) -> str:
        """What is known about an unexpected end of the scheduler; cleans up as well."""


class WorkerHooks(Protocol):
    """The worker around a client: gets the messages that only workers get. Called with the lock held."""

    def connect(self, link: Channel) -> None:
        """Answer through this channel. Comes before everything else, without the lock."""

    def on_message(
        self, message: m.Define | m.RunTask | m.Recall | m.CancelRun | m.Exit | m.StreamDemand
    ) -> None:
        """Take note; must be repeatable."""

    def hand_back(self) -> tuple[int, ...]:
        """The running task is about to wait: give up the tasks that have not started."""

    def before_call(self) -> None:
        """Code here submits something, without the lock: its text so far goes first."""

    def attend(self) -> bool:
        """Called by the background thread now and then, without the lock. True: again within 20 ms."""

    def on_lost(self) -> NoReturn:
        """The scheduler is gone."""


class Channel:
    """See the module docstring."""

    def __init__(
        self,
        *,
        client_id: int,
        socket_path: str,
        secret: bytes,
        store: SegmentStore,
        alive: int,
        owner: Owner | None,
        host: WorkerHooks | None,
    ) -> None:
        """`alive`: a file descriptor that becomes readable (end of file) when the scheduler is gone."""
        self.lock = threading.Lock()
        self.objects = Objects()
        #: Ids whose ref or mapping died.
        self.released: deque[int] = deque()
        self.host = host
        self._store = store
        self._alive = alive
        self._owner = owner
        self._pid = os.getpid()
        self._delivery = threading.RLock()
        #: For the listener, in order, as soon as the lock is free.
        self._deliveries: deque[Delivery] = deque()
        self._plain = PlainListener()
        self.listener: Listener = self._plain
        #: Replies that nobody has taken yet, by request number.
        self.replies: dict[int, m.Reply] = {}
        #: Why the channel cannot be used any more; empty while it can.
        self.ended = ""
        self._lost = False
        self._forked = False
        self._last_flush = 0.0
        #: Threads inside `wait_until`. A set of their idents: adding and discarding are atomic and repeatable.
        self.callers: set[int] = set()
        #: Ident of the thread that waits in long slices, or 0.
        self.dozing = 0
        #: Number of turns of `pump`.
        self.pumps = 0
        #: `pumps` after the last turn of the io thread.
        self._pumps_known = -1
        #: Process id of the scheduler, once it has greeted.
        self.scheduler_pid = 0
        if host is not None:
            # Before the greeting: the answer to it may be a task already.
            host.connect(self)
        with contextlib.ExitStack() as on_error:
            #: Ends the long slice of the thread that dozes.
            self._nudge = Wakeup()
            on_error.callback(self._nudge.close)
            self.connection = Connection(
                socket_path, secret, m.Hello(client_id, self._pid, "worker" if host else "driver")
            )
            on_error.callback(self.connection.close, quickly=True)
            #: Moves segments to disk.
            self.spiller = Spiller(store.disk, partial(self.send, now=True))
            self._io_thread = self._make_io_thread()
            on_error.callback(self._io_thread.stop)
            self._io_thread.start()
            on_error.pop_all()
        _channels.add(self)

    # ----------------------------------------------------------------------------------------------------- sending

    def check(self) -> None:
        """Raise ClusterLostError unless the channel can be used."""
        if self.ended:
            raise ClusterLostError(self.ended)

    def send(self, message: m.FromClient, *, now: bool = False) -> None:
        """Queue a message; `now`: do not wait for company."""
        with self.lock:
            self.connection.queue(message)
            if now:
                self._last_flush = time.monotonic()
                self.flush()
            else:
                self.after_queue()

    def after_queue(self) -> None:
        """Send at once when nothing was sent lately, else when there is enough. Needs the lock."""
        now = time.monotonic()
        if self.connection.unsent >= BATCH or now - self._last_flush >= BATCH_SECONDS:
            self._last_flush = now
            self.flush()
            if not self._io_thread.endless:
                return
        self._io_thread.wake_if_asleep()

    def reply(self, message: m.FromClient) -> None:
        """Queue a message while a message is being handled. Needs the lock."""
        self.connection.queue(message)
        self._io_thread.wake_if_asleep()

    def wake(self) -> None:
        """Have the background thread attend to things soon."""
        self._io_thread.wake_if_asleep()

    def flush(self) -> None:
        """Send, and handle what arrived meanwhile (the socket's descriptor will not tell again). Needs the lock."""
        connection = self.connection
        if self.released:
            # With each batch: a loop that puts and drops large values finds the memory of the last ones recycled.
            gone = self.objects.count_down(self.released)
            if gone:
                connection.queue(m.Release(tuple(gone)))
        while True:
            connection.flush()
            for message in connection.messages():
                self._handle(message)
            # Handling may have queued answers.
            if not connection.unsent:
                break
        if self.dozing and self.dozing != threading.get_ident():
            self._nudge.set()

    # --------------------------------------------------------------------------------------------------- receiving

    def pump(self) -> None:
        """Everything that is due: releases, sends, receives. Needs the lock."""
        self.pumps += 1
        if self.ended:
            return
        self._last_flush = time.monotonic()
        self.flush()

    def _handle(self, message: m.ToClient) -> None:
        """Take note of one message. Repeatable; needs the lock."""
        match message:
            case m.ObjectReady(object_id, value):
                self._on_object_ready(object_id, value)
            case m.StreamItem(task_id, index, object_id, item):
                if not self.objects.add_item(task_id, index, object_id, item):
                    self.reply(m.Release((object_id,)))
            case m.OutputText() | m.DisplayContent() | m.ProgressUpdate() | m.TaskUpdate() | m.Notice():
                self._deliveries.append(message)
            case m.DropSegments(segments):
                on_disk = tuple(name for name in segments if not self._store.recycle(name))
                if on_disk:
                    self.spiller.take(on_disk)
            case m.Evict(segments):
                self._store.evict(segments)
            case m.Spill():
                self.spiller.take(message)
            case m.Trim():
                self._store.trim()
            case m.Welcome():
                self.scheduler_pid = message.pid
            case m.Define() | m.RunTask() | m.Recall() | m.CancelRun() | m.Exit() | m.StreamDemand():
                if self.host is not None:
                    self.host.on_message(message)
            case _:
                self._on_reply(message)

    def _on_reply(self, message: m.Reply) -> None:
        self.replies[message.request] = message
        # Requests share the waiters with objects: the ids of requests are negative.
        for waiter in self.objects.waiters:
            waiter.resolve(-message.request, False)

    def _on_object_ready(self, object_id: int, value: Value) -> None:
        if object_id in self.objects.counts:
            self.objects.resolve(object_id, value)
            if object_id in self.objects.streams:
                self.objects.resolve(-object_id, STEP)
        elif self.host is not None:
            self.objects.ahead[object_id] = value
        elif type(value) is m.Failure:
            # Its last ref died on the way.
            self.objects.on_failure(object_id, value)

    def take_ahead(self, object_id: int) -> Value | None:
        """A value that came ahead of its run, or one that is here anyway. Needs the lock."""
        return self.objects.ahead.get(object_id) or self.objects.ready.get(object_id)

    def forget_ahead(self) -> None:
        """The run has taken its values. Needs the lock."""
        self.objects.ahead.clear()

    def deliver(self) -> None:
        """Tell the listener, then run callbacks. Without the lock."""
        # Taken also when there is nothing to deliver: another thread may be in the middle of a delivery that precedes
        # what the caller waited for.
        with self._delivery:
            while self._deliveries:
                deliver(self._deliveries.popleft(), self.listener)
        due = self.objects.due
        while due:
            with contextlib.suppress(IndexError):  # another thread took the last one
                callback, object_id = due.popleft()
                _call(callback, object_id)

    def listen(self, listener: Listener | None) -> None:
        """Deliver to this listener from now on; None: to stdout and stderr."""
        self.listener = listener or self._plain

    # ----------------------------------------------------------------------------------------------------- waiting

    def holds(self, condition: Callable[[], T]) -> T:
        """`condition()` with the lock held, without reading the socket."""
        with self.lock:
            return condition()

    def wait_for(self, waiter: Waiter, deadline: float | None) -> None:
        """Wait until the waiter is done, the deadline (monotonic) has passed, or the channel has ended."""
        self.wait_until(lambda: waiter.done, deadline)

    def wait_until(self, condition: Callable[[], bool], deadline: float | None = None) -> None:
        """Read the socket until `condition()`, which is called with the lock held, or the deadline, or the end."""
        poller = self.poller()
        poller.register(self._nudge.fd, select.POLLIN)
        thread = threading.get_ident()
        slices = 0
        try:
            self.callers.add(thread)
            while True:
                with self.lock:
                    self.pump()
                    done = condition()
                self.deliver()
                if done or self.ended:
                    return
                slices += 1
                if len(self.callers) > 1:
                    seconds = CROWDED_SLICE_SECONDS
                elif slices < PATIENT_SLICES:
                    seconds = SLICE_SECONDS
                elif self.dozing == thread:
                    seconds = LONG_SLICE_SECONDS
                else:
                    # Whoever read the socket before this line gave no nudge, so look once more.
                    self.dozing = thread
                    continue
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                    seconds = min(seconds, left)
                self.watch_alive(poller.poll(seconds * 1000))
        finally:
            self.callers.discard(thread)
            if self.dozing == thread:
                self.dozing = 0
                self._io_thread.wake_if_asleep()

    def block(self, task_id: int, done: Callable[[], bool]) -> int:
        """Report that the running task waits: its CPU is free for others until `Unblocked` is sent.

        Hands back the runs that have not started in this worker. Returns the task's id, or 0 if nothing was reported,
        because no task runs here or `done()`, which is called with the lock held, is true already.
        """
        host = self.host
        with self.lock:
            if host is None or not task_id or done():
                return 0
            self.connection.queue(m.Blocked(task_id, host.hand_back()))
            self.flush()
        return task_id

    def step(self, seconds: float) -> None:
        """Read the socket once, waiting at most so long for something to come."""
        deadline = time.monotonic() + seconds
        pumps = self.pumps
        self.wait_until(lambda: self.pumps > pumps + 1, deadline)
        self.check()

    def poller(self) -> select.poll:
        """What a thread polls before it looks again."""
        poller = select.poll()
        poller.register(self.connection.fd, select.POLLIN)
        poller.register(self._alive, select.POLLIN)
        return poller

    def watch_alive(self, events: list[tuple[int, int]]) -> None:
        """Notice the end of the scheduler among what `poll` gave."""
        for fd, _ in events:
            if fd == self._alive:
                self._on_lost()
            elif fd == self._nudge.fd:
                self._nudge.clear()

    # --------------------------------------------------------------------------------------------- on the io thread

    def _make_io_thread(self) -> IoThread:
        objects, released, connection = self.objects, self.released, self.connection
        return IoThread(
            poller=self.poller,
            has_ended=lambda: bool(self.ended),
            others_read=self._others_read,
            is_dozing=lambda: bool(self.dozing),
            has_unsent=lambda: connection.unsent > 0,
            # In a worker, programs that a task has started may have written something.
            needs_sweeps=lambda: bool(objects.counts or released) or self.host is not None,
            attend=self._attend,
        )

    def _others_read(self) -> bool:
        """Return whether another thread has read the socket since the last call, or reads the socket now."""
        pumps, self._pumps_known = self._pumps_known, self.pumps
        return bool(self.callers) or self.pumps != pumps

    def _attend(self, events: list[tuple[int, int]]) -> bool:
        """Do what is due after these events. True: something is due again soon."""
        self.watch_alive(events)
        if self.ended:
            return False
        soon = self.host is not None and self.host.attend()
        if self.connection.unsent or not self.callers:
            with self.lock:
                self.pump()
            self.deliver()
        self._pumps_known = self.pumps
        return soon

    # ------------------------------------------------------------------------------------------------------ the end

    def _on_lost(self) -> None:
        with self.lock:
            if self.ended:
                return
            if self.host is not None:
                self.host.on_lost()
            reason = self._owner.obituary() if self._owner is not None else ""
            self._lost = True
            self.ended = (
                f"The cluster is gone: its scheduler (pid {self.scheduler_pid}) ended unexpectedly. "
                f"Call init() to start a new one; results that were not fetched are lost.{reason}"
            )
            self.objects.fail_callbacks(m.Failure("cluster_lost", self.ended))
        self.listener.on_lost(self.ended)
        self.deliver()

    def on_forked(self) -> None:
        """This is a copy in a forked child: it must not touch the sockets of its parent."""
        self._forked = True
        self.ended = (
            f"This process (pid {os.getpid()}) was forked from one with an ipyremote session (pid {self._pid}), "
            "which it cannot use. Start work from the original process, or pass results back to it."
        )

    def leave(self) -> None:
        """This process is about to exit, and the session goes on: what it has said must arrive."""
        self._io_thread.stop()
        with self.lock:
            self.ended = "This process is leaving."
            self.connection.close()
            self._close_nudge()

    def _close_nudge(self) -> None:
        # A thread that waits in a long slice looks up, and finds that the channel has ended.
        self._nudge.set()
        self._nudge.close()

    def close(self) -> None:
        """End the session that this client has started. Idempotent; nothing in a forked child."""
        if self._forked:
            return
        with self.lock:
            if not self.ended:
                self.connection.queue(m.Bye())
                self.connection.flush()
                self.ended = "The session was shut down: refs and handles made in it are not valid any more."
        self._io_thread.stop()
        self.spiller.close()
        with self.lock:
            self.connection.close(quickly=self._lost or (self._owner is not None and self._owner.call_off()))
            self.objects.fail_callbacks(m.Failure("cluster_lost", self.ended))
        self.deliver()
        with self.lock:
            self.objects.ready.clear()
            self.objects.callbacks.clear()
        if self._owner is not None:
            self._owner.stop()
        with self.lock:
            self._close_nudge()


def _call(callback: Callable[[int], None], object_id: int) -> None:
    try:
        callback(object_id)
    except Exception:  # somebody else's error: whoever happens to deliver must not get it
        traceback.print_exc()


#: The channels of this process, to be told when it is forked.
_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _after_fork() -> None:
    for channel in list(_channels):
        channel.on_forked()


os.register_at_fork(after_in_child=_after_fork)

if sys.platform == "win32":
    raise ImportError(
        "ipyremote needs a Unix system, such as Linux: its processes are tied together by Unix pipes and sockets"
    )
