"""What the tests here know about the running session and its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from ipyremote.backend import current
from tests.support.waiting import until

__all__ = ["cpu_seconds", "processes", "scheduler", "session", "worker_pids"]


def session() -> Any:
    """The driver's session."""
    return current.backend()


def scheduler() -> psutil.Process:
    """The scheduler's process."""
    current = session()
    until(lambda: current.scheduler_pid != 0, "the scheduler has greeted")
    return psutil.Process(current.scheduler_pid)


def processes() -> list[psutil.Process]:
    """The scheduler, the zygote and the workers."""
    first = scheduler()
    return [first, *first.children(recursive=True)]


def worker_pids() -> list[int]:
    """Of the workers that run now."""
    return [worker.pid for worker in session().insight.status().workers if worker.pid]


def cpu_seconds(pid: int) -> float:
    """Processor time that all threads of a process have taken, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9
