"""Hazards of scheduling: no task starves, no task waits for a task behind it, and an idle session is idle."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import cpu_seconds, processes, scheduler, session
from tests.support.waiting import until


@ray.remote
def wait_for(started: Path, gate: Path) -> int:
    started.touch()
    while not gate.exists():
        time.sleep(0.002)
    return 1


@ray.remote
def square(value: int) -> int:
    return value * value


def test_a_task_can_wait_for_a_task_sent_behind_it_to_the_same_worker(start: Callable[..., Any]) -> None:
    start(num_cpus=1)

    @ray.remote
    def step(depth: int) -> int:
        if not depth:
            return 0
        below = step.remote(depth - 1)
        # The wait is long enough for the scheduler to send the task to this worker, whose tasks have been short so far.
        time.sleep(0.005)
        return 1 + ray.get(below)

    ray.get([step.remote(0) for _ in range(100)], timeout=30)
    assert ray.get([step.remote(5) for _ in range(4)], timeout=60) == [5] * 4


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("position", [0, 1, 100, 199])
def test_two_hundred_short_tasks_end_while_a_long_task_runs(tmp_path: Path, position: int) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def task(gate: Path | None) -> int:
        deadline = time.monotonic() + (0.001 if gate is None else 100)
        while time.monotonic() < deadline and not (gate is not None and gate.exists()):
            time.sleep(0.001)
        return 1

    refs = [task.remote(gate if i == position else None) for i in range(200)]
    long = refs[position]
    ready, rest = ray.wait(refs, num_returns=199, timeout=60)
    gate.touch()
    assert rest == [long], f"{len(rest)} of them waited for the long one"
    assert len(ready) == 199
    assert ray.get(refs, timeout=30) == [1] * 200


@pytest.mark.usefixtures("cluster")
def test_a_client_that_submits_a_flood_of_tasks_does_not_starve_another_client(tmp_path: Path) -> None:
    log = tmp_path / "log"

    @ray.remote
    def work(log: Path) -> None:
        time.sleep(0.001)
        with log.open("a") as file:
            file.write("x")

    @ray.remote
    def flood(log: Path, count: int) -> int:
        return len(ray.get([work.remote(log) for _ in range(count)]))

    count = 3000
    flooding = flood.remote(log, count)
    until(lambda: log.exists() and log.stat().st_size > 50, "the flood has begun")
    for i in range(5):
        before = log.stat().st_size
        assert ray.get(square.remote(i), timeout=30) == i * i
        assert log.stat().st_size - before < count / 10
    assert log.stat().st_size < count
    ray.cancel(flooding, recursive=True)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(flooding, timeout=30)


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.chaos)])
def test_many_queued_tasks_use_little_memory_and_are_cancelled_soon(
    start: Callable[..., Any], tmp_path: Path, count: int
) -> None:
    start(num_cpus=1)
    gate, started = tmp_path / "gate", tmp_path / "started"
    blocker = wait_for.remote(started, gate)
    until(started.exists, "the only CPU is taken")
    before = scheduler().memory_info().rss
    refs = [square.remote(i) for i in range(count)]
    until(lambda: sum(session().insight.status().tasks.values()) > count, "all are queued", 60)
    assert scheduler().memory_info().rss - before < count * 5_000
    began = time.monotonic()
    for ref in refs:
        ray.cancel(ref)
    assert ray.wait(refs, num_returns=count, timeout=60)[1] == []
    assert time.monotonic() - began < 5 * max(1, count / 20_000)
    for ref in (refs[0], refs[count // 2], refs[-1]):
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(ref)
    gate.touch()
    assert ray.get(blocker, timeout=30) == 1


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """Run a thread that never releases the interpreter lock by itself."""
    stop = False

    def burn() -> None:
        while not stop:
            pass

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()


@pytest.mark.usefixtures("cluster")
def test_a_thread_that_holds_the_drivers_interpreter_lock_slows_but_does_not_stop_the_session() -> None:
    with burning():
        assert ray.get([square.remote(i) for i in range(100)], timeout=30) == [i * i for i in range(100)]
        assert [ray.get(square.remote(i), timeout=30) for i in range(5)] == [i * i for i in range(5)]


def test_a_thread_that_holds_a_workers_interpreter_lock_slows_but_does_not_stop_the_session(
    start: Callable[..., Any],
) -> None:
    start(num_cpus=1)

    @ray.remote
    def start_burning(seconds: float) -> int:
        deadline = time.monotonic() + seconds

        def burn() -> None:
            while time.monotonic() < deadline:
                pass

        threading.Thread(target=burn, daemon=True).start()
        return os.getpid()

    ray.get(start_burning.remote(1.0), timeout=30)
    assert ray.get([square.remote(i) for i in range(100)], timeout=30) == [i * i for i in range(100)]
    assert [ray.get(square.remote(i), timeout=30) for i in range(5)] == [i * i for i in range(5)]


@pytest.mark.usefixtures("cluster")
def test_an_idle_session_uses_no_processor_time() -> None:
    refs = [square.remote(i) for i in range(100)]
    ray.get(refs, timeout=30)
    pids = [os.getpid(), *(process.pid for process in processes())]

    def taken(seconds: float) -> float:
        before = sum(map(cpu_seconds, pids))
        threading.Event().wait(seconds)
        return sum(map(cpu_seconds, pids)) - before

    # A busy window may be chance: a process that is always busy is busy in each window.
    assert min(taken(1.0) for _ in range(2)) < 0.02
    del refs


@pytest.mark.usefixtures("cluster")
def test_a_waiting_driver_uses_hardly_any_processor_time(tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    ref = wait_for.remote(started, gate)
    until(started.exists, "the task runs")
    pids = [os.getpid(), scheduler().pid]
    before = sum(map(cpu_seconds, pids))
    assert ray.wait([ref], timeout=1.0) == ([], [ref])
    assert sum(map(cpu_seconds, pids)) - before < 0.08
    gate.touch()
    assert ray.get(ref, timeout=30) == 1
