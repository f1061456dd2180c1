"""The scheduler's program: `python -m ipyremote.scheduler <fd of the start record>`.

It reads the start record, forks the zygote, and only then loads what needs zmq. Standard error is its log.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from ipyremote.messages import Boot, decode_boot
from ipyremote.process_title import set_title
from ipyremote.scheduler import zygote

if TYPE_CHECKING:
    from ipyremote.core import Core

__all__ = ["WORKER_ENTRY", "main"]

#: What each worker runs.
WORKER_ENTRY = "ipyremote.worker.process:main"


def main(boot_fd: int, *, entry: str = WORKER_ENTRY, core_type: type[Core] | None = None) -> NoReturn:
    """Run the session whose start record can be read from `boot_fd`. The process ends with it.

    `entry` is what each worker runs, and `core_type` what decides; others than the package's own are for tests.
    """
    # The terminal's and the notebook's interrupts are not for this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # What is printed here belongs into the log. The driver's own output may be a pipe whose reader waits for its end.
    os.dup2(2, 1)
    # Loading code makes no garbage, only many objects to look at. Each of the processes turns it on when it is loaded.
    gc.disable()
    # Before the fork of the zygote, which so has loaded the library as well.
    set_title("scheduler")
    boot = _read_boot(boot_fd)
    link = zygote.start(boot, entry)
    # Loaded now, while the zygote loads the worker's code in parallel.
    from ipyremote.core import Core
    from ipyremote.scheduler.process import Scheduler

    make_core = core_type or Core
    core = make_core(
        resources=dict(boot.resources),
        now=time.monotonic(),
        max_workers=boot.max_workers,
        keep_alive=boot.keep_alive,
        labels=dict(boot.labels),
    )
    status = Scheduler(boot, link, core, entry).run()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # Not through the interpreter's end, which would visit a million records to free their memory.
    os._exit(status)


def _read_boot(fd: int) -> Boot:
    with open(fd, "rb") as pipe:
        return decode_boot(pipe.read())


if __name__ == "__main__":
    main(int(sys.argv[1]))
