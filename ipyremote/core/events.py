"""Everything that goes into the core. Events are facts; the core decides what follows from them.

The shell gives the events of one peer in the order in which they happened, and a worker's last messages before its
`WorkerExited`.
"""

from __future__ import annotations

from typing import TypeAlias

from ipyremote.messages import FromClient, Struct, TaskDone, TaskFailed

__all__ = [
    "ClientGone",
    "ClientJoined",
    "EnvironmentLost",
    "EnvironmentOpened",
    "Event",
    "Received",
    "Tick",
    "WorkerExited",
    "WorkerStarted",
]


class Received(Struct, frozen=True):
    """A client sent a message."""

    sender: int
    message: FromClient


class WorkerStarted(Struct, frozen=True):
    """A worker's greeting was accepted: it takes tasks from now on, and counts as a client."""

    worker_id: int
    pid: int


class WorkerExited(Struct, frozen=True):
    """A worker's process has ended, or could not be started.

    `reason` reads well after "its worker was lost:", such as "signal 9 (SIGKILL)". `started` and `finished` are the run
    numbers read from its progress page; 0 means none. `reports` are its last ones from there by run number, most of
    which have come as messages before.
    """

    worker_id: int
    reason: str
    started: int = 0
    finished: int = 0
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
