"""The channel between a client and the scheduler: sending, receiving, waiting, and the end.

Threads. `lock` guards the connection and all tables of the client; it is held for microseconds and never while user
code runs. A thread that waits reads the socket itself (`wait_until`); while no thread waits, the thread of
`io_thread.py` reads it. Deliveries to the listener happen in order under `_delivery`, and a waiting thread passes
through that lock before it goes on, so a task's text is out before the task's result is.

Interrupts. A KeyboardInterrupt may strike the main thread between any two bytecodes. Handling a message is therefore
repeatable, and a frame is forgotten only after its last message was handled (see `wire/connection.py`).

Finalizers only append ids to `released`; the next `flush` releases the ids.
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
from ipyremote.ids import NOBODY, ClientId, ObjectId, TaskId, minus
from ipyremote.store.segments import SegmentStore
from ipyremote.wire.connection import Connection

__all__ = ["Channel", "SchedulerOwner", "WorkerHooks"]

T = TypeVar("T")

#: Number of messages with which a batch is sent at once.
BATCH: Final = 64
#: Time since the last flush after which a message is sent at once, in seconds.
BATCH_SECONDS: Final = 0.001
#: Longest sleep of a thread that waits alone, in seconds. Another thread may have read its messages.
SLICE_SECONDS: Final = 0.02
#: Longest sleep of a thread that waits beside others, in seconds.
CROWDED_SLICE_SECONDS: Final = 0.002
#: Number of slices after which a thread that waits alone dozes: it sleeps in long slices, until a thread that has read
#: the socket nudges it.
PATIENT_SLICES: Final = 15
#: Longest sleep of a thread that dozes, in seconds.
LONG_SLICE_SECONDS: Final = 0.5


class SchedulerOwner(Protocol):
    """The part of this process that started the scheduler."""

    def cancel_start(self) -> bool:
        """End the scheduler if it has not begun to listen. Returns whether it was ended."""

    def stop(self) -> None:
        """Wait for the end of the scheduler, to which the client has said goodbye, and clean up."""

    def explain_end(self) -> str:
        """Return what is known about an unexpected end of the scheduler, and clean up."""


class WorkerHooks(Protocol):
    """The worker around a client. Its methods are called with the lock held, unless they say otherwise."""

    def connect(self, link: Channel) -> None:
        """Take the channel for all replies. Called before every other method, without the lock."""

    def on_message(
        self, message: m.Define | m.RunTask | m.Recall | m.CancelRun | m.Exit | m.StreamDemand
    ) -> None:
        """Take note of a message that only workers get. Must be repeatable."""

    def hand_back(self) -> tuple[TaskId, ...]:
        """Give up the runs that have not started, because the running task is about to wait. Returns their ids."""

    def before_call(self) -> None:
        """Send the task's text so far, because its code is about to submit something. Called without the lock."""

    def attend(self) -> bool:
        """Do periodic work on the io thread, without the lock. Returns whether to call again within 20 ms."""

    def on_lost(self) -> NoReturn:
        """End the process, because the scheduler is gone."""


