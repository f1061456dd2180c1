"""How a worker ended: from the wait status, the kernel's OOM counter, and the worker's own last lines.

The evidence is gathered after the fact. The core decides what follows from the end of a worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from ipyremote.core.events import EXITED, OUT_OF_MEMORY, SIGNALLED, WorkerEnd

__all__ = ["OomCounter", "describe"]


def describe(status: int, *, note: str = "", out_of_memory: bool = False, words: str = "") -> WorkerEnd:
    """Return how a worker ended, from all the evidence.

    `status`: the wait status of the process. `note`: what the scheduler itself has to say, such as that the scheduler
    has killed the worker. `out_of_memory`: whether the kernel's OOM killer is the cause. `words`: last lines.
    """
    code = os.waitstatus_to_exitcode(status)
    kind = OUT_OF_MEMORY if out_of_memory else EXITED if code >= 0 else SIGNALLED
    text = f"exit code {code}" if code >= 0 else _signal_text(-code)
    if out_of_memory:
        text = f"out of memory: {text} from the kernel's OOM killer"
    if note:
        text = f"{note}; {text}"
    if words:
        text += "; its last lines on stderr:\n" + "\n".join(f"    {line}" for line in words.splitlines())
    return WorkerEnd(kind, abs(code), text)


def _signal_text(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


class OomCounter:
    """A counter of the processes in this control group that the kernel has killed for want of memory.

    Where the group's counter cannot be read, the counter of the whole machine is used. Together with a SIGKILL that
    nobody in this session has sent, a rise of that counter is the best evidence there is.
    """

    def __init__(self) -> None:
        self._path = next((path for path in _counters() if _oom_kills(path) is not None), None)
        self._seen = self._read()

    def _read(self) -> int:
        return (_oom_kills(self._path) or 0) if self._path else 0

    def has_struck(self, status: int) -> bool:
        """Whether the OOM killer ended a process with this wait status: the counter has risen since the last victim."""
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return False
        count = self._read()
        # Each call accounts for one victim, because two workers may die in the same instant.
        if count <= self._seen:
            return False
        self._seen += 1
        return True


def _counters() -> Iterator[Path]:
    """Yield the files that may have a line `oom_kill <number>`, the most specific one first."""
    groups = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            hierarchy, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if hierarchy == "0":
                yield groups / inside / "memory.events"
                yield groups / "memory.events"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / inside / "memory.oom_control"
                yield groups / "memory" / "memory.oom_control"
    yield Path("/proc/vmstat")


def _oom_kills(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None
