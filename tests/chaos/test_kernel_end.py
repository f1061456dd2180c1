"""Ends and restarts of a kernel: nothing of its cluster is left three seconds later."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until

_CELLS = """
%load_ext ipyremote
import ipyremote, os, subprocess, time
ipyremote.init(num_cpus=2)

@ipyremote.remote
def busy(log):
    child = subprocess.Popen(["sleep", "1000"])
    with open(log, "w") as file:
        file.write(f"{os.getpid()} {child.pid} {os.getppid()}\\n")
    while True:
        time.sleep(0.01)

refs = [busy.remote(log), *(busy.remote(log + str(number)) for number in range(5))]
"""

#: Function that ends the kernel, by name of the way to end it.
ENDS: dict[str, Callable[[Any, Any], object]] = {
    "restart": lambda manager, client: manager.restart_kernel(now=False),
    "restart by force": lambda manager, client: manager.restart_kernel(now=True),
    "shutdown": lambda manager, client: manager.shutdown_kernel(now=False),
    "shutdown by force": lambda manager, client: manager.shutdown_kernel(now=True),
    "exit()": lambda manager, client: client.execute("exit()"),
    "os._exit": lambda manager, client: client.execute("os._exit(1)"),
    "interrupt and restart": lambda manager, client: (
        manager.interrupt_kernel(),
        manager.restart_kernel(now=True),
    ),
}


@pytest.mark.parametrize(
    "end",
    [
        end if end in ("restart by force", "shutdown") else pytest.param(end, marks=pytest.mark.chaos)
        for end in ENDS
    ],
)
def test_nothing_of_a_cluster_is_left_after_the_end_of_its_kernel(end: str, tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with leaks.leakless(allowed_descriptors=20):
        manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONPATH": path})
        try:
            log = tmp_path / "log"
            client.execute(f"log = {str(log)!r}\n{_CELLS}")
            until(lambda: log.exists() and log.read_text().endswith("\n"), "a task runs", 30.0)
            worker, child, zygote = map(psutil.Process, map(int, log.read_text().split()))
            scheduler = zygote.parent()
            assert scheduler is not None
            # The directory of the session in shared memory, and its directory on the disk.
            locks = [Path(found.path) for found in scheduler.open_files() if found.path.endswith("/lock")]
            assert len(locks) == 2
            ENDS[end](manager, client)
            gone = {"worker": worker, "its child": child, "zygote": zygote, "scheduler": scheduler}
            until(lambda: not any(process.is_running() for process in gone.values()), "all have ended", 3.0)
            until(lambda: not any(lock.parent.exists() for lock in locks), "no directory is left", 3.0)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