class Channel:
    """The connection of one client with its lock, tables and io thread. The module's docstring has the rules."""

    def __init__(
        self,
        *,
        client_id: ClientId,
        socket_path: str,
        secret: bytes,
        store: SegmentStore,
        alive: int,
        owner: SchedulerOwner | None,
        host: WorkerHooks | None,
    ) -> None:
        """`alive` is a file descriptor that becomes readable (end of file) when the scheduler is gone."""
        self.lock = threading.Lock()
        self.objects = Objects()
        #: Ids of which a ref or mapping has died, once for each such death.
        self.released: deque[ObjectId] = deque()
        #: Worker around this client; None in a driver.
        self.host = host
        self._store = store
        self._alive = alive
        self._owner = owner
        self._pid = os.getpid()
        self._delivery = threading.RLock()
        #: Messages for the listener, in order, to be delivered as soon as the lock is free.
        self._deliveries: deque[Delivery] = deque()
        self._console = PlainListener()
        self.listener: Listener = self._console
        #: Replies that nobody has taken yet, by request number.
        self.replies: dict[int, m.Reply] = {}
        #: Reason why the channel cannot be used any more; empty while it can.
        self.ended = ""
        self._lost = False
        self._forked = False
        self._last_flush = 0.0
        #: Idents of the threads inside `wait_until`. Adding to a set and discarding from it are atomic and repeatable.
        self.waiting_threads: set[int] = set()
        #: Ident of the thread that waits in long slices, or 0.
        self.dozing_thread = 0
        #: Number of turns of `pump`.
        self.pumps = 0
        #: `pumps` after the last turn of the io thread.
        self._pumps_known = -1
        #: Process id of the scheduler; 0 until the scheduler has greeted.
        self.scheduler_pid = 0
        if host is not None:
            # Before the greeting, because the reply to the greeting may be a task already.
            host.connect(self)
        with contextlib.ExitStack() as on_error:
            #: Ends the long slice of the thread that dozes.
            self._nudge = Wakeup()
            on_error.callback(self._nudge.close)
            self.connection = Connection(
                socket_path, secret, m.Hello(client_id, self._pid, "worker" if host else "driver")
            )
            on_error.callback(self.connection.close, quickly=True)
            #: Mover of segments to disk.
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
        """Queue a message. `now`: send it at once, without waiting for further messages."""
        with self.lock:
            self.connection.queue(message)
            if now:
                self._last_flush = time.monotonic()
                self.flush()
            else:
                self.after_queue()

    def after_queue(self) -> None:
        """Send at once if the last flush was BATCH_SECONDS ago or a batch is full. Needs the lock."""
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
        """Have the io thread look for work soon."""
        self._io_thread.wake_if_asleep()

    def flush(self) -> None:
        """Send the queued messages, and handle all messages that have arrived. Needs the lock.

        The socket's descriptor does not become readable again for the messages that have arrived.
        """
        connection = self.connection
        if self.released:
            # Released with each batch, so that a loop that puts and drops large values can reuse their memory.
            gone = self.objects.count_down(self.released)
            if gone:
                connection.queue(m.Release(tuple(gone)))
        while True:
            connection.flush()
            for message in connection.messages():
                self._handle(message)
            # Handling may have queued replies.
            if not connection.unsent:
                break
        if self.dozing_thread and self.dozing_thread != threading.get_ident():
            self._nudge.set()

    # --------------------------------------------------------------------------------------------------- receiving

    def pump(self) -> None:
        """Do one turn of releasing, sending and receiving. Needs the lock."""
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
        # Requests share the waiters with objects: their numbers are smaller than the ids of all objects.
        request = ObjectId(message.request)
        for waiter in self.objects.waiters:
            waiter.resolve(request, False)

    def _on_object_ready(self, object_id: ObjectId, value: Value) -> None:
        if object_id in self.objects.counts:
            self.objects.resolve(object_id, value)
            if object_id in self.objects.streams:
                self.objects.resolve(minus(object_id), STEP)
        elif self.host is not None:
            self.objects.prefetched[object_id] = value
        elif type(value) is m.Failure:
            # The object's last ref died while the failure was on its way.
            self.objects.on_failure(object_id, value)

    def prefetched_value(self, object_id: ObjectId) -> Value | None:
        """Return a value that was sent ahead of its run or is here anyway; None if there is none. Needs the lock."""
        return self.objects.prefetched.get(object_id) or self.objects.ready.get(object_id)

    def forget_prefetched(self) -> None:
        """Forget the values that were sent ahead, after the run has taken them. Needs the lock."""
        self.objects.prefetched.clear()

    def deliver(self) -> None:
        """Deliver the listener's messages, then run the due callbacks. Called without the lock."""
        # The lock is taken even if there is nothing to deliver: another thread may be in the middle of a delivery that
        # must be over before the caller goes on with its result.
        with self._delivery:
            while self._deliveries:
                deliver(self._deliveries.popleft(), self.listener)
        due = self.objects.due
        while due:
            with contextlib.suppress(IndexError):  # another thread took the last one
                callback, object_id = due.popleft()
                _call(callback, object_id)

    def listen(self, listener: Listener | None) -> None:
        """Deliver to this listener from now on, or to stdout and stderr if it is None."""
        self.listener = listener or self._console

    # ----------------------------------------------------------------------------------------------------- waiting

    def call_locked(self, function: Callable[[], T]) -> T:
        """Return `function()`, called with the lock held. Does not read the socket."""
        with self.lock:
            return function()

    def wait_for(self, waiter: Waiter, deadline: float | None) -> None:
        """Wait until the waiter is done, the deadline (monotonic) has passed, or the channel has ended."""
        self.wait_until(lambda: waiter.done, deadline)

    def wait_until(self, condition: Callable[[], bool], deadline: float | None = None) -> None:
        """Read the socket until `condition()` is true, the deadline (monotonic) has passed, or the channel has ended.

        `condition` is called with the lock held.
        """
        poller = self.poller()
        poller.register(self._nudge.fd, select.POLLIN)
        thread = threading.get_ident()
        slices = 0
        try:
            self.waiting_threads.add(thread)
            while True:
                with self.lock:
                    self.pump()
                    done = condition()
                self.deliver()
                if done or self.ended:
                    return
                slices += 1
                if len(self.waiting_threads) > 1:
                    seconds = CROWDED_SLICE_SECONDS
                elif slices < PATIENT_SLICES:
                    seconds = SLICE_SECONDS
                elif self.dozing_thread == thread:
                    seconds = LONG_SLICE_SECONDS
                else:
                    # A thread that read the socket before this line gave no nudge, so look once more.
                    self.dozing_thread = thread
                    continue
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                    seconds = min(seconds, left)
                self.watch_alive(poller.poll(seconds * 1000))
        finally:
            self.waiting_threads.discard(thread)
            if self.dozing_thread == thread:
                self.dozing_thread = 0
                self._io_thread.wake_if_asleep()

    def block(self, task_id: TaskId, done: Callable[[], bool]) -> TaskId:
        """Report that the running task waits, so that its CPU is free for others until `Unblocked` is sent.

        Hands back the runs that have not started in this worker. Returns the task's id, or 0 if nothing was reported,
        because no task runs here or `done()`, which is called with the lock held, is true already.
        """
        host = self.host
        with self.lock:
            if host is None or not task_id or done():
                return NOBODY
            self.connection.queue(m.Blocked(task_id, host.hand_back()))
            self.flush()
        return task_id

    def step(self, seconds: float) -> None:
        """Read the socket once, after waiting at most so many seconds for a message."""
        deadline = time.monotonic() + seconds
        pumps = self.pumps
        self.wait_until(lambda: self.pumps > pumps + 1, deadline)
        self.check()

    def poller(self) -> select.poll:
        """Return a poll object for the socket and the end of the scheduler."""
        poller = select.poll()
        poller.register(self.connection.fd, select.POLLIN)
        poller.register(self._alive, select.POLLIN)
        return poller

    def watch_alive(self, events: list[tuple[int, int]]) -> None:
        """Handle the end of the scheduler, or a nudge, if it is among these events of `poll`."""
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
            is_dozing=lambda: bool(self.dozing_thread),
            has_unsent=lambda: connection.unsent > 0,
            # In a worker, programs that a task has started may have written something.
            needs_sweeps=lambda: bool(objects.counts or released) or self.host is not None,
            attend=self._attend,
        )

    def _others_read(self) -> bool:
        """Return whether another thread has read the socket since the last call, or reads the socket now."""
        pumps, self._pumps_known = self._pumps_known, self.pumps
        return bool(self.waiting_threads) or self.pumps != pumps

    def _attend(self, events: list[tuple[int, int]]) -> bool:
        """Do the work that is due after these events. Returns whether work is due again soon."""
        self.watch_alive(events)
        if self.ended:
            return False
        soon = self.host is not None and self.host.attend()
        if self.connection.unsent or not self.waiting_threads:
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
            reason = self._owner.explain_end() if self._owner is not None else ""
            self._lost = True
            self.ended = (
                f"The cluster is gone: its scheduler (pid {self.scheduler_pid}) ended unexpectedly. "
                f"Call init() to start a new cluster; results that were not fetched are lost.{reason}"
            )
            self.objects.fail_callbacks(m.Failure("cluster_lost", self.ended))
        self.listener.on_lost(self.ended)
        self.deliver()

    def on_forked(self) -> None:
        """End this copy of a channel in a forked child, which must not touch its parent's sockets."""
        self._forked = True
        self.ended = (
            f"This process (pid {os.getpid()}) was forked from a process with an ipyremote session (pid {self._pid}), "
            "and cannot use that session. Start work from the original process, or pass results back to it."
        )

    def leave(self) -> None:
        """Close the channel of a process that is about to exit while the session goes on. Queued messages arrive."""
        self._io_thread.stop()
        with self.lock:
            self.ended = "This process is about to exit, and has left its session."
            self.connection.close()
            self._close_nudge()

    def _close_nudge(self) -> None:
        # A thread that waits in a long slice wakes, and finds that the channel has ended.
        self._nudge.set()
        self._nudge.close()

    def close(self) -> None:
        """End the session that this client has started. Idempotent; does nothing in a forked child."""
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
            self.connection.close(
                quickly=self._lost or (self._owner is not None and self._owner.cancel_start())
            )
            self.objects.fail_callbacks(m.Failure("cluster_lost", self.ended))
        self.deliver()
        with self.lock:
            self.objects.ready.clear()
            self.objects.callbacks.clear()
        if self._owner is not None:
            self._owner.stop()
        with self.lock:
            self._close_nudge()


def _call(callback: Callable[[ObjectId], None], object_id: ObjectId) -> None:
    try:
        callback(object_id)
    except Exception:  # the callback's error, which must not reach the thread that happens to deliver
        traceback.print_exc()


#: Channels of this process, which are told when the process is forked.
_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _after_fork() -> None:
    for channel in list(_channels):
        channel.on_forked()


os.register_at_fork(after_in_child=_after_fork)

if sys.platform == "win32":
    raise ImportError(
        "ipyremote needs a Unix system, such as Linux: its processes are tied together by Unix pipes and sockets"
    )
