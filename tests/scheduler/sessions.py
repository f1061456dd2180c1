"""A real scheduler process with fake workers, and the driver's side of it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from ipyremote.ids import DRIVER, ClientId, IdSource, ObjectId
from ipyremote.messages import (
    Boot,
    Bye,
    FromClient,
    Hello,
    Inline,
    ObjectReady,
    Submit,
    TaskSpec,
    ToClient,
    Value,
    encode_boot,
)
from ipyremote.store.directory import SessionDirectory
from ipyremote.wire.connection import Connection
from ipyremote.wire.lifeline import Lifeline, pair
from tests.support.sources import ROOT

SECRET = bytes(range(32))
Message = TypeVar("Message")
WORKER = "tests.scheduler.fake_worker:main"
#: What a test waits for at most; far above what anything takes.
PATIENCE = 10.0
_LAUNCH = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.scheduler.sessions import launch
launch(*sys.argv[1:])
"""


def launch(boot_fd: str, entry: str, core: str) -> None:
    """Run the scheduler's program with another worker and, perhaps, another core. Called in the scheduler's process."""
    from ipyremote.scheduler.__main__ import main

    if core:
        from tests.scheduler import broken_core

        main(int(boot_fd), entry=entry, core_type=getattr(broken_core, core))
    main(int(boot_fd), entry=entry)


class DriverSide:
    """The driver's side: the session directory, the two pipes, and (once `connect` was called) a connection."""

    def __init__(
        self,
        *,
        entry: str = WORKER,
        core: str = "",
        cpus: int = 1,
        command: Callable[[int], list[str]] | None = None,
        cwd: Path | None = None,
        directory: SessionDirectory | None = None,
        keep_alive: float = 0.0,
    ) -> None:
        self._core = core
        self.directory = directory or SessionDirectory.create(1 << 20)
        self.path = self.directory.path
        read_boot, write_boot = os.pipe()
        lifeline, self.lifeline_end = pair()
        alive, alive_end = pair()
        self.alive = Lifeline(alive)
        log = (self.path / "scheduler.log").open("wb")
        boot = Boot(
            directory=str(self.path),
            key="00" * 20,
            secret=SECRET,
            lifeline=lifeline,
            alive=alive_end,
            resources=(("CPU", cpus * 10_000),),
            capacity=1 << 20,
            sys_path=tuple(map(os.fsencode, sys.path)),
            cwd=os.fsencode(os.getcwd()),
            keep_alive=keep_alive,
        )
        argv = (
            command(read_boot)
            if command
            else [sys.executable, "-P", "-c", _LAUNCH, str(read_boot), entry, core]
        )
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=cwd,
            start_new_session=True,
            pass_fds=[read_boot, lifeline, alive_end, self.directory.lock_fd or 0],
        )
        log.close()
        for fd in (read_boot, lifeline, alive_end):
            os.close(fd)
        with open(write_boot, "wb") as pipe:
            pipe.write(encode_boot(boot))
        self._connections: list[Connection] = []
        self._ids = IdSource(DRIVER)
        self._received: list[ToClient] = []
        self._driver: Connection | None = None

    # ------------------------------------------------------------------------------------------------- talking to it

    def connect(
        self, client_id: ClientId = DRIVER, *, pid: int | None = None, role: str = "driver"
    ) -> Connection:
        hello = Hello(client_id, pid or os.getpid(), role)
        connection = Connection(str(self.directory.socket_path), SECRET, hello)
        self._connections.append(connection)
        return connection

    @property
    def driver(self) -> Connection:
        if self._driver is None:
            self._driver = self.connect()
        return self._driver

    def send(self, *messages: FromClient) -> None:
        for message in messages:
            self.driver.queue(message)
        self.driver.flush()

    def order(self, order: str, *, retries: int = 0) -> ObjectId:
        """Submit a task for a fake worker, and return the id of its result."""
        task_id = self._ids.take()
        args = Inline(order.encode())
        self.send(Submit(TaskSpec(task_id, b"", "order", str(task_id & 0xFFFF), args, max_retries=retries)))
        return task_id

    def result(self, object_id: ObjectId) -> Value:
        ready = self.receive(
            lambda message: isinstance(message, ObjectReady) and message.object_id == object_id
        )
        assert isinstance(ready, ObjectReady)
        return ready.value

    def ask(self, order: str) -> str:
        """Give an order to a fake worker, and return the answer."""
        value = self.result(self.order(order))
        assert isinstance(value, Inline), value
        return value.data.decode()

    def fate(self, order: str) -> str:
        """Give an order that ends the worker, and return the reason that is told for the death."""
        value = self.result(self.order(order))
        assert not isinstance(value, Inline), value
        return value.text  # type: ignore[union-attr]  # a Failure

    def receive_a(self, kind: type[Message]) -> Message:
        """Return the first message of a type."""
        message = self.receive(lambda message: isinstance(message, kind))
        assert isinstance(message, kind)
        return message

    def receive(self, wanted: Callable[[ToClient], bool], connection: Connection | None = None) -> ToClient:
        """Return the first message that is wanted. Earlier messages are kept for later calls."""
        connection = connection or self.driver
        poll = select.poll()
        poll.register(connection.fd, select.POLLIN)
        poll.register(self.alive.fileno(), select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while True:
            self._received.extend(connection.messages())
            for index, message in enumerate(self._received):
                if wanted(message):
                    return self._received.pop(index)
            assert time.monotonic() < deadline, f"not received; the log says:\n{self.log()}"
            assert not self.alive.is_cut(), f"the scheduler is gone; the log says:\n{self.log()}"
            poll.poll(100)

    # --------------------------------------------------------------------------------------------------- looking at it

    def log(self) -> str:
        try:
            return (self.path / "scheduler.log").read_text()
        except FileNotFoundError:
            return "(no log)"

    def processes(self) -> list[psutil.Process]:
        """Return the scheduler and all its descendants."""
        scheduler = psutil.Process(self.process.pid)
        return [scheduler, *scheduler.children(recursive=True)]

    def zygote(self) -> psutil.Process:
        (zygote,) = psutil.Process(self.process.pid).children()
        return zygote

    def workers(self) -> list[psutil.Process]:
        return self.zygote().children()

    # ------------------------------------------------------------------------------------------------------ ending it

    def cut_lifeline(self) -> None:
        if self.lifeline_end >= 0:
            os.close(self.lifeline_end)
            self.lifeline_end = -1

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def bye(self) -> int:
        self.send(Bye())
        return self.wait()

    def close(self) -> None:
        log = self.log()
        self.cut_lifeline()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
        for connection in self._connections:
            connection._socket.close(0)
            connection._context.term()
        self.alive.close()
        self.directory.remove()
        assert self._core or "loop failed" not in log, log


@contextmanager
def session(**options: object) -> Iterator[DriverSide]:
    """Run a session for the length of a `with` block."""
    side = DriverSide(**options)  # type: ignore[arg-type]  # handed through
    try:
        yield side
    finally:
        side.close()


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether each of these processes has ended, apart from zombies that another process must reap."""
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
