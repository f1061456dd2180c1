"""The leak check: finds processes, session directories, file descriptors and threads that a test leaves behind.

Use the fixture `leakless` (in conftest.py), or `with leakless():` around a part of a test. The check takes a snapshot
before the block. Afterwards it waits until nothing is left that was not in the snapshot, or fails with a list of leaks.

Rules. Several test runs may share a machine, so only leaks of this run count. The processes of this run are the
descendants of this process and all processes with the run's mark in their environment (an orphan is no descendant). A
session directory counts unless a process of another run holds its lock. Growth counts, shrinking does not.
"""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["RUN_VARIABLE", "Snapshot", "leaked", "leakless", "mark_run", "processes", "session_directories"]

#: Environment variable that marks each process of this test run.
RUN_VARIABLE = "IPYREMOTE_TEST_RUN"
#: Helpers of the standard library that live as long as the test process, and end with it.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The processes, directories, descriptors and threads at one moment."""

    processes: frozenset[psutil.Process]
    directories: frozenset[Path]
    #: Target of each open file descriptor of this process.
    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    #: Number of zmq's own threads in this process, which Python does not list.
    zmq_threads: int

    @classmethod
    def take(cls) -> Snapshot:
        """Return a snapshot of this moment."""
        return cls(
            processes(),
            session_directories(),
            _descriptors(),
            frozenset(threading.enumerate()),
            _zmq_threads(),
        )


def mark_run() -> str:
    """Give this process a mark that its children inherit, and return the mark; later calls return the same mark."""
    return os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex)


def processes() -> frozenset[psutil.Process]:
    """Return each process of this run except this process, zombies included."""
    me = psutil.Process()
    found = set(me.children(recursive=True))
    mark = f"{RUN_VARIABLE}={os.environ.get(RUN_VARIABLE)}".encode()
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if process != me and mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.add(process)
    return frozenset(process for process in found if not any(word in _command(process) for word in _HELPERS))


def session_directories() -> frozenset[Path]:
    """Return each `ipyremote-*` directory or file in the directories that sessions use."""
    bases = {
        Path("/dev/shm"),
        Path(tempfile.gettempdir()),
        Path("/var/tmp"),
        Path(os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"),
    }
    return frozenset(path for base in bases for path in base.glob("ipyremote-*"))


def leaked(before: Snapshot, allowed_descriptors: int = 0) -> list[str]:
    """Return a sentence for each leak: each process, directory, descriptor or thread that is not in `before`."""
    gc.collect()
    now = Snapshot.take()
    found = [f"process {process.pid}: {_command(process)}" for process in now.processes - before.processes]
    found += [
        f"directory {path}"
        for path in now.directories - before.directories
        if not _foreign(path, now.processes)
    ]
    if len(now.descriptors) > len(before.descriptors) + allowed_descriptors:
        new = sorted(now.descriptors.items() - before.descriptors.items())
        found += [f"descriptor {number}: {target}" for number, target in new]
    found += [f"thread {thread.name}" for thread in now.threads - before.threads]
    if now.zmq_threads > before.zmq_threads:
        found.append(f"{now.zmq_threads - before.zmq_threads} threads of zmq")
    return found


@contextmanager
def leakless(within: float = 5.0, allowed_descriptors: int = 0) -> Iterator[Snapshot]:
    """Fail if leaks of the block last longer than `within` seconds. An error of the block is raised instead."""
    gc.collect()
    before = Snapshot.take()
    yield before
    deadline = time.monotonic() + within
    while left := leaked(before, allowed_descriptors):
        assert time.monotonic() < deadline, "left behind:\n  " + "\n  ".join(left)
        time.sleep(0.02)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name() + f" ({process.status()})"
    except psutil.Error:
        return "(already gone)"


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor that listed the directory is already closed.
        with suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _zmq_threads() -> int:
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            count += (task / "comm").read_text().startswith("ZMQbg")
    return count


def _foreign(directory: Path, ours: frozenset[psutil.Process]) -> bool:
    """Return whether a process of another run uses a session directory."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY)
    except OSError:
        return not directory.exists()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        held = True
    else:
        held = False
    finally:
        # Close the descriptor before the search for users of the directory, which would find the descriptor.
        os.close(descriptor)
    users = [os.getpid(), *(process.pid for process in ours)]
    return held and not any(_uses(pid, directory) for pid in users)


def _uses(pid: int, directory: Path) -> bool:
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(link).startswith(f"{directory}/"):
                    return True
    return False
