"""Notebooks that start a cluster, and the processes of such clusters."""

from __future__ import annotations

from pathlib import Path

import psutil

from ipyremote.settings import SESSION_VARIABLE
from tests.browser.lab import Lab, notebook
from tests.support import leaks

__all__ = ["session_processes", "shown"]

LOAD = "%load_ext ipyremote"
START = "import ipyremote\nipyremote.init(num_cpus=2)"
SLOW = """
import os, time
@ipyremote.remote
def slow(gate):
    while not os.path.exists(gate):
        time.sleep(0.02)
    return [7, 8, 9]
"""


def session_processes() -> list[psutil.Process]:
    """Return the processes of sessions that kernels of this run have started."""
    found = []
    for process in leaks.processes():
        try:
            title = " ".join(process.cmdline())
            # A scheduler sets its process title a moment after its start.
            if SESSION_VARIABLE in process.environ() or ("ipyremote" in title and "scheduler" in title):
                found.append(process)
        except psutil.Error:
            continue
    return found


def shown(lab: Lab, tmp_path: Path, *cells: str) -> None:
    """Open a notebook with these cells after cells 0, 1 and 2, which start a cluster, and run those three cells."""
    lab.open(notebook(tmp_path / "live.ipynb", [LOAD, START, SLOW, *cells]))
    for index in range(3):
        lab.run(index)
