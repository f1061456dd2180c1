"""The commands of the core: all that it asks for. The shell performs commands in order, and reports their outcomes as
events. The shell is the program around the core: the scheduler's process."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ipyremote.ids import ClientId
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
    """A message to be sent to a client, after all messages sent to this client before."""

    #: Id of the client.
    to: ClientId
    message: ToClient


class StartWorker(Struct, frozen=True):
    """A worker process to be started under this id. Answered by `WorkerStarted` or `WorkerExited`."""

    worker_id: ClientId
    #: Key of an open environment; empty for the session's own processes.
    environment: str = ""


class StopWorker(Struct, frozen=True):
    """A worker process to be ended. Answered by `WorkerExited`."""

    worker_id: ClientId
    #: "exit" lets the worker leave after the messages that it was sent before; "kill" ends its process now.
    how: Literal["exit", "kill"]


class OpenEnvironment(Struct, frozen=True):
    """An environment to be set up, so that workers can be started in it. Answered by `EnvironmentOpened` or
    `EnvironmentLost`."""

    environment: EnvironmentSpec


class CloseEnvironment(Struct, frozen=True):
    """An environment whose process is to be ended, and which has no workers. Not answered."""

    key: str


class DropSegment(Struct, frozen=True):
    """Segments to be removed by the shell, since the client that made them is gone."""

    segments: tuple[str, ...]
    #: Where the segments are removed: from memory, from disk, or from both.
    where: Literal["everywhere", "memory", "disk"] = "everywhere"


class Log(Struct, frozen=True):
    """A line for the scheduler's log."""

    text: str


class Quit(Struct, frozen=True):
    """The end of the session: all processes are to be stopped and the session directory removed."""


Command: TypeAlias = (
    Send | StartWorker | StopWorker | OpenEnvironment | CloseEnvironment | DropSegment | Log | Quit
)
