"""Everything that goes into the core. Events are facts; the core decides what follows from them.

The shell gives the events of one peer in the order in which they happened, and a worker's last messages before its
`WorkerExited`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from ipyremote.messages import FromClient, Struct, TaskDone, TaskFailed

__all__ = [
    "EXITED",
    "NOT_STARTED",
    "OUT_OF_MEMORY",
    "SIGNALLED",
    "ClientGone",
    "ClientJoined",
    "EnvironmentLost",
    "EnvironmentOpened",
    "Event",
    "Received",
    "Tick",
    "WorkerEnd",
    "WorkerExited",
    "WorkerStarted",
]


#: Value of `WorkerEnd.kind`: the process has ended by itself, with an exit code.
EXITED: Final = "exited"
#: Value of `WorkerEnd.kind`: a signal has ended the process.
SIGNALLED: Final = "signalled"
#: Value of `WorkerEnd.kind`: the kernel has killed the process for want of memory.
OUT_OF_MEMORY: Final = "out of memory"
#: Value of `WorkerEnd.kind`: no process could be started.
NOT_STARTED: Final = "not started"


class Received(Struct, frozen=True):
    """A client sent a message."""

    sender: int
    message: FromClient


class WorkerStarted(Struct, frozen=True):
    """A worker's greeting was accepted: it takes tasks from now on, and counts as a client."""

    worker_id: int
    pid: int


class WorkerEnd(Struct, frozen=True):
    """How a worker's process ended, or why no process could be started."""

    #: EXITED, SIGNALLED, OUT_OF_MEMORY or NOT_STARTED.
    kind: str
    #: Exit code, or number of the signal; 0 for a process that was not started.
    status: int
    #: Words that read well after "its worker was lost:", such as "signal 9 (SIGKILL)"; may have several lines.
    text: str


class WorkerExited(Struct, frozen=True):
    """A worker's process has ended, or could not be started."""

    worker_id: int
    end: WorkerEnd
    #: Number of the latest run that had started, from the worker's progress page; 0 for none.
    started: int = 0
    #: Number of the latest run that had finished, from the worker's progress page; 0 for none.
    finished: int = 0
    #: The worker's last reports by run number, from the progress page. Most have come as messages before.
    reports: tuple[tuple[int, TaskDone | TaskFailed], ...] = ()


class EnvironmentOpened(Struct, frozen=True):
    """An environment is set up: workers can be started in it."""

    key: str


class EnvironmentLost(Struct, frozen=True):
    """An environment could not be set up, or its process has ended; its workers have ended before.

    `reason` reads well after "it could not be set up:".
    """

    key: str
    reason: str


class ClientJoined(Struct, frozen=True):
    """A driver's greeting was accepted."""

    client_id: int
    pid: int = 0


class ClientGone(Struct, frozen=True):
    """A driver has left or its connection is lost."""

    client_id: int


class Tick(Struct, frozen=True):
    """Time has passed: `Core.deadline()` is due."""


Event: TypeAlias = (
    Received
    | WorkerStarted
    | WorkerExited
    | EnvironmentOpened
    | EnvironmentLost
    | ClientJoined
    | ClientGone
    | Tick
)
