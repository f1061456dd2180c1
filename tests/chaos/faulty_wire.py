"""Faults of the wire, injected into both ends of each connection of a process that calls `install`.

    twice    every frame is sent twice
    late     every seventh frame of a sender leaves 20 ms late, and so do the frames behind it: links are FIFO
    narrow   the kernel takes a few KB at a time, so that every larger frame is written in parts
    lossy    the tenth frame of the first worker that sends ten frames is never sent

The module is loaded by its path, because the scheduler's process cannot import the tests.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

FAULTS = ("twice", "late", "narrow", "lossy")

LATE_SECONDS = 0.02
EVERY = 7
LOST = 10


def install(fault: str, scratch: str) -> None:
    """Inject a fault into this process and its forks; each of them leaves a mark in the directory `scratch`."""
    from ipyremote.wire.connection import Connection
    from ipyremote.wire.server import Server

    assert fault in FAULTS
    make, send_frame = Connection.__init__, Server._send_frame
    marks = Path(scratch)
    marks.joinpath(f"faulty-{os.getpid()}").touch()

    def connected(self: Connection, *arguments: Any) -> None:
        make(self, *arguments)
        self._send = _faulty(fault, self._send, marks / "lost")
        marks.joinpath(f"faulty-{os.getpid()}").touch()

    def sending(self: Server, peer: Any, frame: bytes) -> bool:
        if fault == "twice" and frame:
            send_frame(self, peer, frame)
        elif fault == "late" and peer.sent % EVERY == 0:
            time.sleep(LATE_SECONDS)
        elif fault == "narrow":
            _narrow()
        return send_frame(self, peer, frame)

    Connection.__init__ = connected  # type: ignore[method-assign, assignment]
    Server._send_frame = sending  # type: ignore[method-assign]


def _faulty(fault: str, send: Callable[[bytes], None], lost: Path) -> Callable[[bytes], None]:
    numbers = count(1)

    def faulty(frame: bytes) -> None:
        number = next(numbers)
        if fault == "twice":
            send(frame)
        elif fault == "late" and number % EVERY == 0:
            time.sleep(LATE_SECONDS)
        elif fault == "narrow":
            _narrow()
        elif fault == "lossy" and number == LOST and _is_worker() and _is_first(lost):
            return
        send(frame)

    return faulty


def _is_worker() -> bool:
    from ipyremote.backend import current

    session: Any = current.backend()
    return session.channel.host is not None


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _narrow() -> None:
    """Narrow all connections of this process, including connections that are already accepted."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the connection may be closed by now
            if stat.S_ISSOCK(os.stat(int(entry)).st_mode):
                with socket.socket(fileno=os.dup(int(entry))) as copy:
                    if copy.family == socket.AF_UNIX:
                        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
