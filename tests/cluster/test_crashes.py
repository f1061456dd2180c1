"""Deaths of processes: ways in which a worker ends as data, and each promise about surviving tasks and objects."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support.waiting import until


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def system_exit() -> None:
    sys.exit(4)


def abort() -> None:
    os.abort()


#: Way in which a worker ends -> text of the error.
ENDS = [
    (kill_self, "SIGKILL"),
    (segfault, "SIGSEGV"),
    (leave, "exit code 3"),
    (system_exit, "exit code 4"),
    (abort, "SIGABRT"),
]


class BadReduce:
    """Object that ends its process while the object is being pickled."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end

    def __reduce__(self) -> Any:
        self.end()
        return (int, (0,))


class BadLoad:
    """Object that ends the process that unpickles the object."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end

    def __reduce__(self) -> Any:
        return (self.end, ())


@ray.remote(max_retries=0)
def run(end: Callable[[], None]) -> None:
    end()


@ray.remote(max_retries=0)
def return_bad(end: Callable[[], None]) -> BadReduce:
    return BadReduce(end)


@ray.remote(max_retries=0)
def take(value: Any) -> Any:
    return value


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("end", "reason"), ENDS)
def test_the_error_of_a_worker_that_dies_in_user_code_has_the_reason(
    end: Callable[[], None], reason: str
) -> None:
    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        ray.get(run.remote(end), timeout=30)
    assert "run#1" in str(caught.value)
    assert "pid" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.usefixtures("cluster")
def test_only_a_system_exit_ends_the_worker() -> None:
    @ray.remote
    class Raises:
        def pid(self) -> int:
            return os.getpid()

        def throw(self, error: type[BaseException]) -> None:
            raise error("enough")

    actor = Raises.remote()
    pid = ray.get(actor.pid.remote(), timeout=30)
    with pytest.raises(exceptions.TaskError, match="GeneratorExit: enough") as caught:
        ray.get(actor.throw.remote(GeneratorExit), timeout=30)
    # Raising a GeneratorExit would end a generator of the caller, so the error is not an instance of GeneratorExit.
    assert not isinstance(caught.value, GeneratorExit)
    with pytest.raises(exceptions.TaskCancelledError, match="KeyboardInterrupt"):
        ray.get(actor.throw.remote(KeyboardInterrupt), timeout=30)
    assert ray.get(actor.pid.remote(), timeout=30) == pid
    with pytest.raises(exceptions.ActorDiedError, match="enough"):
        ray.get(actor.throw.remote(SystemExit), timeout=30)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_while_it_pickles_the_result_fails_the_task() -> None:
    with pytest.raises(exceptions.WorkerCrashedError, match="exit code 3"):
        ray.get(return_bad.remote(leave), timeout=30)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_while_it_unpickles_an_argument_fails_the_task() -> None:
    with pytest.raises(exceptions.WorkerCrashedError, match="exit code 3"):
        ray.get(take.remote(BadLoad(leave)), timeout=30)


@pytest.mark.usefixtures("cluster")
def test_an_argument_whose_unpickling_raises_fails_the_task() -> None:
    with pytest.raises(ZeroDivisionError):
        ray.get(take.remote(BadLoad(divide)), timeout=30)


def divide() -> None:
    raise ZeroDivisionError("no")


@pytest.mark.usefixtures("cluster")
def test_a_killed_task_is_retried(tmp_path: Path) -> None:
    @ray.remote(max_retries=2)
    def die_once(log: Path) -> int:
        with log.open("a") as file:
            file.write("x")
        if log.stat().st_size < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7

    log = tmp_path / "log"
    assert ray.get(die_once.remote(log), timeout=30) == 7
    assert log.read_text() == "xx"


@pytest.mark.usefixtures("cluster")
def test_only_the_started_task_of_a_killed_worker_uses_up_a_retry(tmp_path: Path) -> None:
    @ray.remote(max_retries=0)
    def mark(path: Path, poison: bool) -> None:
        with path.open("a") as file:
            file.write("x")
        if poison:
            os.kill(os.getpid(), signal.SIGKILL)

    warm = [mark.remote(tmp_path / f"warm{i}", False) for i in range(50)]
    ray.get(warm, timeout=30)
    refs = [mark.remote(tmp_path / f"run{i}", i == 20) for i in range(100)]
    outcomes = []
    for ref in refs:
        try:
            ray.get(ref, timeout=30)
            outcomes.append("ok")
        except exceptions.WorkerCrashedError:
            outcomes.append("crashed")
    assert outcomes == ["crashed" if i == 20 else "ok" for i in range(100)]
    assert all((tmp_path / f"run{i}").read_text() == "x" for i in range(100))


@pytest.mark.usefixtures("cluster")
def test_an_array_outlives_the_worker_that_made_it() -> None:
    import numpy as np

    @ray.remote(max_retries=0)
    def make() -> tuple[int, Any]:
        return os.getpid(), np.arange(200_000)

    ref = make.remote()
    pid, array = ray.get(ref, timeout=30)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is gone")
    assert array.sum() == np.arange(200_000).sum()
    assert ray.get(ref)[1][-1] == 199_999


@pytest.mark.usefixtures("cluster")
def test_processes_that_a_killed_worker_started_end_with_the_worker() -> None:
    @ray.remote(max_retries=0)
    def start_sleep() -> tuple[int, int]:
        child = subprocess.Popen(["sleep", "1000"])
        return os.getpid(), child.pid

    worker, child = ray.get(start_sleep.remote(), timeout=30)
    os.kill(worker, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists(), "the subprocess is gone", seconds=3)


@pytest.mark.usefixtures("cluster")
def test_an_actor_restarts_max_restarts_times_and_then_is_dead() -> None:
    @ray.remote(max_restarts=1)
    class Fragile:
        def pid(self) -> int:
            return os.getpid()

    actor = Fragile.remote()
    first = ray.get(actor.pid.remote(), timeout=30)
    os.kill(first, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{first}").exists(), "the first incarnation is gone")
    second = _pid_after_restart(actor)
    assert second != first
    os.kill(second, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{second}").exists(), "the second incarnation is gone")
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.pid.remote(), timeout=30)


def _pid_after_restart(actor: Any) -> int:
    deadline = time.monotonic() + 30
    while True:
        try:
            return int(ray.get(actor.pid.remote(), timeout=30))
        except exceptions.ActorUnavailableError:
            assert time.monotonic() < deadline


@pytest.mark.usefixtures("cluster")
def test_calls_of_a_killed_actor_fail() -> None:
    @ray.remote
    class Sleeper:
        def sleep(self) -> None:
            time.sleep(1000)

        def quick(self) -> int:
            return 1

    actor = Sleeper.remote()
    refs = [actor.sleep.remote(), actor.quick.remote()]
    ray.kill(actor)
    for ref in [*refs, actor.quick.remote()]:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=30)


@pytest.mark.usefixtures("cluster")
def test_each_call_of_an_actor_whose_init_raises_fails_with_the_cause() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no such luck")

        def call(self) -> int:
            return 1

    actor = Broken.remote()
    for _ in range(2):
        with pytest.raises(exceptions.ActorDiedError, match="no such luck"):
            ray.get(actor.call.remote(), timeout=30)


def test_each_wait_fails_after_the_scheduler_is_killed_and_init_works_again(
    start: Callable[..., Any],
) -> None:
    start(num_cpus=2)

    @ray.remote
    def forever() -> None:
        time.sleep(1000)

    ref = forever.remote()
    assert ray.wait([ref], timeout=0.1) == ([], [ref])
    pid = _scheduler_pid()
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(exceptions.ClusterLostError):
        ray.get(ref, timeout=30)
    assert time.monotonic() - begin < 5
    with pytest.raises(exceptions.ClusterLostError):
        ray.get(ref)
    start(num_cpus=1)
    assert ray.get(take.remote(5), timeout=30) == 5


def test_a_killed_zygote_ends_the_session_with_an_error(start: Callable[..., Any]) -> None:
    import psutil

    start(num_cpus=1)
    assert ray.get(take.remote(1), timeout=30) == 1
    zygotes = psutil.Process(_scheduler_pid()).children()
    assert len(zygotes) == 1
    zygotes[0].kill()
    with pytest.raises(exceptions.ClusterLostError, match="lost"):
        _take_until_lost()
    start(num_cpus=1)
    assert ray.get(take.remote(2), timeout=30) == 2


def _take_until_lost() -> None:
    while True:
        with contextlib.suppress(exceptions.WorkerCrashedError):
            ray.get(take.remote(1), timeout=30)


def _scheduler_pid() -> int:
    from ipyremote.backend import current

    session: Any = current.backend()
    until(lambda: session.scheduler_pid != 0, "the scheduler has greeted")
    return int(session.scheduler_pid)
