"""The processes of environments as the scheduler sees them: started, told by, and ended.

Each is a fresh process with the environment's variables, since what a library reads when it is imported cannot be
changed by a fork. It sets the environment up and then forks its workers as the zygote does the session's own; the
socket to it carries the same records, after one that says OPENED. Its program is `environment.py`.

Rules. Nothing here blocks but `end`. Each leads a process group, in which installers run, and which is killed when the
process has ended, however that came. Its log is `environment-<number>.log` of the session directory. What it complains
of before it gives up is in a file beside that; without one, the end of its log says what is known.
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
            # It is called before a worker greets.
            seconds = environment.seconds if environment.seconds >= 0 else math.inf
            self.start_seconds = max(self.start_seconds, seconds)

    @property
    def complaint(self) -> Path:
        """Where it says why it gave up."""
        return self._log.with_suffix(".complaint")

    def reap(self) -> int:
        """Wait for its end, which has come or is about to; its wait status. What is left of its group is killed."""
        self._link.close()
        # Until it is reaped, nobody else can have its id.
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        return -code if code < 0 else code << 8

    def obituary(self) -> str:
        """Why it has ended; its files are removed."""
        status = self.reap()
        try:
            text = self.complaint.read_text(errors="replace").strip()
        except OSError:
            text = f"its process ended: {describe(status, words=last_lines(self._log)).text}"
        for file in (self.complaint, self._log):
            file.unlink(missing_ok=True)
        return text


class EnvironmentProcesses:
    """Those that were opened and not lost or closed."""

    def __init__(self, boot: Boot, directory: Path, entry: str) -> None:
        self._boot = boot
        self._directory = directory
        self._entry = entry
        self._links: dict[str, EnvironmentLink] = {}
        #: Of those that were closed, until they have ended.
        self._closed: list[EnvironmentLink] = []
        self._number = 0

    def __iter__(self) -> Iterator[EnvironmentLink]:
        return iter((*self._links.values(), *self._closed))

    def get(self, key: str) -> EnvironmentLink | None:
        """The one that is open, or about to be."""
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
        # Imported here, since most sessions have no environments.
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
        """End the process of one that has no workers."""
        link = self._links.pop(key, None)
        if link is not None:
            link.hang_up()
            self._closed.append(link)

    def lose(self, link: EnvironmentLink) -> str | None:
        """The process of one has ended; why. None: it was closed."""
        if link in self._closed:
            self._closed.remove(link)
            link.obituary()
            return None
        del self._links[link.key]
        return link.obituary()

    def hang_up(self) -> None:
        """Have all of them end, with their workers."""
        for link in self:
            link.hang_up()

    def end(self, seconds: float) -> None:
        """See all of them end."""
        deadline = time.monotonic() + seconds
        for link in self:
            link.end(max(0.0, deadline - time.monotonic()))
        self._links.clear()
        self._closed.clear()
