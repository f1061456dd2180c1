"""The logs of workers: what a process wrote to descriptors 1 and 2 without going through Python's streams.

A worker's log is the file `worker-<worker id>.log` of the session directory; the fault handler's report stands there,
too. The zygote makes the file. The scheduler cuts a log that grows long, and removes the log of an ended worker.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from ipyremote.ids import ClientId

__all__ = ["LOG_BYTES", "last_lines", "last_words", "trim_log", "worker_log"]

#: Length above which a log is cut to nothing, in bytes.
LOG_BYTES: Final = 1 << 20
#: Length of the end of a log that is searched for last words, in bytes.
_TAIL_BYTES: Final = 16 << 10
#: Number of last lines that are told.
_LINES: Final = 5
#: Number of lines of a fault handler's report that are told; the innermost frames come first in a report.
_FAULT_LINES: Final = 12
#: Length to which each line is cut, in characters.
_LINE_LENGTH: Final = 200
#: Beginning of the fault handler's report.
_FAULT: Final = "Fatal Python error"
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def worker_log(directory: Path, worker_id: ClientId) -> Path:
    """Return the path of a worker's log."""
    return directory / f"worker-{worker_id}.log"


def trim_log(directory: Path, worker_id: ClientId) -> None:
    """Keep a worker's log from filling the session directory. The worker goes on writing at the new end."""
    log = worker_log(directory, worker_id)
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            os.truncate(log, 0)


def last_words(directory: Path, worker_id: ClientId) -> str:
    """Return the last lines of a worker's log, or the fault handler's report if there is one."""
    return last_lines(worker_log(directory, worker_id))


def last_lines(path: Path) -> str:
    """Return the last lines of a log, or the fault handler's report in the log; empty for a log without lines."""
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
    """Return the lines of a fault handler's report that say what happened, and where in the user's code."""
    # Threads are listed in no useful order, and one of them had the fault.
    current = next((index for index, line in enumerate(report) if line.startswith("Current thread")), 1)
    return report[:1] + [line for line in report[current:] if not _is_noise(line)][: _FAULT_LINES - 1]


def _is_noise(line: str) -> bool:
    # Our own frames, down to the program on the scheduler's command line, say nothing about the fault.
    program = line.startswith('  File "<string>"') and line.endswith("in <module>")
    return program or line.startswith(("Extension modules:", f'  File "{_PACKAGE}{os.sep}'))
