"""A faulty wire between driver, scheduler and workers: results are the same, and each task runs once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipyremote as ray
from ipyremote import exceptions, scheduler
from ipyremote.wire.connection import Connection
from ipyremote.wire.server import Server
from tests.chaos import faulty_wire
from tests.chaos.sessions import scheduler as scheduler_process
from tests.chaos.sessions import worker_pids

_LOADER = """\
import runpy
runpy.run_path({path!r})["install"]({fault!r}, {scratch!r})
"""


@pytest.fixture
def faulty(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], None]:
    """Start a cluster with this fault in each of its processes."""

    def begin(fault: str) -> None:
        # Both changes are undone after the test.
        monkeypatch.setattr(Connection, "__init__", Connection.__init__)
        monkeypatch.setattr(Server, "_send_frame", Server._send_frame)
        loader = _LOADER.format(path=faulty_wire.__file__, fault=fault, scratch=str(tmp_path))
        last = "module, name = "
        assert scheduler._BOOTSTRAP.count(last) == 1
        monkeypatch.setattr(scheduler, "_BOOTSTRAP", scheduler._BOOTSTRAP.replace(last, loader + last))
        faulty_wire.install(fault, str(tmp_path))
        start(num_cpus=2, object_store_memory=256 << 20)

    return begin


@ray.remote
def noted(log: Path, number: int) -> int:
    with log.open("a") as file:
        file.write(f"{number}\n")
    return number


@ray.remote
def total(*parts: Any) -> Any:
    return sum(np.sum(part) for part in parts)


@ray.remote
def tree(depth: int) -> int:
    return 1 if not depth else sum(ray.get([tree.remote(depth - 1) for _ in range(2)]))


@ray.remote
def squares(count: int) -> Any:
    for number in range(count):
        yield number * number


@ray.remote
class Account:
    def __init__(self) -> None:
        self.entries: list[int] = []

    def add(self, entry: int) -> int:
        self.entries.append(entry)
        return len(self.entries)

    def all(self) -> list[int]:
        return self.entries


@pytest.mark.parametrize("fault", ["twice", "late", "narrow"])
def test_a_program_on_a_faulty_wire_has_the_same_results_and_runs_each_task_once(
    faulty: Callable[[str], None], fault: str, tmp_path: Path
) -> None:
    faulty(fault)
    log = tmp_path / "log"
    assert ray.get([noted.remote(log, number) for number in range(200)], timeout=60) == list(range(200))
    assert Counter(log.read_text().split()) == Counter(map(str, range(200)))

    account = Account.remote()
    assert ray.get([account.add.remote(number) for number in range(100)], timeout=60) == list(range(1, 101))
    assert ray.get(account.all.remote(), timeout=60) == list(range(100))

    # Values inside messages and values in the store, as arguments and as results.
    parts = [np.full(size, 1.0) for size in (10, 12_000, 500_000)]
    refs = [total.remote(part, ray.put(part)) for part in parts]
    assert ray.get(refs, timeout=60) == [2.0 * len(part) for part in parts]
    assert ray.get(total.remote(*refs), timeout=60) == 2.0 * sum(map(len, parts))

    assert ray.get(tree.remote(4), timeout=60) == 16
    assert [ray.get(ref) for ref in squares.remote(50)] == [number * number for number in range(50)]
    ready, rest = ray.wait(
        [noted.remote(log, 1_000 + number) for number in range(20)], num_returns=20, timeout=60
    )
    assert (len(ready), rest) == (20, [])

    marks = {int(path.name.removeprefix("faulty-")) for path in tmp_path.glob("faulty-*")}
    assert marks >= {os.getpid(), scheduler_process().pid, *worker_pids()}, "a process without the fault"


def test_a_worker_with_a_lost_frame_counts_as_crashed(faulty: Callable[[str], None], tmp_path: Path) -> None:
    faulty("lossy")
    gate = tmp_path / "gate"

    @ray.remote(max_retries=0)
    def talk() -> int:
        # Each request is a frame of its own, until the scheduler gives up the worker.
        while not gate.exists():
            ray.get(ray.put(os.getpid()))
            ray.available_resources()
        return 0

    with pytest.raises(exceptions.WorkerCrashedError, match=r"it sent frame \d+ after frame \d+"):
        ray.get(talk.remote(), timeout=60)
    gate.touch()
    assert ray.get(talk.remote(), timeout=60) == 0
