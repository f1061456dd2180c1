"""The zygote: the process that forks the workers, reaps them, and tells the scheduler how they ended.

The scheduler forks the zygote before the scheduler makes a zmq context or a thread. The zygote imports the modules of a
worker once; starting a worker then takes one fork, and workers share that memory until they write to it. Each
environment has a zygote of its own, which is a fresh process (`environment.py`). The zygote decides nothing. `link.py`
is the scheduler's end of the socket, and describes the records on the socket.

Rules.

- The zygote never has a second thread: a fork copies the calling thread only, and a lock that another thread held would
  stay locked in the worker.
- The zygote keeps no descriptor of the scheduler but its own end of the socket, because a lifeline works only while
  nobody else has a copy of it.
- Each worker leads a process group. When a worker has ended, for whatever reason, the rest of its group is killed. The
  worker is reaped after that, because until then no other process can have its process id.
- On end of file the scheduler is gone, or wants the session to end: the zygote kills every group, reaps the workers and
  ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NoReturn

from ipyremote.ids import NO_CLIENT, ClientId
from ipyremote.messages import Boot, EnvironmentSpec, WorkerBoot
from ipyremote.process_title import set_title
from ipyremote.scheduler.link import EXITED, FORK, KILL, OPENED, RECORD, REFUSED, STARTED, ZygoteLink
from ipyremote.scheduler.worker_logs import worker_log
from ipyremote.wire import lifeline

__all__ = ["serve", "start"]

#: Time for the last workers to end, in seconds. The kernel ends the zygote after that.
END_SECONDS: Final = 2
#: Badness of a worker for the kernel's OOM killer (-1000 to 1000, normally 0). The OOM killer takes processes with a
#: higher value first, and a worker shall go before the notebook's kernel.
WORKER_OOM_SCORE: Final = 500
#: Signals that the zygote ignores, because it ends on end of file only. Workers get the default actions back.
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(boot: Boot, entry: str) -> ZygoteLink:
    """Fork the zygote. `entry` ("module:function") names the function that a worker calls with its `WorkerBoot`.

    The function is given by its name, because the worker is another program, which the scheduler must not import.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        _serve(boot, theirs, entry, None)
    theirs.close()
    return ZygoteLink(ours, pid)


def serve(boot: Boot, link: socket.socket, entry: str, environment: EnvironmentSpec) -> NoReturn:
    """Run the zygote of an environment in this process, which has the environment's variables. Reports OPENED first."""
    _serve(boot, link, entry, environment)


