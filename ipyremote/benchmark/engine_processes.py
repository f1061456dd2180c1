"""The processes of an engine: which they are, what memory they hold, and how they are ended.

An engine's processes are the descendants of its driver, and those whose environment carries the run's mark: a
process whose parent died is nobody's descendant, and one that rewrote its title has lost its environment.
"""

import os
import time
from contextlib import suppress

import psutil

MARK = "IPYREMOTE_BENCHMARK_RUN"
MIB = 2**20


def marked(token: str) -> dict[str, str]:
    """The environment for a process that is to carry the mark, and all that it starts or forks with it.

    The process must be born with it: one that is forked shows the environment its parent was started with.
    """
    return {**os.environ, MARK: token}


def family(pid: int | None, token: str) -> list[psutil.Process]:
    """The descendants of `pid` and all processes with the mark, without `pid` and this process.

    `pid` is None where the driver is gone and only the mark is left to go by.
    """
    found: dict[int, psutil.Process] = {}
    if pid is not None:
        with suppress(psutil.Error):
            found.update((process.pid, process) for process in psutil.Process(pid).children(recursive=True))
    found.update((process.pid, process) for process in psutil.process_iter() if _carries(process, token))
    return [process for process in found.values() if process.pid not in (pid, os.getpid())]


def _carries(process: psutil.Process, token: str) -> bool:
    """Whether the process carries the mark; one that is gone or not ours does not."""
    try:
        return process.environ().get(MARK) == token
    except (psutil.Error, OSError):
        return False


def end(processes: list[psutil.Process]) -> None:
    """Kill them, and wait a moment until they are gone.

    Resource trackers (of multiprocessing, of loky) go last and by themselves: they end when nobody is left to serve,
    and unlink the named semaphores of the others on the way, which would stay in /dev/shm for ever.
    """
    _kill([process for process in processes if not _tracks_resources(process)])
    _, alive = psutil.wait_procs(processes, timeout=5)
    _kill(alive)
    psutil.wait_procs(alive, timeout=5)


def _kill(processes: list[psutil.Process]) -> None:
    """Send each a SIGKILL, if it is still there."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _tracks_resources(process: psutil.Process) -> bool:
    """Whether it is a resource tracker; one that is gone is not."""
    try:
        return any("resource_tracker" in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def memory(processes: list[psutil.Process]) -> float:
    """MiB that the processes hold: proportional shares, so that shared pages count once in the sum."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            info = process.memory_full_info()
            total += getattr(info, "pss", info.uss)
    return total / MIB


def driver_memory() -> float:
    """MiB of this process."""
    return memory([psutil.Process()])


def idle_memory(token: str, patience: float = 10.0) -> float:
    """MiB of this driver's engine at rest: when two readings half a second apart are within one percent."""
    deadline = time.monotonic() + patience
    before = memory(family(os.getpid(), token))
    while True:
        time.sleep(0.5)
        after = memory(family(os.getpid(), token))
        if abs(after - before) <= 0.01 * after or time.monotonic() > deadline:
            return after
        before = after
