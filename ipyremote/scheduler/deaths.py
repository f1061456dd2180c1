"""Why a worker died, in words: from its wait status, the kernel's OOM counter, and its own last lines.

It gathers evidence after the fact. It does not decide what follows from a death; that is the core's.

A worker's log is the file `worker-<worker id>.log` of the session directory: what the process wrote to descriptors 1
and 2 without going through Python's streams, such as the fault handler's report. The zygote makes it; it is cut when it
grows long, and removed when the worker has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["OomCounter", "describe", "last_lines", "last_words", "trim_log", "worker_log"]

#: A log that is longer than this is cut to nothing.
LOG_BYTES: Final = 1 << 20
#: How much of the end of a log is searched for last words.
_TAIL_BYTES: Final = 16 << 10
_LINES: Final = 5
#: A report of the fault handler has the innermost frames first, so more of it, from its beginning, is wanted.
_FAULT_LINES: Final = 12
_LINE_LENGTH: Final = 200
_FAULT: Final = "Fatal Python error"
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def worker_log(directory: Path, worker_id: int) -> Path:
    """Where a worker's log is."""
    return directory / f"worker-{worker_id}.log"


def trim_log(directory: Path, worker_id: int) -> None:
    """Keep a worker's log from filling the session directory. The worker goes on writing at the new end."""
    log = worker_log(directory, worker_id)
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            os.truncate(log, 0)


def last_words(directory: Path, worker_id: int) -> str:
    """The last lines of a worker's log, or the fault handler's report if there is one. Empty when it wrote nothing."""
    return last_lines(worker_log(directory, worker_id))


def last_lines(path: Path) -> str:
    """The same of any log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    at = text.rfind(_FAULT)
    lines = [line.rstrip()[:_LINE_LENGTH] for line in text[max(at, 0) :].splitlines() if line.strip()]
    return "\n".join(lines[-_LINES:] if at < 0 else _essence(lines))


def _essence(report: list[str]) -> list[str]:
    """Of a report of the fault handler: what happened, and where in the user's code."""
    # Threads are listed in no useful order, and one of them had the fault.
    current = next((index for index, line in enumerate(report) if line.startswith("Current thread")), 1)
    return report[:1] + [line for line in report[current:] if not _is_noise(line)][: _FAULT_LINES - 1]


def _is_noise(line: str) -> bool:
    # Our own frames, down to the program on the scheduler's command line, say nothing about the fault.
    program = line.startswith('  File "<string>"') and line.endswith("in <module>")
    return program or line.startswith(("Extension modules:", f'  File "{_PACKAGE}{os.sep}'))


def describe(status: int, *, note: str = "", out_of_memory: bool = False, words: str = "") -> str:
    """One reason from all the evidence. `note` is what the scheduler itself has to say, such as that it did it.

    The text begins with "out of memory" exactly when the OOM killer is the cause.
    """
    reason = _exit_text(status)
    if out_of_memory:
        reason = f"out of memory: {reason} from the kernel's OOM killer"
    if note:
        reason = f"{note}; {reason}"
    if words:
        reason += "; its last lines on stderr:\n" + "\n".join(f"    {line}" for line in words.splitlines())
    return reason


def _exit_text(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


class OomCounter:
    """Counts processes that the kernel killed for want of memory, in this process's control group.

    Where the group's counter cannot be read, the whole machine's is used: together with a SIGKILL that nobody here
    sent, it is the best evidence there is.
    """

    def __init__(self) -> None:
        self._path = next((path for path in _counters() if _oom_kills(path) is not None), None)
        self._seen = self._read()

    def _read(self) -> int:
        return (_oom_kills(self._path) or 0) if self._path else 0

    def has_struck(self, status: int) -> bool:
        """Whether a process that ended with this wait status was a victim: the counter has risen since the last one."""
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return False
        count = self._read()
        # Victims are counted off one by one, since two workers may die in the same instant.
        if count <= self._seen:
            return False
        self._seen += 1
        return True


def _counters() -> Iterator[Path]:
    """Files with a line `oom_kill <number>`, the most specific first."""
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
