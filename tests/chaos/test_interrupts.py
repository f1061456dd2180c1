"""Interrupts of the driver and of tasks at any moment."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import session
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def double(value: int) -> int:
    return 2 * value


@ray.remote
def echo(value: Any) -> Any:
    return value


def storm(work: Callable[[int], None], interrupts: int, every: float = 0.002) -> int:
    """Call `work(0)`, `work(1)`, ... under interrupts, and return the number of uninterrupted calls."""
    stop = threading.Event()
    # Interrupts are delivered only inside `work`: an interrupt at another place would end the test run.
    armed = False

    def interrupt(signum: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def pester() -> None:
        while not stop.wait(every):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=pester)
    seen = whole = number = 0
    before = signal.signal(signal.SIGINT, interrupt)
    thread.start()
    try:
        while seen < interrupts:
            try:
                while True:
                    number += 1
                    # Sent again each time, because Python drops an interrupt that arrives in a finalizer.
                    armed = True
                    work(number)
                    whole += 1
            except KeyboardInterrupt:
                seen += 1
    finally:
        armed = False
        stop.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    return whole


def submit_only(number: int) -> None:
    for value in range(5):
        double.remote(value)


def submit_and_wait(number: int) -> None:
    refs = [double.remote(number + i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=5, timeout=30)
    assert (len(ready), rest) == (5, [])
    assert ray.get(refs) == [2 * (number + i) for i in range(5)]


def put_and_get(number: int) -> None:
    value = bytes([number % 256]) * (200 if number % 2 else 20_000)
    assert ray.get(ray.put(value)) == value


def pass_values(number: int) -> None:
    small, large = number, bytes([number % 256]) * 20_000
    assert ray.get([echo.remote(small), echo.remote(large)], timeout=30) == [small, large]


# Python drops an interrupt that arrives in a finalizer, and prints a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [submit_only, submit_and_wait, put_and_get, pass_values])
@pytest.mark.parametrize("interrupts", [150, pytest.param(1000, marks=pytest.mark.chaos)])
def test_no_result_is_lost_in_a_storm_of_interrupts(work: Callable[[int], None], interrupts: int) -> None:
    current = session()
    ray.get(double.remote(1), timeout=30)
    storm(work, interrupts)
    assert ray.get([double.remote(i) for i in range(300)], timeout=30) == [2 * i for i in range(300)]
    work(0)
    assert "failed" not in current.insight.status().tasks
    until(lambda: set(current.insight.status().tasks) == {"done"}, "no task is left")
    gc.collect()
    assert current._objects.waiters == []
    assert current.channel.waiting_threads == set()


@pytest.mark.parametrize("rounds", [150, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_a_cancel_at_the_end_of_a_task_never_interrupts_the_next_task(rounds: int) -> None:
    @ray.remote(max_retries=0)
    def spin(seconds: float) -> str:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            pass
        return "done"

    ray.get([spin.remote(0.0) for _ in range(50)], timeout=30)
    outcomes = {"done": 0, "cancelled": 0}
    for i in range(rounds):
        # Durations from far too short to far too long for a cancel that is sent at once.
        ref = spin.remote((i % 15) * 0.0002)
        following = [spin.remote(0.0) for _ in range(3)]
        ray.cancel(ref)
        try:
            outcomes[ray.get(ref, timeout=30)] += 1
        except exceptions.TaskCancelledError:
            outcomes["cancelled"] += 1
        assert ray.get(following, timeout=30) == ["done"] * 3
    assert outcomes["cancelled"] > 0


def test_a_cancel_ends_a_waiting_task_and_its_worker_continues() -> None:
    @ray.remote(max_retries=0)
    def wait(box: list[Any]) -> Any:
        return ray.get(box[0])

    @ray.remote(max_retries=0)
    def forever() -> None:
        while True:
            time.sleep(0.01)

    for _ in range(5):
        blocker = forever.remote()
        waiting = [wait.remote([blocker]) for _ in range(3)]
        until(lambda: session().insight.status().tasks.get("blocked", 0) == 3, "all tasks wait")
        for ref in waiting:
            ray.cancel(ref)
        for ref in waiting:
            with pytest.raises(exceptions.TaskCancelledError):
                ray.get(ref, timeout=30)
        assert ray.get([double.remote(i) for i in range(20)], timeout=30) == [2 * i for i in range(20)]
        ray.cancel(blocker)
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(blocker, timeout=30)
