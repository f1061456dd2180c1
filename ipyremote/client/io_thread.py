"""The thread that reads the socket and sends late batches while no other thread waits in the channel.

The thread sleeps in `poll` and costs nothing while nothing happens. Threads that wait in the channel read the socket
themselves, which saves one wake-up of the two; meanwhile this thread parks, and looks every few milliseconds whether
the channel needs it again.

The thread starts with an empty contextvars context: front ends route a thread's output by the context in which the
thread started, and this thread serves all cells.
"""

from __future__ import annotations

import contextvars
import select
import threading
import traceback
from collections.abc import Callable
from typing import Final

from ipyremote.client.wakeup import Wakeup

__all__ = ["IoThread"]

#: Pause after another thread has read the socket, in seconds.
PARK_SECONDS: Final = 0.005
#: Longest sleep while another thread waits in long slices, in milliseconds. That thread ends the sleep when it goes on.
DOZE_MS: Final = 500
#: Longest time that a queued message waits for company, in milliseconds.
LATE_MS: Final = 1
#: Turns of LATE_MS without anything to send before the thread sleeps until somebody wakes it.
QUIET_TURNS: Final = 10
#: Pause between two calls of `attend` that the first call has asked for, in milliseconds.
ATTEND_MS: Final = 20
#: Pause between two looks for ids from finalizers while there are refs, in milliseconds.
SWEEP_MS: Final = 100


class IoThread:
    """The thread of one channel, which knows the channel by callables only."""

    def __init__(
        self,
        *,
        poller: Callable[[], select.poll],
        has_ended: Callable[[], bool],
        others_read: Callable[[], bool],
        is_dozing: Callable[[], bool],
        has_unsent: Callable[[], bool],
        needs_sweeps: Callable[[], bool],
        attend: Callable[[list[tuple[int, int]]], bool],
    ) -> None:
        """All callables are called on the thread itself, without any lock, from `start` on.

        `poller` makes a new poll object with the channel's descriptors. `others_read` returns whether another thread
        has read the socket since the last call, or reads it now; `is_dozing`, whether that thread waits in long slices.
        `needs_sweeps` returns whether the channel may have work that wakes no thread. `attend` does the work that is
        due after these events of `poll`, and returns whether work is due again soon.
        """
        self._open_poller = poller
        self._has_ended = has_ended
        self._others_read = others_read
        self._is_dozing = is_dozing
        self._has_unsent = has_unsent
        self._needs_sweeps = needs_sweeps
        self._attend = attend
        self._wake = Wakeup()
        self._asleep = False
        #: Whether the thread sleeps without a time limit, because `needs_sweeps` had nothing for it.
        self.endless = False
        #: Turns since there was something to send.
        self._quiet = QUIET_TURNS
        self._stopping = threading.Event()
        context = contextvars.Context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="ipyremote-io", daemon=True
        )

    def start(self) -> None:
        """Begin to serve the channel, whose attributes must all exist by now."""
        self._thread.start()

    def wake_if_asleep(self) -> None:
        """Have the thread look for something to send within a millisecond. Cheap while the thread is awake."""
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def stop(self) -> None:
        """End the thread, if it has started, and wait for its end. Idempotent; not for the thread itself."""
        # A caller that is interrupted between these lines calls `stop` again, so each line can be repeated.
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._wake.close()

    def _run(self) -> None:
        poller = self._open_poller()
        poller.register(self._wake.fd, select.POLLIN)
        wake = select.poll()
        wake.register(self._wake.fd, select.POLLIN)
        soon = False
        while not (self._stopping.is_set() or self._has_ended()):
            if self._others_read():
                if self._is_dozing():
                    self._doze(wake)
                else:
                    self._stopping.wait(PARK_SECONDS)
                continue
            # Set before the look at the queue, so that a thread that queues after the look wakes this thread.
            self._asleep = True
            self._quiet = 0 if self._has_unsent() else self._quiet + 1
            if self._quiet < QUIET_TURNS:
                # More messages will come, and a wake-up for each batch would cost the submitting thread more than
                # these turns.
                self._asleep = False
                timeout: int | None = LATE_MS
            elif soon:
                timeout = ATTEND_MS
            else:
                # Set before the look at the refs, so that a thread that makes the first ref wakes this thread.
                self.endless = True
                due = self._needs_sweeps()
                timeout = SWEEP_MS if due else None
                self.endless = not due
            events = poller.poll(timeout)
            self._asleep = self.endless = False
            if self._stopping.is_set():
                return
            soon = self._serve(events)

    def _doze(self, wake: select.poll) -> None:
        """Sleep until the waiting thread goes on, or until another thread has something to send."""
        # Set before the look at the queue, as in `_run`.
        self._asleep = True
        if self._is_dozing() and not self._has_unsent() and not self._stopping.is_set():
            wake.poll(DOZE_MS)
        self._asleep = False
        self._wake.clear()
        if not self._stopping.is_set():
            self._serve([])

    def _serve(self, events: list[tuple[int, int]]) -> bool:
        """Do the work that is due after these events. Returns whether work is due again soon."""
        for fd, _ in events:
            if fd == self._wake.fd:
                self._wake.clear()
                self._quiet = 0
        try:
            return self._attend(events)
        except Exception:  # such as an error of a listener: other threads need this thread alive
            traceback.print_exc()
            return True
