"""The processes of an engine: finding them, measuring their memory, and ending them.

An engine's processes are the descendants of its driver and all processes whose environment has the run's mark. Neither
rule finds all processes: a process whose parent died has left the tree of the driver, and a process that rewrote its
title has lost its environment.
"""

import os
import time
from contextlib import suppress

import psutil

MARK = "IPYREMOTE_BENCHMARK_RUN"
MIB = 2**20


def marked(token: str) -> dict[str, str]:
    """Return an environment with the mark, for a process whose descendants inherit the mark.

    Setting the variable later is not enough: a forked process shows the environment that its parent was started with.
    """
    return {**os.environ, MARK: token}


def family(pid: int | None, token: str) -> list[psutil.Process]:
    """Return the descendants of `pid` and all processes with the mark, without `pid` and this process.

    `pid` is None if the driver is gone, so that only the mark identifies the processes.
    """
    found: dict[int, psutil.Process] = {}
    if pid is not None:
        with suppress(psutil.Error):
            found.update((process.pid, process) for process in psutil.Process(pid).children(recursive=True))
    found.update((process.pid, process) for process in psutil.process_iter() if _carries(process, token))
    return [process for process in found.values() if process.pid not in (pid, os.getpid())]


def _carries(process: psutil.Process, token: str) -> bool:
    """Return whether a process has the mark; False for a process that is gone or belongs to another user."""
    try:
        return process.environ().get(MARK) == token
    except (psutil.Error, OSError):
        return False


def end(processes: list[psutil.Process]) -> None:
    """Kill the processes, and wait up to ten seconds until they are gone.

    Resource trackers (of multiprocessing and loky) are not killed at first. A tracker ends by itself after the last
    process that uses it, and unlinks the named semaphores of these processes, which would else stay in /dev/shm for
    ever.
    """
    _kill([process for process in processes if not _tracks_resources(process)])
    _, alive = psutil.wait_procs(processes, timeout=5)
    _kill(alive)
    psutil.wait_procs(alive, timeout=5)


def _kill(processes: list[psutil.Process]) -> None:
    """Send SIGKILL to each process that still exists."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _tracks_resources(process: psutil.Process) -> bool:
    """Return whether a process is a resource tracker; False for a process that is gone."""
    try:
        return any("resource_tracker" in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def memory(processes: list[psutil.Process]) -> float:
    """Return the memory of the processes in MiB, as proportional shares: shared pages count once in the sum."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            info = process.memory_full_info()
            total += getattr(info, "pss", info.uss)
    return total / MIB


def driver_memory() -> float:
    """Return the memory of this process, in MiB."""
    return memory([psutil.Process()])


def idle_memory(token: str, patience: float = 10.0) -> float:
    """Return the memory of this driver's engine at rest, in MiB.

    The engine is at rest when two readings half a second apart differ by at most one percent, or after `patience`
    seconds.
    """
    deadline = time.monotonic() + patience
    before = memory(family(os.getpid(), token))
    while True:
        time.sleep(0.5)
        after = memory(family(os.getpid(), token))
        if abs(after - before) <= 0.01 * after or time.monotonic() > deadline:
            return after
        before = after
