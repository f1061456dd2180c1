"""The scheduler's program: `python -m ipyremote.scheduler <fd of the start record>`.

The program reads the start record, forks the zygote, and only then imports modules that need zmq. Its log is standard
error.
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

#: Function that each worker runs, as "module:function".
WORKER_ENTRY = "ipyremote.worker.process:main"


def main(boot_fd: int, *, entry: str = WORKER_ENTRY, core_type: type[Core] | None = None) -> NoReturn:
    """Run the session whose start record can be read from `boot_fd`. The process ends with the session.

    `entry` names the function that each worker runs, and `core_type` is the class that decides. Tests give others than
    the package's own.
    """
    # The terminal's and the notebook's interrupts are not for this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Text printed in this process belongs into the log. If this process kept the driver's own standard output, which
    # may be a pipe, then the pipe's reader would wait for this process to end.
    os.dup2(2, 1)
    # Importing modules makes many objects for the collector to visit, and no garbage. Each process of the session turns
    # the collector on after its imports.
    gc.disable()
    # Before the zygote is forked, so that the zygote does not import the library again.
    set_title("scheduler")
    boot = _read_boot(boot_fd)
    link = zygote.start(boot, entry)
    # Imported only now, so that the zygote imports the worker's code at the same time.
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
    # The interpreter's regular end would visit a million records to free their memory.
    os._exit(status)


def _read_boot(fd: int) -> Boot:
    with open(fd, "rb") as pipe:
        return decode_boot(pipe.read())


if __name__ == "__main__":
    main(int(sys.argv[1]))
