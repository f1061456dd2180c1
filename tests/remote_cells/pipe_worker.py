"""A plain process that runs cells, with a `Reporter` that writes JSON lines to a pipe; run as a program.

    python pipe_worker.py JOBS PIPE

JOBS is a file of jobs (`Job`), pickled one by one as our own client pickles; PIPE is the descriptor of the pipe. Each
result is a line as well, and so are, at the end, the names of the modules that the process has imported.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipyremote.backend.reporter import BarState
from ipyremote.remote_cells import Installation, install
from ipyremote.remote_cells.cell import Cell, CellInputs, run_cell
from ipyremote.remote_cells.sessions import CellSession
from ipyremote.serialization import pickling

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """A cell to run."""

    #: Key of the task, of any type that an engine may choose.
    task: str
    cell: Cell
    inputs: CellInputs
    #: Name of the cell's session; empty for a cell without a session.
    session: str = ""
    #: Whether the next job starts while this job runs.
    beside: bool = False


class PipeReporter:
    """A `Reporter` that writes each report as a line of JSON."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def started(self, task: str | None) -> None:
        self.write("started", task)

    def text(self, task: str | None, stream: int, text: str) -> None:
        self.write("text", task, stream, text)

    def display(self, task: str | None, content: bytes) -> None:
        self.write("display", task, json.loads(content))

    def progress(self, task: str | None, bar: BarState) -> None:
        self.write("progress", task, asdict(bar))

    def preview(self, task: str | None, look: Mapping[str, Any]) -> None:
        self.write("preview", task, dict(look))

    def finished(self, task: str | None) -> None:
        self.write("finished", task)

    def write(self, kind: str, *details: Any) -> None:
        """Write a report as one line."""
        data = (json.dumps([kind, *details]) + "\n").encode()
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]


def _run(job: Job, installation: Installation[Any], reporter: PipeReporter, sessions: dict[str, Any]) -> None:
    with installation.running(job.task):
        try:
            if job.session:
                session = sessions.setdefault(job.session, CellSession())
                value = session.run(job.cell, job.inputs, (), ())
            else:
                value = run_cell(job.cell, job.inputs, ())
        except BaseException as error:  # the exception is the result of the job
            reporter.write("failed", job.task, type(error).__name__, str(error), traceback.format_exc())
        else:
            installation.preview(job.task, value)


def main(jobs: Path, fd: int) -> None:
    """Run all jobs."""
    reporter = PipeReporter(fd)
    before = (sys.stdout, sys.stderr)
    installation = install(reporter, redirect=True)
    sessions: dict[str, Any] = {}
    threads = []
    for data in json.loads(jobs.read_text()):
        job = pickling.loads(bytes.fromhex(data))
        if job.beside:
            threads.append(threading.Thread(target=_run, args=(job, installation, reporter, sessions)))
            threads[-1].start()
            continue
        _run(job, installation, reporter, sessions)
        while threads:
            threads.pop().join()
    installation.undo()
    assert (sys.stdout, sys.stderr) == before
    os.write(1, b"descriptors lead home\n")
    reporter.write("modules", sorted(sys.modules))


if __name__ == "__main__":
    # The parent pickles jobs of the module by its full name.
    from tests.remote_cells import pipe_worker

    pipe_worker.main(Path(sys.argv[1]), int(sys.argv[2]))
