"""Workers that die or stop at any time, and actors whose creator dies."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import processes, worker_pids
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def square(value: int) -> int:
    return value * value


@ray.remote
def wait_for(log: Path, gate: Path) -> int:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not gate.exists():
        time.sleep(0.002)
    return os.getpid()


def test_a_task_that_kills_three_workers_fails_for_good_and_other_tasks_continue(tmp_path: Path) -> None:
    @ray.remote
    def poison(log: Path) -> None:
        with log.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    bad = poison.remote(tmp_path / "log")
    good = [square.remote(i) for i in range(1000)]
    assert ray.get(good, timeout=60) == [i * i for i in range(1000)]
    with pytest.raises(exceptions.WorkerCrashedError, match="3 workers"):
        ray.get(bad, timeout=60)
    assert (tmp_path / "log").read_text() == "xxx"


def kill_at_random(seconds: float, every: float, seed: int) -> tuple[int, int]:
    """Kill workers at random; return (sum of the values that tasks returned, expected sum)."""
    rng = random.Random(seed)
    stop = threading.Event()
    killed: list[int] = []

    @ray.remote(max_retries=-1)
    def slowly(value: int) -> int:
        time.sleep(0.002)
        return value

    def kill() -> None:
        while not stop.wait(every):
            pids = worker_pids()
            if pids:
                killed.append(rng.choice(pids))
                try:
                    os.kill(killed[-1], signal.SIGKILL)
                except ProcessLookupError:
                    killed.pop()

    thread = threading.Thread(target=kill)
    thread.start()
    total = expected = 0
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            total += sum(ray.get([slowly.remote(i) for i in range(200)], timeout=60))
            expected += sum(range(200))
    finally:
        stop.set()
        thread.join()
    assert killed
    return total, expected


def test_the_sum_of_results_is_right_although_workers_are_killed_at_random() -> None:
    total, expected = kill_at_random(2.0, 0.15, seed=1)
    assert total == expected


@pytest.mark.chaos
def test_the_sum_of_results_is_right_although_workers_are_killed_for_a_long_time() -> None:
    total, expected = kill_at_random(20.0, 0.2, seed=2)
    assert total == expected


@pytest.mark.parametrize("seconds", [0.7, pytest.param(5.0, marks=pytest.mark.chaos)])
def test_the_session_waits_for_a_stopped_worker(tmp_path: Path, seconds: float) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ref = wait_for.options(max_retries=0).remote(log, gate)
    until(lambda: log.exists() and log.read_text().endswith("\n"), "the task runs")
    worker = int(log.read_text())
    os.kill(worker, signal.SIGSTOP)
    try:
        gate.touch()
        assert ray.wait([ref], timeout=seconds) == ([], [ref])
        # The other worker continues.
        assert ray.get([square.remote(i) for i in range(20)], timeout=30) == [i * i for i in range(20)]
    finally:
        os.kill(worker, signal.SIGCONT)
    assert ray.get(ref, timeout=30) == worker
    assert log.read_text() == f"{worker}\n"


@pytest.mark.parametrize("seconds", [0.7, pytest.param(60.0, marks=pytest.mark.chaos)])
def test_a_session_that_was_suspended_resumes(tmp_path: Path, seconds: float) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ref = wait_for.options(max_retries=0).remote(log, gate)
    until(lambda: log.exists() and log.read_text().endswith("\n"), "the task runs")
    all_of_it = processes()
    for process in all_of_it:
        process.suspend()
    try:
        gate.touch()
        assert ray.wait([ref], timeout=seconds) == ([], [ref])
    finally:
        for process in all_of_it:
            process.resume()
    assert ray.get(ref, timeout=30) == int(log.read_text())
    assert processes() == all_of_it


def test_a_killed_idle_worker_is_replaced_without_an_error() -> None:
    assert ray.get(square.remote(2), timeout=30) == 4
    for _ in range(5):
        until(lambda: len(worker_pids()) > 0, "there is a worker")
        victim = worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in worker_pids(), "the end of the worker is noticed")  # noqa: B023  # called in this round only
        assert ray.get(square.options(max_retries=0).remote(3), timeout=30) == 9


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> tuple[int, int]:
        self.value += 1
        return self.value, os.getpid()


@ray.remote(max_retries=0)
def make_counter(keep: bool) -> Any:
    counter = Counter.remote()
    _, pid = ray.get(counter.increment.remote())
    return os.getpid(), pid, [counter] if keep else []


def test_a_borrower_of_a_handle_gets_an_error_when_the_actor_ends_with_its_creator() -> None:
    @ray.remote
    def use(box: list[Any]) -> int:
        return int(ray.get(box[0].increment.remote())[0])

    creator, pid, box = ray.get(make_counter.remote(True), timeout=30)
    assert ray.get(use.remote(box), timeout=30) == 2
    os.kill(creator, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the actor's process is gone")
    with pytest.raises(exceptions.ActorDiedError, match="has died with its owner"):
        ray.get(box[0].increment.remote(), timeout=30)
    with pytest.raises(exceptions.ActorDiedError, match="has died with its owner"):
        ray.get(use.remote(box), timeout=30)


def test_an_actor_ends_with_its_last_handle() -> None:
    _, pid, box = ray.get(make_counter.remote(False), timeout=30)
    assert box == []
    until(lambda: not Path(f"/proc/{pid}").exists(), "the actor's process is gone")


def test_an_actor_ends_with_its_killed_creator(tmp_path: Path) -> None:
    log = tmp_path / "log"

    @ray.remote(max_retries=0)
    def make_and_die(log: Path) -> None:
        counter = Counter.remote()
        log.write_text(str(ray.get(counter.increment.remote())[1]))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(make_and_die.remote(log), timeout=30)
    pid = int(log.read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "the actor's process is gone")
