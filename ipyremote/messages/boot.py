"""What a process is told when it starts, through a pipe or a file that it inherits; never argv or the environment.

driver  -- Boot -->  scheduler  -- (forks) -->  zygote  -- WorkerBoot -->  worker
                         |
                         +-- EnvironmentBoot -->  environment's zygote  -- WorkerBoot -->  worker
"""

from __future__ import annotations

import msgspec

from ipyremote.messages.task import EnvironmentSpec
from ipyremote.messages.values import Resources, Struct

__all__ = [
    "Boot",
    "EnvironmentBoot",
    "WorkerBoot",
]


class Boot(Struct, frozen=True):
    """What a driver tells the scheduler that it starts, through an inherited pipe (never argv or the environment)."""

    #: The session directory, made by the driver, which also holds its lock.
    directory: str
    #: Hex digits that name the session.
    key: str
    secret: bytes
    #: Read end of a pipe whose write end only the driver holds: end of file means that the driver is gone.
    lifeline: int
    #: Write end of a pipe whose read end the driver holds: it closes when the scheduler is gone, however it went.
    alive: int
    #: Total resources of the session.
    resources: Resources
    #: Bytes that the object store may hold.
    capacity: int
    #: The driver's `sys.path` and working directory, which workers take over. Not text: a path may have any bytes.
    sys_path: tuple[bytes, ...]
    cwd: bytes
    #: The driver's `sys.argv`, which workers take over too.
    argv: tuple[bytes, ...] = ()
    #: At most so many worker processes at a time.
    max_workers: int = 256
    #: For how many seconds the session outlives its driver; 0: not at all.
    keep_alive: float = 0.0
    #: Labels of the machine, by key.
    labels: tuple[tuple[str, str], ...] = ()

    def at(self, cwd: bytes, sys_path: tuple[bytes, ...]) -> Boot:
        """The same with another working directory and search path."""
        return msgspec.structs.replace(self, cwd=cwd, sys_path=sys_path)


class WorkerBoot(Struct, frozen=True):
    """What the zygote gives to the worker that it forks."""

    worker_id: int
    directory: str
    key: str
    secret: bytes
    lifeline: int
    capacity: int
    sys_path: tuple[bytes, ...]
    cwd: bytes
    argv: tuple[bytes, ...] = ()
    #: The environment that it is of; None for the session's own processes.
    environment: EnvironmentSpec | None = None


class EnvironmentBoot(Struct, frozen=True):
    """What the scheduler tells the process that sets up an environment and then forks its workers, in a file that it
    inherits."""

    boot: Boot
    environment: EnvironmentSpec
    #: "module:function" that a worker runs.
    entry: str
    #: Descriptor of the socket to the scheduler.
    link: int
    #: Where to write why the set-up has failed.
    complaint: str
