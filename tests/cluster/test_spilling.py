"""Spilling: objects beyond the store's capacity go to disk and come back, for each creator and after each death."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import session
from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until

MIB = 1 << 20
CAPACITY = 32 * MIB


@pytest.fixture
def spilling(start: Callable[..., Any], tmp_path: Path) -> Path:
    """Start a cluster with a store of 32 MiB, and return its spill directory."""
    start(num_cpus=2, object_store_memory=CAPACITY, object_spilling_directory=tmp_path)
    return tmp_path


def block(value: int, size: int = 2 * MIB) -> np.ndarray:
    return np.full(size, value % 251, dtype=np.uint8)


def is_block(array: np.ndarray, value: int, size: int = 2 * MIB) -> bool:
    return array.shape == (size,) and int(array.sum(dtype=np.int64)) == value % 251 * size


@ray.remote
def make(value: int) -> np.ndarray:
    return block(value)


@ray.remote
def check(array: np.ndarray, value: int) -> bool:
    return is_block(array, value)


@ray.remote
def put_many(count: int) -> list[Any]:
    return [ray.put(block(value)) for value in range(count)]


def files(directory: Path) -> list[str]:
    """Return the files in the spill directory."""
    return sorted(file.name for file in directory.glob("ipyremote-*/*-*"))


def all_freed(directory: Path) -> None:
    gc.collect()
    until(
        lambda: session().insight.status().stored_bytes + session().insight.status().spilled_bytes == 0,
        "all is dropped",
    )
    until(lambda: files(directory) == [], "no file is left on disk")


def test_objects_of_ten_times_the_store_capacity_are_kept_and_read_back(spilling: Path) -> None:
    count = 10 * CAPACITY // (2 * MIB)
    refs = []
    for value in range(count):
        refs.append(ray.put(block(value)))
        assert session()._store.used_bytes() <= CAPACITY
    status = session().insight.status()
    assert status.stored_bytes <= CAPACITY
    assert status.stored_bytes + status.spilled_bytes >= count * 2 * MIB
    assert all(is_block(ray.get(ref), value) for value, ref in enumerate(refs))
    assert all(ray.get([check.remote(ref, value) for value, ref in enumerate(refs)], timeout=60))
    del refs
    all_freed(spilling)


def test_results_and_puts_of_workers_are_spilled_too(spilling: Path) -> None:
    results = [make.remote(value) for value in range(60)]
    inner = ray.get([put_many.remote(20) for _ in range(2)], timeout=60)
    assert all(is_block(ray.get(ref, timeout=60), value) for value, ref in enumerate(results))
    for refs in inner:
        assert all(is_block(ray.get(ref, timeout=60), value) for value, ref in enumerate(refs))
    assert session().insight.status().spilled_bytes > 0
    del results, inner, refs
    all_freed(spilling)


def test_objects_in_use_stay_in_memory_and_new_objects_go_to_disk(spilling: Path) -> None:
    arrays = [ray.get(ray.put(block(value))) for value in range(40)]
    assert session()._store.used_bytes() <= CAPACITY
    assert any(name.startswith("disk-1-") for name in files(spilling))
    assert all(is_block(array, value) for value, array in enumerate(arrays))
    del arrays
    all_freed(spilling)


def test_an_object_larger_than_the_store_is_created_on_disk(spilling: Path) -> None:
    big = ray.put(block(7, 2 * CAPACITY))
    assert is_block(ray.get(big), 7, 2 * CAPACITY)
    assert session().insight.status().spilled_bytes > 2 * CAPACITY
    total = ray.remote(lambda array: int(array.sum(dtype=np.int64)))
    assert 14 * CAPACITY == ray.get(total.remote(big), timeout=30)


def test_several_clients_can_spill_and_read_at_the_same_time(spilling: Path) -> None:
    failures: list[Any] = []

    def churn(seed: int) -> None:
        rng = random.Random(seed)
        kept: list[tuple[int, Any]] = []
        try:
            for _ in range(60):
                value = rng.randrange(251)
                kept.append((value, make.remote(value) if rng.random() < 0.4 else ray.put(block(value))))
                expected, ref = rng.choice(kept)
                if not is_block(ray.get(ref, timeout=60), expected):
                    failures.append((expected, ref))
                if len(kept) > 25:
                    del kept[rng.randrange(len(kept))]
        except Exception as error:  # the main thread reports the error
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert [] == failures
    all_freed(spilling)


@ray.remote(max_retries=0)
def die_while_spilling(when: str) -> None:
    from ipyremote.store.spill import SpillStore

    def die(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    copy = SpillStore.copy
    if when == "before":
        SpillStore.copy = die  # type: ignore[assignment]
    elif when == "with half of it written":
        SpillStore._part = lambda self, name: (self._link / f"part-{self._client}-{name}").touch() or die()  # type: ignore[assignment,func-returns-value,return-value]
    else:
        SpillStore.copy = lambda self, stored: copy(self, stored) and die()  # type: ignore[assignment,func-returns-value,return-value]
    for value in range(40):
        ray.put(block(value))


@pytest.mark.parametrize(
    "when", ["before", "with half of it written", "with a copy that it has not reported"]
)
def test_no_object_is_lost_with_a_worker_that_dies_while_it_spills(spilling: Path, when: str) -> None:
    refs = [ray.put(block(value)) for value in range(15)]
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(die_while_spilling.remote(when), timeout=60)
    assert all(is_block(ray.get(ref, timeout=30), value) for value, ref in enumerate(refs))
    assert [] == [name for name in files(spilling) if name.startswith("part-")]
    more = [ray.put(block(value)) for value in range(15)]
    assert all(is_block(ray.get(ref), value) for value, ref in enumerate([*refs, *more][-15:]))
    del refs, more
    all_freed(spilling)


def test_results_of_a_dead_worker_are_spilled_and_dropped(spilling: Path) -> None:
    pid = ray.remote(os.getpid)
    refs = [make.remote(value) for value in range(10)]
    ray.wait(refs, num_returns=10, timeout=30)
    for worker in {ray.get(pid.remote(), timeout=30) for _ in range(20)}:
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: not Path(f"/proc/{worker}").exists(), "the worker is gone")  # type: ignore[misc]
    more = [ray.put(block(value)) for value in range(30)]
    assert all(is_block(ray.get(ref, timeout=30), value) for value, ref in enumerate(refs))
    del refs, more
    all_freed(spilling)


def test_objects_dropped_while_they_are_moved_to_disk_leave_no_files(spilling: Path) -> None:
    for _ in range(6):
        refs = [ray.put(block(value)) for value in range(20)]
        del refs
    all_freed(spilling)
    assert session()._store.used_bytes() <= CAPACITY


def test_spilling_can_be_switched_off(start: Callable[..., Any]) -> None:
    start(num_cpus=1, object_store_memory=CAPACITY, object_spilling_directory=False)
    with pytest.raises(exceptions.ObjectStoreFullError, match="object_spilling_directory"):
        _ = [ray.put(block(value)) for value in range(20)]


def test_an_environment_variable_can_switch_spilling_off_and_an_argument_overrides_it(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPYREMOTE_automatic_object_spilling_enabled", "0")
    start(num_cpus=1)
    assert not session()._store.disk.exists
    ray.shutdown()
    start(num_cpus=1, object_spilling_directory=tmp_path)
    assert session()._store.disk.exists


def test_an_environment_variable_sets_the_spill_directory(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPYREMOTE_object_spilling_directory", str(tmp_path))
    start(num_cpus=1)
    assert 1 == len(list(tmp_path.glob("ipyremote-*")))


def test_a_full_disk_is_a_clear_error_in_the_driver_and_in_a_task(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IPYREMOTE_local_fs_capacity_threshold", "0")
    start(num_cpus=1, object_store_memory=CAPACITY, object_spilling_directory=tmp_path)
    kept: list[Any] = []
    with pytest.raises(
        exceptions.OutOfDiskError, match=r"2\.1 MB.*at most 0% of a disk.*object_spilling_dir"
    ):
        kept.extend(ray.put(block(value)) for value in range(20))
    with pytest.raises(exceptions.OutOfDiskError, match="disk"):
        ray.get(make.remote(1), timeout=30)


def test_a_spill_directory_that_cannot_be_created_is_refused(tmp_path: Path, leakless: Any) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="cannot be made"):
        ray.init(object_spilling_directory=file / "below")
    with pytest.raises(TypeError, match="object_spilling_directory is a path"):
        ray.init(object_spilling_directory=7)  # type: ignore[arg-type]
    assert not ray.is_initialized()


_CRASHED = """
import os, signal, sys
import numpy as np
import ipyremote as ray
from ipyremote.backend import current
ray.init(num_cpus=1, object_store_memory=32 << 20, object_spilling_directory=sys.argv[1])
refs = [ray.put(np.full(2 << 20, i, np.uint8)) for i in range(30)]
ray.get(ray.remote(lambda: 1).remote())
print(len(os.listdir(sys.argv[1])), flush=True)
if sys.argv[2] == "both":
    os.kill(current.backend().scheduler_pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("who", ["driver", "both"])
def test_no_spilled_files_are_left_after_a_crash(tmp_path: Path, who: str, start: Callable[..., Any]) -> None:
    with leaks.leakless():
        program = [sys.executable, "-c", _CRASHED, str(tmp_path), who]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert "1\n" == done.stdout, done.stderr
        if who == "driver":
            until(lambda: list(tmp_path.iterdir()) == [], "the scheduler has removed it")
        # The zygote and the workers end last, and hold the lock until their end.
        until(lambda: not leaks.processes(), "the processes of the session are gone")
        start(num_cpus=1, object_spilling_directory=False)
        assert [] == list(tmp_path.iterdir())
        ray.shutdown()
