"""Start records of processes. They travel through a pipe or a file that the process inherits, never through argv.

driver  -- Boot -->  scheduler  -- (forks) -->  zygote  -- WorkerBoot -->  worker
                         |
                         +-- EnvironmentBoot -->  environment's zygote  -- WorkerBoot -->  worker
"""

from __future__ import annotations

import msgspec

from ipyremote.backend.records import Resources
from ipyremote.ids import ClientId
from ipyremote.messages.task import EnvironmentSpec
from ipyremote.messages.values import Struct

__all__ = [
    "Boot",
    "EnvironmentBoot",
    "WorkerBoot",
]


class Boot(Struct, frozen=True):
    """The start record of the scheduler, made by the driver. Other users could read argv and the environment."""

    #: Path of the session directory. The driver has made it and holds its lock.
    directory: str
    #: Hex digits that name the session.
    key: str
    #: The secret that every greeting must begin with.
    secret: bytes
    #: Descriptor of the read end of a pipe whose write end only the driver holds: its end of file is the driver's end.
    lifeline: int
    #: Descriptor of the write end of a pipe whose read end the driver holds: it closes when the scheduler ends.
    alive: int
    #: Total resources of the session.
    resources: Resources
    #: Bytes that the object store may hold.
    capacity: int
    #: The driver's `sys.path`, which workers take over. Paths are bytes, since a path may contain any.
    sys_path: tuple[bytes, ...]
    #: The driver's working directory, which workers take over.
    cwd: bytes
    #: The driver's `sys.argv`, which workers take over.
    argv: tuple[bytes, ...] = ()
    #: Number of worker processes at a time, at most.
    max_workers: int = 256
    #: Seconds for which the session outlives its driver; 0 for not at all.
    keep_alive: float = 0.0
    #: Labels of the machine, by key.
    labels: tuple[tuple[str, str], ...] = ()

    def at(self, cwd: bytes, sys_path: tuple[bytes, ...]) -> Boot:
        """Return the record with another working directory and search path."""
        return msgspec.structs.replace(self, cwd=cwd, sys_path=sys_path)


class WorkerBoot(Struct, frozen=True):
    """The start record of a worker, made by the zygote that forks it. The fields are explained at `Boot`."""

    worker_id: ClientId
    directory: str
    key: str
    secret: bytes
    lifeline: int
    capacity: int
    sys_path: tuple[bytes, ...]
    cwd: bytes
    argv: tuple[bytes, ...] = ()
    #: Environment of the worker; None for the session's own processes.
    environment: EnvironmentSpec | None = None


class EnvironmentBoot(Struct, frozen=True):
    """The start record of the process that sets up an environment and then forks the environment's workers."""

    boot: Boot
    environment: EnvironmentSpec
    #: Function that a worker runs, as "module:function".
    entry: str
    #: Descriptor of the socket to the scheduler.
    link: int
    #: Path of the file for the reason of a failed set-up.
    complaint: str
