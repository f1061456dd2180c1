"""The scheduler's end of the socket to the zygote, for requests for workers and reports about workers.

Both directions carry records of one size, in network byte order:

    | kind: 1 byte | worker id: 8 | process id: 4 | status: 4 |

    FORK     to the zygote     start this worker; process id and status are zero
    KILL     to the zygote     end this worker and its process group now
    STARTED  from the zygote   the worker runs, with this process id
    EXITED   from the zygote   the worker has ended with this wait status, its group is dead, and the worker is reaped
    REFUSED  from the zygote   the worker could not be forked; status is the errno
    OPENED   from the process of an environment, once: the environment is set up, and the process takes requests

Rules. Nothing here blocks but `end`: the zygote may be waiting for room in the socket to report something, so the
scheduler must never wait for room to ask something. The process ids of running workers are kept here, so that the
scheduler can kill the workers even without a zygote.
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

from ipyremote.ids import ClientId

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

#: Time after which a worker that has not greeted is taken to hang, and is killed, in seconds.
START_SECONDS: Final = 60.0


class Report(NamedTuple):
    """One report of the zygote. `kind` is STARTED, EXITED, REFUSED or OPENED."""

    kind: bytes
    worker_id: ClientId
    pid: int
    status: int


class ZygoteLink:
    """The scheduler's side of the zygote. The link owns the socket and the zygote's process."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        link.setblocking(False)
        self._link = link
        self._unsent = b""
        self._pending = b""
        self.pid: Final = pid
        #: Process id of each running worker, by worker id.
        self.workers: dict[int, int] = {}
        #: Whether the zygote has closed its end, so that no worker can be started any more.
        self.is_lost = False
        #: Whether the process of an environment has sent OPENED.
        self.is_open = False
        #: Time that a worker may take to greet, in seconds.
        self.start_seconds = START_SECONDS

    def fileno(self) -> int:
        """Return the descriptor of the socket, for a poll set."""
        return self._link.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether the socket had no room for all requests, so that `flush` must be called again soon."""
        return bool(self._unsent)

    def fork(self, worker_id: ClientId) -> None:
        """Ask for a worker. The zygote answers with STARTED and one day EXITED, or with REFUSED."""
        self._unsent += RECORD.pack(FORK, worker_id, 0, 0)

    def kill(self, worker_id: ClientId) -> None:
        """Ask for the end of a worker. Harmless for a worker that has ended, or ends by itself."""
        # The zygote knows whether it has reaped the process, so it never kills another process with the same id.
        self._unsent += RECORD.pack(KILL, worker_id, 0, 0)

    def flush(self) -> None:
        """Send the requests, as far as the socket has room for them."""
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
        """Return what the zygote has reported since the last call. Sets `is_lost` when the zygote has ended."""
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
        """Ask the zygote to end, and to end all workers."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def end(self, timeout: float) -> int:
        """End the zygote and all its workers within `timeout` seconds. Returns the wait status of the zygote."""
        deadline = time.monotonic() + timeout
        self.hang_up()
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        while not self.is_lost:
            left = deadline - time.monotonic()
            if left <= 0:
                # The zygote hangs, perhaps because the kernel waits for a disk and cannot kill a worker meanwhile.
                self.kill_all()
                os.kill(self.pid, signal.SIGKILL)
                break
            poll.poll(left * 1000)
            self.reports()
        return self.reap()

    def reap(self) -> int:
        """Return the wait status of the process, which has ended or is about to end."""
        self._link.close()
        return os.waitpid(self.pid, 0)[1]
