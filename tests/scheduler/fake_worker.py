"""A worker that takes orders instead of pickles: a task's argument is a line of text that says what to do.

It stands in for `ipyremote.worker`, so that these tests can make processes end in every possible way without going
through serialization. Its orders are the functions at the end of the module.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ipyremote.ids import NOBODY
from ipyremote.messages import Exit, Hello, Inline, Output, RunTask, TaskDone, WorkerBoot
from ipyremote.store.progress_page import ProgressPage
from ipyremote.wire.connection import Connection
from ipyremote.wire.lifeline import Lifeline


class FakeWorker:
    """A worker with one connection that runs one task at a time."""

    def __init__(self, boot: WorkerBoot) -> None:
        self.boot = boot
        self.page = ProgressPage.create(Path(boot.directory), boot.worker_id)
        hello = Hello(boot.worker_id, os.getpid(), "worker")
        self.connection = Connection(f"{boot.directory}/s", boot.secret, hello)
        self.lifeline = Lifeline(boot.lifeline)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self.connection.fd, select.POLLIN)
        poll.register(self.lifeline.fileno(), select.POLLIN)
        while True:
            for message in self.connection.messages():
                if isinstance(message, Exit):
                    return
                if isinstance(message, RunTask):
                    self.perform(message)
            # Between the last look into the socket and the poll nothing touches the socket.
            if any(fd == self.lifeline.fileno() for fd, _ in poll.poll()):
                return

    def perform(self, message: RunTask) -> None:
        self.page.started(message.run)
        order, _, argument = message.spec.args.data.decode().partition(" ")
        answer = ORDERS[order](self, argument)
        self.page.finished(message.run)
        self.done(message, answer)

    def done(self, message: RunTask, answer: object) -> None:
        value = Inline(str(answer).encode())
        self.connection.queue(TaskDone(message.spec.task_id, message.attempt, (value,)))
        self.connection.flush()


def main(boot: WorkerBoot) -> None:
    FakeWorker(boot).run()


def main_mute(boot: WorkerBoot) -> None:
    """Run a worker that never greets."""
    Lifeline(boot.lifeline).wait_cut()


def main_failing(boot: WorkerBoot) -> None:
    raise RuntimeError("this worker cannot start")


def _signal_self(number: int) -> None:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _say_and_die(worker: FakeWorker, argument: str) -> None:
    for number in range(int(argument)):
        worker.connection.queue(Output(NOBODY, 1, str(number)))
    worker.connection.flush()
    # The frames must have left the process, because frames in its memory would be lost with it.
    worker.connection.close()
    os.kill(os.getpid(), signal.SIGKILL)


def _raw_signals(worker: FakeWorker, argument: str) -> str:
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD")
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in names}
    assert handlers.pop("SIGINT") is signal.default_int_handler
    return " ".join(str(handler) for handler in handlers.values())


def _child(worker: FakeWorker, argument: str) -> int:
    return subprocess.Popen(["sleep", "1000"]).pid


def _send_garbage(worker: FakeWorker, argument: str) -> None:
    worker.connection._socket.send(b"garbage")
    worker.lifeline.wait_cut(20)


ORDERS = {
    "echo": lambda worker, argument: argument,
    "pid": lambda worker, argument: os.getpid(),
    "id": lambda worker, argument: worker.boot.worker_id,
    "exit": lambda worker, argument: os._exit(int(argument)),
    "sys.exit": lambda worker, argument: sys.exit(eval(argument)),
    "raise": lambda worker, argument: int(argument),
    "signal": lambda worker, argument: _signal_self(int(argument)),
    "abort": lambda worker, argument: os.abort(),
    "segfault": lambda worker, argument: ctypes.string_at(0),
    "write": lambda worker, argument: os.write(2, (argument + "\n").encode()),
    "flood": lambda worker, argument: (
        [os.write(1, b"x" * 65535 + b"\n") for _ in range(int(argument))] and ""
    ),
    "say-and-die": _say_and_die,
    "wait": lambda worker, argument: worker.lifeline.wait_cut(20),
    "stuck": lambda worker, argument: signal.pthread_sigmask(signal.SIG_BLOCK, {2, 15}) and signal.pause(),  # type: ignore[func-returns-value]
    "signals": _raw_signals,
    "child": _child,
    "garbage": _send_garbage,
    "random": lambda worker, argument: random.random(),
    "group": lambda worker, argument: f"{os.getpgrp() == os.getpid()} {os.getsid(0)}",
    "fds": lambda worker, argument: "\n".join(os.readlink(f"/proc/self/fd/{n}") for n in _fds()),
    "threads": lambda worker, argument: threading.active_count(),
    "stdin": lambda worker, argument: repr(os.read(0, 10)),
    "oom_score": lambda worker, argument: Path("/proc/self/oom_score_adj").read_text().strip(),
    "gc": lambda worker, argument: gc.isenabled() and gc.get_freeze_count() > 1000,
    "boot": lambda worker, argument: f"{os.fsdecode(worker.boot.cwd)} {worker.boot.capacity}",
}


def _fds() -> list[str]:
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.lexists(f"/proc/self/fd/{name}")]
