"""Errors after a death: their text, their time, and the fate of work that was nearly done."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import processes, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(max_retries=0)
def wait_to_be_killed(log: Path) -> None:
    log.write_text(f"{os.getpid()}\n")
    while True:
        time.sleep(0.01)


def started(log: Path) -> int:
    """Return the process id that a task writes to `log` when the task starts."""
    until(lambda: log.exists() and log.read_text().endswith("\n"), "the task runs")
    return int(log.read_text())


@pytest.mark.parametrize("limit", [1.0, pytest.param(0.05, marks=pytest.mark.chaos)])
def test_the_error_of_a_killed_worker_arrives_right_after_the_kill(tmp_path: Path, limit: float) -> None:
    took = []
    for i in range(5):
        ref = wait_to_be_killed.remote(tmp_path / f"log{i}")
        victim = started(tmp_path / f"log{i}")
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(
            exceptions.WorkerCrashedError, match=rf"wait_to_be_killed#{i + 1} .*\(pid {victim}\)"
        ):
            ray.get(ref, timeout=30)
        took.append(time.monotonic() - began)
    # A single slow attempt may be the machine's fault.
    assert min(took) < limit


def test_the_error_after_the_last_retry_describes_the_last_death(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ref = wait_to_be_killed.options(max_retries=1).remote(log)
    for _ in range(2):
        victim = started(log)
        log.unlink()
        os.kill(victim, signal.SIGKILL)
    with pytest.raises(
        exceptions.WorkerCrashedError, match=rf"{victim}.*max_retries=1.*signal 9 \(SIGKILL\)"
    ):
        ray.get(ref, timeout=30)


def read_address_zero() -> bytes:
    return ctypes.string_at(0)


def overflow_the_stack() -> Any:
    # Each level of recursion passes through C code that does not count the depth.
    callback = ctypes.CFUNCTYPE(ctypes.c_int)
    deeper: Any = callback(lambda: deeper())
    sys.setrecursionlimit(1 << 30)
    return deeper()


@pytest.mark.parametrize("fault", [read_address_zero, overflow_the_stack])
def test_the_error_of_a_segmentation_fault_has_the_frames_of_user_code(fault: Any) -> None:
    @ray.remote(max_retries=0)
    def task() -> None:
        fault()

    with pytest.raises(exceptions.WorkerCrashedError, match=r"signal 11 \(SIGSEGV\)") as caught:
        ray.get(task.remote(), timeout=60)
    text = str(caught.value)
    assert "Fatal Python error: Segmentation fault" in text
    assert Path(__file__).name in text


class DiesBeforeItSpeaks:
    """Result of a task that kills its worker when the worker sends its first message after the end of the task."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        from ipyremote.backend import current

        session: Any = current.backend()
        session.channel.send = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
        return bytes, (b"x" * self.size,)


@ray.remote(max_retries=0)
def die_before_speaking(log: Path, size: int) -> Any:
    with log.open("a") as file:
        file.write("x")
    return DiesBeforeItSpeaks(size)


def test_a_small_result_survives_a_worker_that_is_killed_before_sending_the_result(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert ray.get(die_before_speaking.remote(log, 10), timeout=30) == b"x" * 10
    assert log.read_text() == "x"


def test_a_larger_result_is_lost_and_the_error_says_that_the_task_had_completed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(exceptions.WorkerCrashedError, match="had completed, but its worker"):
        ray.get(die_before_speaking.remote(log, 50_000), timeout=30)
    assert log.read_text() == "x"


@ray.remote(max_restarts=2, max_task_retries=-1)
class Log:
    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, number: int, gate: Path | None = None) -> int:
        with self.path.open("a") as file:
            file.write(f"{number} {os.getpid()}\n")
        while gate is not None and not gate.exists():
            time.sleep(0.005)
        return number

    def pid(self) -> int:
        return os.getpid()


def test_calls_of_a_killed_actor_are_repeated_in_order_until_the_actor_is_dead(tmp_path: Path) -> None:
    path, gate = tmp_path / "log", tmp_path / "gate"
    actor = Log.remote(path)
    refs = [actor.add.remote(number, gate if number == 3 else None) for number in range(6)]

    def lines() -> list[tuple[int, int]]:
        text = path.read_text() if path.exists() else ""
        return [(int(number), int(pid)) for number, pid in map(str.split, text.splitlines())]

    for _ in range(2):
        until(lambda: bool(lines()) and lines()[-1][0] == 3, "the call that waits runs")
        victim = lines()[-1][1]
        os.kill(victim, signal.SIGKILL)
        until(lambda: lines()[-1] != (3, victim), "the actor runs again")  # noqa: B023  # called in this round only
    gate.touch()
    assert ray.get(refs, timeout=30) == list(range(6))
    # Each call runs at least once, and in its order.
    assert [0, 1, 2, 3, 3, 3, 4, 5] == [number for number, _ in lines()]
    pid = ray.get(actor.pid.remote(), timeout=30)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the last incarnation is gone")
    with pytest.raises(exceptions.ActorDiedError, match="max_restarts=2"):
        ray.get(actor.add.remote(6), timeout=30)


@ray.remote(num_cpus=2)
class Hangs:
    def __init__(self, log: Path) -> None:
        log.write_text(f"{os.getpid()}\n")
        while True:
            time.sleep(0.01)

    def call(self) -> None:
        """Do nothing; the method is never called."""


@pytest.mark.parametrize("end", ["kill", "SIGKILL"])
def test_a_killed_actor_that_hangs_in_its_init_returns_its_cpus(tmp_path: Path, end: str) -> None:
    log = tmp_path / "log"
    actor = Hangs.remote(log)
    call = actor.call.remote()
    pid = started(log)
    assert "CPU" not in ray.available_resources()
    if end == "kill":
        ray.kill(actor)
    else:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(call, timeout=30)
    until(lambda: ray.available_resources().get("CPU") == 2.0, "both CPUs are free")
    until(lambda: pid not in worker_pids(), "the worker is gone")


def test_no_process_of_a_session_listens_on_the_network() -> None:
    ray.get(wait_a_moment.remote(), timeout=30)
    ours = [process for process in processes() if process.is_running()]
    assert len(ours) >= 3
    assert [] == [found for process in ours for found in process.net_connections(kind="inet")]


@ray.remote
def wait_a_moment() -> None:
    """Return after a moment."""
