"""The events of the core: all that goes into it. Events are facts; the core decides what follows from a fact.

The shell (the scheduler's process) gives the events of one peer in the order in which they happened, and a worker's
last messages before its `WorkerExited`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from ipyremote.ids import ClientId
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
    """A message from a client."""

    #: Id of the client.
    sender: ClientId
    message: FromClient


class WorkerStarted(Struct, frozen=True):
    """A worker whose greeting was accepted: it takes tasks from now on, and counts as a client."""

    worker_id: ClientId
    #: Process id of the worker.
    pid: int


class WorkerEnd(Struct, frozen=True):
    """The way in which a worker's process ended, or the reason why no process could be started."""

    #: EXITED, SIGNALLED, OUT_OF_MEMORY or NOT_STARTED.
    kind: str
    #: Exit code, or number of the signal; 0 for a process that was not started.
    status: int
    #: Words that continue "its worker was lost: ", such as "signal 9 (SIGKILL)"; may have several lines.
    text: str


class WorkerExited(Struct, frozen=True):
    """A worker whose process has ended, or could not be started."""

    worker_id: ClientId
    end: WorkerEnd
    #: Number of the latest run that had started, from the worker's progress page; 0 for none.
    started: int = 0
    #: Number of the latest run that had finished, from the worker's progress page; 0 for none.
    finished: int = 0
    #: Pairs (run number, report) of the worker's last reports, from the progress page. Most came as messages before.
    reports: tuple[tuple[int, TaskDone | TaskFailed], ...] = ()


class EnvironmentOpened(Struct, frozen=True):
    """An environment that is set up: workers can be started in it."""

    key: str


class EnvironmentLost(Struct, frozen=True):
    """An environment that could not be set up, or whose process has ended; its workers have ended before."""

    key: str
    #: Words that continue "its environment could not be set up: ".
    reason: str


class ClientJoined(Struct, frozen=True):
    """A driver whose greeting was accepted."""

    client_id: ClientId
    #: Process id of the driver; 0 if the driver did not say.
    pid: int = 0


class ClientGone(Struct, frozen=True):
    """A driver that has left, or whose connection is lost."""

    client_id: ClientId


class Tick(Struct, frozen=True):
    """The time of `Core.deadline()`, which has come without another event."""


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
