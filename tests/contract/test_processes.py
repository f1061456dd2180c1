"""Features that not every engine has: timeouts, parallelism, cancelling, processes that crash."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import GetTimeoutError, TaskCancelledError, WorkerCrashedError


@pytest.mark.needs("parallel_tasks")
def test_a_slow_task_times_out_and_goes_on(tmp_path: Path) -> None:
    @ray.remote
    def slow(gate: Path) -> int:
        while not gate.exists():
            time.sleep(0.005)
        return 1

    gate = tmp_path / "gate"
    ref = slow.remote(gate)
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0)
    gate.touch()
    assert ray.get(ref, timeout=30) == 1


@pytest.mark.needs("parallel_tasks")
def test_wait_returns_the_refs_that_are_ready_first(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def hold(path: str) -> None:
        while path and not os.path.exists(path):
            time.sleep(0.01)

    slow, fast = hold.remote(str(gate)), hold.remote("")
    assert ray.wait([slow, fast], timeout=30) == ([fast], [slow])
    gate.touch()
    assert ray.wait([slow, fast], num_returns=2, timeout=30) == ([slow, fast], [])


@pytest.mark.needs("parallel_tasks")
def test_tasks_run_in_parallel(tmp_path: Path) -> None:
    @ray.remote
    def meet(own: str, other: str) -> bool:
        Path(own).touch()
        deadline = time.monotonic() + 30
        while not os.path.exists(other) and time.monotonic() < deadline:
            time.sleep(0.01)
        return os.path.exists(other)

    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert ray.get([meet.remote(one, two), meet.remote(two, one)]) == [True, True]


@pytest.mark.needs("parallel_tasks", "cancellation")
def test_a_running_task_can_be_cancelled() -> None:
    @ray.remote
    def sleep(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    slow, fast = sleep.remote(1000), sleep.remote(0)
    assert ray.wait([slow, fast], timeout=30) == ([fast], [slow])
    ray.cancel(slow)
    with pytest.raises(TaskCancelledError):
        ray.get(slow)


@pytest.mark.needs("worker_processes")
def test_a_task_runs_in_another_process() -> None:
    @ray.remote
    def pid() -> int:
        return os.getpid()

    assert ray.get(pid.remote()) != os.getpid()


@pytest.mark.needs("worker_processes")
def test_a_crash_without_retries_names_the_task() -> None:
    @ray.remote(max_retries=0)
    def crash() -> None:
        os._exit(3)

    with pytest.raises(WorkerCrashedError, match="crash#1"):
        ray.get(crash.remote())


def test_an_actor_waits_for_the_arguments_of_earlier_calls() -> None:
    @ray.remote
    def late() -> str:
        time.sleep(0.2)
        return "late"

    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def add(self, item: Any) -> list[Any]:
            self.seen.append(item)
            return self.seen

    log = Log.remote()
    log.add.remote(late.remote())
    assert ray.get(log.add.remote("early")) == ["late", "early"]


@pytest.mark.needs("worker_processes")
def test_the_end_of_a_session_inside_a_task_is_not_the_end_of_the_task() -> None:
    @ray.remote
    def ends() -> int:
        ray.init()
        ray.shutdown()
        return ray.get(ray.put(4))

    assert ray.get(ends.remote()) == 4
