"""`max_calls`: worker processes that exit after a number of runs of a function."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_worker_exits_after_max_calls_runs_of_a_function() -> None:
    @ray.remote(max_calls=2)
    def pid() -> int:
        return os.getpid()

    pids = Counter(ray.get([pid.remote() for _ in range(10)], timeout=30))
    assert set(pids.values()) <= {1, 2}
    used_up = [each for each, count in pids.items() if count == 2]
    assert used_up
    until(lambda: all(map(_is_gone, used_up)), "workers with two runs have exited")


def test_values_that_a_task_returned_or_stored_outlive_its_exited_worker() -> None:
    @ray.remote(max_calls=1)
    def make() -> Any:
        return os.getpid(), b"x" * 1_000_000, ray.put(b"y" * 1_000_000)

    pid, value, ref = ray.get(make.remote(), timeout=30)
    until(lambda: _is_gone(pid), "the process has left")
    assert len(value) == 1_000_000
    assert ray.get(ref, timeout=30) == b"y" * 1_000_000


def test_runs_that_raise_count_towards_max_calls_and_runs_of_other_functions_do_not() -> None:
    @ray.remote(max_calls=1)
    def fail() -> None:
        raise ValueError(os.getpid())

    @ray.remote
    def pid() -> int:
        return os.getpid()

    with pytest.raises(ValueError, match=r"\d+") as caught:
        ray.get(fail.remote(), timeout=30)
    until(lambda: _is_gone(caught.value.cause.args[0]), "the process has left")
    assert len(set(ray.get([pid.remote() for _ in range(20)], timeout=30))) <= 2


def test_max_calls_works_for_generators_and_nested_calls() -> None:
    @ray.remote(max_calls=1)
    def count() -> Any:
        yield os.getpid()

    @ray.remote
    def outer() -> list[int]:
        return [ray.get(next(count.remote())) for _ in range(3)]

    assert len(set(ray.get(outer.remote(), timeout=30))) == 3
