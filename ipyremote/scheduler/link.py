"""The scheduler's end of the socket to the zygote: asks for workers, hears what became of them.

Both directions carry records of one size, in network byte order:

    | kind: 1 byte | worker id: 8 | process id: 4 | status: 4 |

    FORK     to the zygote     start this worker; process id and status are zero
    KILL     to the zygote     end this worker and its process group now
    STARTED  from the zygote   the worker runs under this process id
    EXITED   from the zygote   it has ended, with this wait status; its group is dead, and it is reaped
    REFUSED  from the zygote   it could not be forked; status is the errno
    OPENED   from the process of an environment, once: it is set up, and takes requests from now on

Rules. Nothing here blocks but `end`: the zygote may be waiting for room to report something, so the scheduler must
never wait for room to ask. The ids of workers that run are kept here, to kill them by even without a zygote.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from typing import Final, NamedTuple

__all__ = [
    "EXITED",
    "FORK",
    "KILL",
    "OPENED",
    "RECORD",
    "REFUSED",
    "STARTED",
    "START_SECONDS",
    "Report",
    "ZygoteLink",
]

RECORD: Final = struct.Struct("!cqii")
FORK: Final = b"f"
KILL: Final = b"k"
STARTED: Final = b"s"
EXITED: Final = b"x"
REFUSED: Final = b"r"
OPENED: Final = b"o"

#: A worker that has not greeted after so many seconds is taken to hang, and killed.
START_SECONDS: Final = 60.0


class Report(NamedTuple):
    """What the zygote says. `kind` is STARTED, EXITED, REFUSED or OPENED."""

    kind: bytes
    worker_id: int
    pid: int
    status: int


class ZygoteLink:
    """Asks the zygote. It owns the socket and the zygote's process."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        link.setblocking(False)
        self._link = link
        self._unsent = b""
        self._pending = b""
        self.pid: Final = pid
        #: Process id of each worker that runs, by worker id.
        self.workers: dict[int, int] = {}
        #: The zygote has closed its end: nothing can be started any more.
        self.is_lost = False
        #: The process of an environment has said so.
        self.is_open = False
        #: For how long its workers may take to greet.
        self.start_seconds = START_SECONDS

    def fileno(self) -> int:
        """For a poll set."""
        return self._link.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether there was no room for all requests; `flush` again soon."""
        return bool(self._unsent)

    def fork(self, worker_id: int) -> None:
        """Ask for a worker. Answered by STARTED and one day EXITED, or by REFUSED."""
        self._unsent += RECORD.pack(FORK, worker_id, 0, 0)

    def kill(self, worker_id: int) -> None:
        """Ask for a worker's end. Harmless when it has ended, or ends by itself."""
        # The zygote knows whether it has reaped the process, so a killed process id is never somebody else's.
        self._unsent += RECORD.pack(KILL, worker_id, 0, 0)

    def flush(self) -> None:
        """Send the requests."""
        if self._unsent:
            try:
                sent = self._link.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self.is_lost = True
                sent = len(self._unsent)
            self._unsent = self._unsent[sent:]

    def reports(self) -> list[Report]:
        """What the zygote has said since the last call. Sets `is_lost` at its end."""
        while True:
            try:
                received = self._link.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                received = b""
            if not received:
                self.is_lost = True
                break
            self._pending += received
        whole = len(self._pending) - len(self._pending) % RECORD.size
        reports = [Report(*fields) for fields in RECORD.iter_unpack(self._pending[:whole])]
        self._pending = self._pending[whole:]
        for report in reports:
            if report.kind == STARTED:
                self.workers[report.worker_id] = report.pid
            elif report.kind == EXITED:
                self.workers.pop(report.worker_id, None)
            elif report.kind == OPENED:
                self.is_open = True
        return reports

    def kill_all(self) -> None:
        """Kill every worker's process group without the zygote's help."""
        for pid in self.workers.values():
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Have the zygote end, which takes all workers with it."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def end(self, timeout: float) -> int:
        """End the zygote, which takes all workers with it, within `timeout` seconds; its wait status."""
        deadline = time.monotonic() + timeout
        self.hang_up()
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        while not self.is_lost:
            left = deadline - time.monotonic()
            if left <= 0:
                # It hangs, perhaps because a worker cannot be killed while the kernel waits for a disk.
                self.kill_all()
                os.kill(self.pid, signal.SIGKILL)
                break
            poll.poll(left * 1000)
            self.reports()
        return self.reap()

    def reap(self) -> int:
        """Wait for the end of the process, which has come or is about to; its wait status."""
        self._link.close()
        return os.waitpid(self.pid, 0)[1]
