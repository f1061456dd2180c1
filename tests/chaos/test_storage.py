"""Memory, files and sockets at their limits."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

import ipyremote as ray
from tests.chaos.sessions import session
from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until

MIB = 1 << 20


@ray.remote
def total(array: np.ndarray) -> int:
    return int(array.sum(dtype=np.int64))


@ray.remote
def filled(value: int, size: int) -> np.ndarray:
    return np.full(size, value, dtype=np.uint8)


@ray.remote
def echo(value: Any) -> Any:
    return value


def private_bytes() -> int:
    info = psutil.Process().memory_info()
    return int(info.rss - info.shared)


def test_ten_times_the_store_capacity_passes_through_the_store_in_bounded_memory(
    start: Callable[..., Any],
) -> None:
    capacity = 64 * MIB
    start(num_cpus=1, object_store_memory=capacity)
    ray.get(ray.put(np.zeros(5 * MIB, dtype=np.uint8)))
    before = private_bytes()
    for i in range(130):
        ref = ray.put(np.full(5 * MIB, i, dtype=np.uint8))
        array = ray.get(ref)
        assert array[0] == array[-1] == i
        assert session()._store.used_bytes() <= capacity
    assert private_bytes() - before < 32 * MIB
    # The objects are results of a worker and arguments of tasks, whose memory other processes recycle.
    for i in range(40):
        assert ray.get(total.remote(filled.remote(i, 5 * MIB)), timeout=30) == i * 5 * MIB
        assert ray.get(total.remote(np.full(3 * MIB, i, dtype=np.uint8)), timeout=30) == i * 3 * MIB
        assert session()._store.used_bytes() <= capacity


@pytest.mark.parametrize("rounds", [300, pytest.param(5000, marks=pytest.mark.chaos)])
def test_recycled_memory_never_changes_an_array_in_use(start: Callable[..., Any], rounds: int) -> None:
    start(num_cpus=2, object_store_memory=256 * MIB)
    rng = random.Random(3)
    size = 200_000
    views: list[tuple[int, Any]] = []
    for i in range(rounds):
        value = i % 251
        array = ray.get(
            filled.remote(value, size) if i % 2 else ray.put(np.full(size, value, np.uint8)), timeout=30
        )
        # A view instead of the array itself: an object derived from the array must keep the memory just as well.
        shapes = (
            array[1000:2000],
            array.data[5:500],
            array.reshape(2, -1)[1, ::7],
            array.view(np.uint64),
        )
        views.append((value, rng.choice(shapes)))
        del array, shapes
        if len(views) > 60:
            del views[rng.randrange(len(views))]
        if i % 50 == 0:
            gc.collect()
    for value, view in views:
        assert set(
            np.asarray(view).view(np.uint8).ravel().tolist()
            if isinstance(view, memoryview)
            else np.ascontiguousarray(view).view(np.uint8).tolist()
        ) == {value}
    views.clear()
    del view
    gc.collect()
    until(lambda: session().insight.status().stored_bytes == 0, "no object is stored any more")
    assert session()._store.used_bytes() <= 256 * MIB


@pytest.mark.usefixtures("cluster")
def test_large_arguments_and_results_in_both_directions_do_not_block_each_other() -> None:
    # The size is just under the limit for values inside messages, so that the sockets carry all data.
    inline = [os.urandom(90_000) for _ in range(300)]
    assert ray.get([echo.remote(data) for data in inline], timeout=60) == inline
    stored = [os.urandom(1_000_000) for _ in range(40)]
    assert ray.get([echo.remote(data) for data in stored], timeout=60) == stored


_FEW_DESCRIPTORS = """
import os, resource, sys
import ipyremote as ray
from ipyremote.backends import local
limit = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
try:
    ray.init(num_cpus=1)
    @ray.remote
    def f(x):
        return x + 1
    assert ray.get(f.remote(1), timeout=20) == 2
    print("works")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("spare", [2, 5, 8, 11, 14, 20, 40])
def test_a_session_with_few_descriptors_works_or_says_why_not(spare: int) -> None:
    with leaks.leakless(within=5.0):
        done = subprocess.run(
            [sys.executable, "-c", _FEW_DESCRIPTORS, str(spare)],
            capture_output=True,
            cwd=ROOT,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "works\n" or "open files" in done.stdout or "ClusterLostError" in done.stdout, (
            done
        )
