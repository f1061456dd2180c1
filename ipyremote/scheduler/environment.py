"""The program of an environment's process, which sets the environment up and then forks the environment's workers.

    main    installs the environment's packages, if there are any; the Python of that installation then runs `serve`
    serve   does what `zygote.py` does, with the environment's variables, working directory and search path

Rules. The process is started with the environment's variables. End of file on the socket means that nobody needs the
environment any more: a running installer is stopped. If the set-up fails, the reason is written to the file that the
scheduler has named.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final, NoReturn

from ipyremote import settings
from ipyremote.messages import Boot, EnvironmentBoot, EnvironmentSpec, decode_environment_boot
from ipyremote.process_title import set_title
from ipyremote.scheduler import command, packages, zygote

__all__ = ["main", "serve"]

_SERVE: Final = "ipyremote.scheduler.environment:serve"
#: Names of the directories on a search path that hold installed packages.
_SITES: Final = ("site-packages", "dist-packages")


def main(boot_fd: int) -> NoReturn:
    """Set up the environment whose start record is in the file `boot_fd`, and fork its workers."""
    boot = _begin(boot_fd)
    wanted = boot.environment.packages
    if wanted is None:
        serve(boot_fd)
    link = socket.socket(fileno=boot.link)
    try:
        cwd = os.fsdecode(boot.boot.cwd)
        made = packages.provide(
            wanted,
            settings.cache_directory(),
            cwd=cwd if os.path.isdir(cwd) else "/",
            seconds=boot.environment.seconds,
            is_wanted=lambda: _is_wanted(link),
        )
    except packages.Unwanted:
        os._exit(0)
    except (packages.SetupError, OSError) as error:
        Path(boot.complaint).write_text(str(error), errors="replace")
        os._exit(1)
    for fd in (boot_fd, boot.link, made.lock):
        os.set_inheritable(fd, True)
    words = command(boot_fd, _SERVE, made.python)
    os.execve(made.python, [*words, str(made.lock)], settings.environment_with(made.variables))


def serve(boot_fd: int, lock: int = -1) -> NoReturn:
    """Fork the environment's workers until the scheduler hangs up. `lock`: descriptor that every worker inherits."""
    boot = _begin(boot_fd)
    os.close(boot_fd)
    for fd in (boot.link, lock):
        if fd >= 0:
            os.set_inheritable(fd, False)
    adapted = _adapted(boot.boot, boot.environment)
    zygote.serve(adapted, socket.socket(fileno=boot.link), boot.entry, boot.environment)


def _begin(boot_fd: int) -> EnvironmentBoot:
    # As in the scheduler's program, interrupts of the terminal and the notebook are not for this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.disable()
    os.lseek(boot_fd, 0, os.SEEK_SET)
    with open(boot_fd, "rb", closefd=False) as file:
        boot = decode_environment_boot(file.read())
    set_title(f"environment {boot.environment.title}")
    return boot


def _is_wanted(link: socket.socket) -> bool:
    """Whether the scheduler still has its end of the socket open.

    The scheduler sends nothing before this process has reported that the environment is set up.
    """
    try:
        return bool(link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _adapted(boot: Boot, environment: EnvironmentSpec) -> Boot:
    """Return the session's start record with the working directory and search path of this environment."""
    directory = (environment.directory,) if environment.directory else ()
    # An empty entry stands for the working directory; the driver's path meant the driver's working directory.
    own = tuple(entry or boot.cwd for entry in boot.sys_path) if directory else boot.sys_path
    path = (*directory, *environment.modules, *_installed(own))
    return boot.at(environment.directory or boot.cwd, path)


def _installed(path: tuple[bytes, ...]) -> list[bytes]:
    """Return the driver's search path, with the entries of this Python inserted before the driver's packages."""
    known = set(path)
    added = [entry for entry in map(os.fsencode, sys.path) if entry and entry not in known]
    places = (
        index
        for index, entry in enumerate(path)
        if os.path.basename(entry).decode("utf-8", "replace") in _SITES
    )
    at = next(places, len(path))
    return [*path[:at], *added, *path[at:]]