def _serve(boot: Boot, link: socket.socket, entry: str, environment: EnvironmentSpec | None) -> NoReturn:
    status = 1
    try:
        if environment is None:
            set_title("zygote")
            # The fork has copied all descriptors of the scheduler.
            _close_all_but(link.fileno())
        Zygote(boot, link, entry, environment).run()
        status = 0
    except BaseException:
        # Whatever happened, this process must not return into the frames of the scheduler that it was forked from.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Zygote:
    """The zygote's program. Runs in the forked process only."""

    def __init__(
        self, boot: Boot, link: socket.socket, entry: str, environment: EnvironmentSpec | None = None
    ) -> None:
        self._boot = boot
        self._environment = environment
        self._link = link
        #: Process id of each living worker, by worker id.
        self._pids: dict[ClientId, int] = {}
        #: Worker id of each living worker, by process id.
        self._worker_ids: dict[int, ClientId] = {}
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self._lifeline, self._lifeline_end = lifeline.pair()
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_end, False)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        # Without a handler the wake-up descriptor would not be written to, because SIGCHLD is ignored by default.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        module, _, name = entry.partition(":")
        self._main: Callable[[WorkerBoot], int | None] = getattr(importlib.import_module(module), name)
        _require_single_thread()
        # All present objects live as long as the process. The collector would write to their memory, and workers would
        # share it no more, so the objects are hidden from the collector.
        gc.freeze()

    def run(self) -> None:
        """Serve until the scheduler closes its end of the socket."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        pending = b""
        if self._environment is not None:
            self._report(OPENED, NO_CLIENT, 0, 0)
        while True:
            ready = dict(poll.poll())
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._link.fileno() not in ready:
                continue
            received = self._link.recv(1 << 16)
            if not received:
                break
            pending += received
            whole = len(pending) - len(pending) % RECORD.size
            for kind, worker_id, _, _ in RECORD.iter_unpack(pending[:whole]):
                self._perform(kind, worker_id)
            pending = pending[whole:]
        self._end()

    def _perform(self, kind: bytes, worker_id: ClientId) -> None:
        if kind == FORK:
            self._fork(worker_id)
        elif kind == KILL and worker_id in self._pids:
            _kill_group(self._pids[worker_id])

    def _report(self, kind: bytes, worker_id: ClientId, pid: int, status: int) -> None:
        self._link.sendall(RECORD.pack(kind, worker_id, pid, status))

    def _fork(self, worker_id: ClientId) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            # The system allows no more processes, or has no memory left.
            self._report(REFUSED, worker_id, 0, error.errno or 0)
            return
        if not pid:
            self._become_worker(worker_id)
        # The child makes the same call. Whichever process comes first, the group exists before anyone needs it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._pids[worker_id] = pid
        self._worker_ids[pid] = worker_id
        self._report(STARTED, worker_id, pid, 0)

    def _reap(self) -> None:
        while self._pids:
            # WNOWAIT leaves the process unreaped, so that its process id, which is also the group's id, is not reused
            # before the group is killed.
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._bury(ended.si_pid)

    def _bury(self, pid: int) -> None:
        worker_id = self._worker_ids.pop(pid, None)
        if worker_id is not None:
            _kill_group(pid)
        _, status = os.waitpid(pid, 0)
        if worker_id is not None:
            del self._pids[worker_id]
            self._report(EXITED, worker_id, pid, status)

    def _end(self) -> None:
        signal.alarm(END_SECONDS)
        for pid in self._pids.values():
            _kill_group(pid)
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _become_worker(self, worker_id: ClientId) -> NoReturn:
        status = 1
        try:
            self._leave_zygote()
            _redirect(worker_log(Path(self._boot.directory), worker_id))
            _reseed()
            status = self._run_worker(worker_id)
        except BaseException:
            traceback.print_exc()
        finally:
            _flush((sys.stdout, sys.stderr))
            os._exit(status)

    def _leave_zygote(self) -> None:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        os.close(self._lifeline_end)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_IGNORED):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._link.close()
        os.close(self._wake)
        os.close(self._wake_end)
        _offer_to_oom_killer()
        gc.enable()

    def _run_worker(self, worker_id: ClientId) -> int:
        boot = WorkerBoot(
            worker_id=worker_id,
            directory=self._boot.directory,
            key=self._boot.key,
            secret=self._boot.secret,
            lifeline=self._lifeline,
            capacity=self._boot.capacity,
            sys_path=self._boot.sys_path,
            cwd=self._boot.cwd,
            argv=self._boot.argv,
            environment=self._environment,
        )
        try:
            return self._main(boot) or 0
        except SystemExit as leaving:
            # The interpreter has the same rules: a number is the status, None means success, and a text means failure.
            if leaving.code is None:
                return 0
            if isinstance(leaving.code, int):
                return leaving.code & 0xFF
            print(leaving.code, file=sys.stderr)
            return 1


def _close_all_but(keep: int) -> None:
    listing = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(listing):
        fd = int(name)
        if fd > 2 and fd != keep:
            # The descriptor that listed the directory is among the names, and is closed by now.
            with contextlib.suppress(OSError):
                os.close(fd)


def _require_single_thread() -> None:
    threads = threading.active_count()
    with contextlib.suppress(OSError):
        threads = max(threads, len(os.listdir("/proc/self/task")))
    if threads != 1:
        raise RuntimeError(
            f"importing the worker started {threads - 1} threads; it could not be forked safely"
        )


def _redirect(log: Path) -> None:
    """Make standard input empty, and send descriptors 1 and 2 to the log.

    The log gets the output that bypasses Python's streams, and the last words of a crash.
    """
    null = os.open(os.devnull, os.O_RDWR)
    try:
        # O_APPEND, because the scheduler cuts a log that grows too long, and writing goes on at the new end. Readable,
        # because the worker passes on the text that other programs have written there.
        output = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        output = os.dup(null)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    faulthandler.enable(file=2)


def _offer_to_oom_killer() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as score:
        if int(score.read()) < WORKER_OOM_SCORE:
            score.seek(0)
            score.write(str(WORKER_OOM_SCORE))


def _reseed() -> None:
    """Give this worker random numbers of its own: without a new seed, all forked workers would draw the same ones.

    Modules that are imported later seed themselves.
    """
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    # User code may have moved the worker into another process group.
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _flush(streams: Iterable[object]) -> None:
    for stream in streams:
        # User code may have replaced the stream by any object.
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[attr-defined]  # any object, as said above
