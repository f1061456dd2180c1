"""The thread that reads the socket and sends late batches while no other thread waits in the channel.

It sleeps in `poll` and costs nothing while nothing happens. While other threads wait in it they read the
socket themselves, at the price of one wake-up instead of two; this thread then parks and looks every few milliseconds
whether it is needed again.

It is started with an empty contextvars context: front ends route a thread's output by the context in which it started,
and this thread serves all cells.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import select
import threading
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipyremote.client.channel import Channel

__all__ = ["Background"]

#: How long to stay out of the way after another thread has read the socket, in seconds.
PARK_SECONDS: Final = 0.005
#: The same, while that thread waits in long slices; it ends this sleep when it goes on.
DOZE_MS: Final = 500
#: How long a queued message may wait for company, in milliseconds.
LATE_MS: Final = 1
#: Turns of LATE_MS without anything to send before the thread sleeps until it is woken.
QUIET_TURNS: Final = 10
#: How often to call `Channel.attend` while it asks for that, in milliseconds.
ATTEND_MS: Final = 20
#: How often to look for ids from finalizers while there are refs, in milliseconds.
SWEEP_MS: Final = 100


class Background:
    """See the module docstring. It is part of the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asleep = False
        #: Whether it sleeps until something happens, because there was nothing to look for.
        self.endless = False
        #: Turns since there was something to send.
        self._quiet = QUIET_TURNS
        self._stopping = threading.Event()
        context = contextvars.Context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="ipyremote-io", daemon=True
        )
        self._thread.start()

    def wake_if_asleep(self) -> None:
        """There is a batch to be sent in a millisecond. Cheap when the thread is up anyway."""
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the thread and wait for it. Idempotent; not to be called from the thread itself."""
        if self._wake < 0:
            return
        # Repeated as a whole if an interrupt struck in the middle of it.
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        wake, self._wake = self._wake, -1
        os.close(wake)

    def _run(self) -> None:
        channel = self._channel
        poller = channel.poller()
        poller.register(self._wake, select.POLLIN)
        wake = select.poll()
        wake.register(self._wake, select.POLLIN)
        pumps = -1
        soon = False
        while not (self._stopping.is_set() or channel.ended):
            if channel.callers or channel.pumps != pumps:
                pumps = channel.pumps
                if channel.dozing:
                    try:
                        self._doze(wake)
                    except Exception:  # as below
                        traceback.print_exc()
                else:
                    self._stopping.wait(PARK_SECONDS)
                continue
            # Say so before looking, so that whoever queues after the look wakes this thread.
            self._asleep = True
            self._quiet = 0 if channel.connection.unsent else self._quiet + 1
            if self._quiet < QUIET_TURNS:
                # More will come: to be woken for each batch would cost the submitting thread more than these turns.
                self._asleep = False
                timeout: int | None = LATE_MS
            elif soon:
                timeout = ATTEND_MS
            else:
                # Say so before looking, as above: whoever has the first ref made wakes this thread.
                self.endless = True
                # In a worker, programs that a task started may have written something.
                due = channel.objects.counts or channel.released or channel.host is not None
                timeout = SWEEP_MS if due else None
                self.endless = not due
            events = poller.poll(timeout)
            self._asleep = self.endless = False
            if self._stopping.is_set():
                return
            try:
                soon = self._attend(events)
            except Exception:  # of a callback, say, or a stream that was closed: others need this thread
                traceback.print_exc()
                soon = True
            pumps = channel.pumps

    def _doze(self, wake: select.poll) -> None:
        """Sleep until the thread that waits goes on, or until somebody else has something to send."""
        channel = self._channel
        # Say so before looking, as below.
        self._asleep = True
        if channel.dozing and not channel.connection.unsent and not self._stopping.is_set():
            wake.poll(DOZE_MS)
        self._asleep = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        if self._stopping.is_set():
            return
        channel.attend()
        if channel.connection.unsent:
            with channel.lock:
                channel.pump()
            channel.deliver()

    def _attend(self, events: list[tuple[int, int]]) -> bool:
        """Do what is due. True: something is due again soon."""
        channel = self._channel
        for fd, _ in events:
            if fd == self._wake:
                os.eventfd_read(self._wake)
                self._quiet = 0
        channel.watch_alive(events)
        if channel.ended:
            return False
        soon = channel.attend()
        if channel.connection.unsent or not channel.callers:
            with channel.lock:
                channel.pump()
            channel.deliver()
        return soon
