"""The processes of environments as the scheduler sees them: how they are started, watched and ended.

Each environment has a fresh process with the environment's variables, because a fork cannot change the variables that
a library has read during its import. The process (its program is `environment.py`) sets the environment up, and then
forks the environment's workers as the zygote forks the session's own. The socket to the process carries the same
records as the socket to the zygote, after one record OPENED.

Rules. Nothing here blocks but `end`. Each process leads a process group, in which installers run; the group is killed
when the process has ended, for whatever reason. The log of a process is `environment-<number>.log` in the session
directory. A process that gives up writes the reason to a file beside its log; without that file, the end of the log
serves as the reason.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipyremote import settings
from ipyremote.messages import Boot, EnvironmentBoot, EnvironmentSpec, encode_boot
from ipyremote.scheduler import command
from ipyremote.scheduler.deaths import describe
from ipyremote.scheduler.link import ZygoteLink
from ipyremote.scheduler.worker_logs import last_lines

if TYPE_CHECKING:
    import subprocess

__all__ = ["EnvironmentLink", "EnvironmentProcesses"]

_PROGRAM: Final = "ipyremote.scheduler.environment:main"


class EnvironmentLink(ZygoteLink):
    """The scheduler's end of the socket to an environment's process."""

    def __init__(
        self, link: socket.socket, process: subprocess.Popen[bytes], environment: EnvironmentSpec, log: Path
    ) -> None:
        super().__init__(link, process.pid)
        self._process = process
        self.key = environment.key
        self._log = log
        if environment.hook:
            # A worker calls the hook before it greets the scheduler.
            seconds = environment.seconds if environment.seconds >= 0 else math.inf
            self.start_seconds = max(self.start_seconds, seconds)

    @property
    def complaint(self) -> Path:
        """Path of the file in which the process says why it gave up."""
        return self._log.with_suffix(".complaint")

    def reap(self) -> int:
        """Return the wait status of the process, which has ended or is about to end. Kills the rest of its group."""
        self._link.close()
        # Until the process is reaped, no other process group can have its id.
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        return -code if code < 0 else code << 8

    def explain_end(self) -> str:
        """Return why the process has ended. Removes the files of the process."""
        status = self.reap()
        try:
            text = self.complaint.read_text(errors="replace").strip()
        except OSError:
            text = f"its process ended: {describe(status, words=last_lines(self._log)).text}"
        for file in (self.complaint, self._log):
            file.unlink(missing_ok=True)
        return text


class EnvironmentProcesses:
    """The processes of the environments that were opened, and neither lost nor closed since."""

    def __init__(self, boot: Boot, directory: Path, entry: str) -> None:
        self._boot = boot
        self._directory = directory
        self._entry = entry
        self._links: dict[str, EnvironmentLink] = {}
        #: Links to the processes that were closed and have not ended yet.
        self._closed: list[EnvironmentLink] = []
        self._number = 0

    def __iter__(self) -> Iterator[EnvironmentLink]:
        return iter((*self._links.values(), *self._closed))

    def get(self, key: str) -> EnvironmentLink | None:
        """Return the link to the process of the environment with this key, if there is one."""
        return self._links.get(key)

    def open(self, environment: EnvironmentSpec) -> EnvironmentLink:
        """Start the process of an environment. Raises OSError."""
        self._number += 1
        log = self._directory / f"environment-{self._number}.log"
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = self._start(environment, theirs.fileno(), log)
        except BaseException:
            ours.close()
            raise
        link = self._links[environment.key] = EnvironmentLink(ours, process, environment, log)
        return link

    def _start(self, environment: EnvironmentSpec, link: int, log: Path) -> subprocess.Popen[bytes]:
        # Imported here, because most sessions have no environments.
        import subprocess

        complaint = str(log.with_suffix(".complaint"))
        record = EnvironmentBoot(self._boot, environment, self._entry, link, complaint)
        with tempfile.TemporaryFile(dir=self._directory) as boot, open(log, "wb") as output:
            boot.write(encode_boot(record))
            boot.flush()
            return subprocess.Popen(
                command(boot.fileno(), _PROGRAM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(boot.fileno(), link),
                env=settings.environment_with(dict(environment.variables)),
                process_group=0,
            )

    def close(self, key: str) -> None:
        """End the process of an environment that has no workers."""
        link = self._links.pop(key, None)
        if link is not None:
            link.hang_up()
            self._closed.append(link)

    def lose(self, link: EnvironmentLink) -> str | None:
        """Return why the process of an environment has ended; None if the environment was closed."""
        if link in self._closed:
            self._closed.remove(link)
            link.explain_end()
            return None
        del self._links[link.key]
        return link.explain_end()

    def hang_up(self) -> None:
        """Ask all processes to end, with their workers."""
        for link in self:
            link.hang_up()

    def end(self, seconds: float) -> None:
        """End all processes, and wait for that at most so many seconds."""
        deadline = time.monotonic() + seconds
        for link in self:
            link.end(max(0.0, deadline - time.monotonic()))
        self._links.clear()
        self._closed.clear()
