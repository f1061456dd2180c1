"""Everything that the core asks for. The shell performs commands in order and reports what comes of them as events."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ipyremote.messages import EnvironmentSpec, Struct, ToClient

__all__ = [
    "CloseEnvironment",
    "Command",
    "DropSegment",
    "Log",
    "OpenEnvironment",
    "Quit",
    "Send",
    "StartWorker",
    "StopWorker",
]


class Send(Struct, frozen=True):
    """Send a message to a client, after everything sent to it before."""

    to: int
    message: ToClient


class StartWorker(Struct, frozen=True):
    """Start a worker process under this id. Answered by `WorkerStarted` or `WorkerExited`.

    `environment`: key of an open one; empty for the session's own.
    """

    worker_id: int
    environment: str = ""


class StopWorker(Struct, frozen=True):
    """End a worker process: "exit" lets it leave after what it was sent before, "kill" ends it now.

    Answered by `WorkerExited`.
    """

    worker_id: int
    how: Literal["exit", "kill"]


class OpenEnvironment(Struct, frozen=True):
    """Set up an environment, so that workers can be started in it. Answered by `EnvironmentOpened` or
    `EnvironmentLost`."""

    environment: EnvironmentSpec


class CloseEnvironment(Struct, frozen=True):
    """End the process of an environment; it has no workers. Not answered."""

    key: str


class DropSegment(Struct, frozen=True):
    """Remove these segments, since whoever would do that is gone: from memory, from disk, or wherever they lie."""

    segments: tuple[str, ...]
    where: Literal["everywhere", "memory", "disk"] = "everywhere"


class Log(Struct, frozen=True):
    """A line for the scheduler's log."""

    text: str


class Quit(Struct, frozen=True):
    """The session is over: stop all processes, remove the session directory, exit."""


Command: TypeAlias = (
    Send | StartWorker | StopWorker | OpenEnvironment | CloseEnvironment | DropSegment | Log | Quit
)
