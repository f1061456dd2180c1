"""The running session and its processes, for the tests in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from ipyremote.backend import current
from tests.support.waiting import until

__all__ = ["cpu_seconds", "processes", "scheduler", "session", "worker_pids"]


def session() -> Any:
    """Return the driver's session."""
    return current.backend()


def scheduler() -> psutil.Process:
    """Return the scheduler's process."""
    current = session()
    until(lambda: current.scheduler_pid != 0, "the scheduler has greeted")
    return psutil.Process(current.scheduler_pid)


def processes() -> list[psutil.Process]:
    """Return the processes of the scheduler, the zygote and the workers."""
    first = scheduler()
    return [first, *first.children(recursive=True)]


def worker_pids() -> list[int]:
    """Return the process ids of the running workers."""
    return [worker.pid for worker in session().insight.status().workers if worker.pid]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that all threads of a process have used, in seconds with nanosecond precision."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9
