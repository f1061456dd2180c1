"""Cancelling, retrying, resources, and a full object store on a cluster."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support.waiting import until


@ray.remote
def sleep(log: Path) -> None:
    log.write_text(str(os.getpid()))
    time.sleep(1000)


@ray.remote
def pid() -> int:
    return os.getpid()


@pytest.mark.usefixtures("cluster")
def test_a_cancelled_running_task_is_interrupted_and_its_worker_continues(tmp_path: Path) -> None:
    ref = sleep.remote(tmp_path / "log")
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text() != "", "the task runs")
    worker = int((tmp_path / "log").read_text())
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)
    assert Path(f"/proc/{worker}").exists()


@pytest.mark.usefixtures("cluster")
def test_a_forced_cancel_ends_the_worker(tmp_path: Path) -> None:
    ref = sleep.remote(tmp_path / "log")
    until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text() != "", "the task runs")
    worker = int((tmp_path / "log").read_text())
    ray.cancel(ref, force=True)
    with pytest.raises((exceptions.TaskCancelledError, exceptions.WorkerCrashedError)):
        ray.get(ref, timeout=30)
    until(lambda: not Path(f"/proc/{worker}").exists(), "the worker is gone")


@pytest.mark.usefixtures("cluster")
def test_a_cancelled_task_that_has_not_started_never_runs(tmp_path: Path) -> None:
    blockers = [sleep.remote(tmp_path / f"blocker{i}") for i in range(2)]
    until(lambda: all((tmp_path / f"blocker{i}").exists() for i in range(2)), "both CPUs are busy")
    ref = sleep.remote(tmp_path / "never")
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)
    for blocker in blockers:
        ray.cancel(blocker)
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(blocker, timeout=30)
    assert not (tmp_path / "never").exists()


@pytest.mark.usefixtures("cluster")
def test_child_tasks_are_cancelled_with_their_parent(tmp_path: Path) -> None:
    @ray.remote
    def parent(log: Path) -> None:
        ray.get(sleep.remote(log))

    ref = parent.remote(tmp_path / "child")
    until(lambda: (tmp_path / "child").exists(), "the child runs")
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)


@pytest.mark.usefixtures("cluster")
def test_a_late_cancel_never_hits_the_next_task() -> None:
    @ray.remote(max_retries=0)
    def quick(i: int) -> int:
        return i

    for i in range(300):
        ref = quick.remote(i)
        following = quick.remote(-i)
        ray.cancel(ref)
        assert ray.get(following, timeout=30) == -i


@pytest.mark.usefixtures("cluster")
def test_a_task_is_retried_after_an_exception_only_with_retry_exceptions(tmp_path: Path) -> None:
    def flaky(log: Path, times: int) -> int:
        with log.open("a") as file:
            file.write("x")
        if log.stat().st_size <= times:
            raise OSError("flaky")
        return log.stat().st_size

    plain = ray.remote(flaky)
    with pytest.raises(OSError, match="flaky"):
        ray.get(plain.remote(tmp_path / "a", 1), timeout=30)
    assert (tmp_path / "a").read_text() == "x"
    retried = plain.options(retry_exceptions=True, max_retries=3)
    assert ray.get(retried.remote(tmp_path / "b", 2), timeout=30) == 3
    chosen = plain.options(retry_exceptions=[OSError], max_retries=1)
    with pytest.raises(OSError, match="flaky"):
        ray.get(chosen.remote(tmp_path / "c", 5), timeout=30)
    assert (tmp_path / "c").read_text() == "xx"


def test_a_task_sees_only_its_assigned_gpus(start: Callable[..., Any]) -> None:
    start(num_cpus=2, num_gpus=2)

    @ray.remote(num_gpus=1)
    def visible(gate: None = None) -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert set(ray.get([visible.remote() for _ in range(4)], timeout=30)) <= {"0", "1"}


def test_custom_resources_limit_how_many_tasks_run_at_a_time(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    start(num_cpus=2, resources={"token": 1})

    @ray.remote(resources={"token": 1}, num_cpus=0)
    def alone(directory: Path) -> int:
        mine = directory / str(time.monotonic_ns())
        mine.touch()
        count = len(list(directory.iterdir()))
        time.sleep(0.02)
        mine.unlink()
        return count

    assert ray.get([alone.remote(tmp_path) for _ in range(6)], timeout=30) == [1] * 6


@pytest.mark.usefixtures("cluster")
def test_short_tasks_do_not_wait_behind_a_long_task(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def task(wait_for: Path | None) -> int:
        while wait_for is not None and not wait_for.exists():
            time.sleep(0.005)
        return 1

    ray.get([task.remote(None) for _ in range(100)], timeout=30)
    refs = [task.remote(gate if i == 50 else None) for i in range(100)]
    ready, rest = ray.wait(refs, num_returns=99, timeout=30)
    assert (len(ready), rest) == (99, [refs[50]])
    gate.touch()
    assert ray.get(refs, timeout=30) == [1] * 100


def test_a_full_store_is_a_clear_error_and_dropping_refs_makes_room(start: Callable[..., Any]) -> None:
    start(num_cpus=1, object_store_memory=80 << 20, object_spilling_directory=False)
    array = np.ones(20 << 20, dtype=np.uint8)
    kept = [ray.put(array) for _ in range(3)]
    with pytest.raises(exceptions.ObjectStoreFullError, match="object_store_memory"):
        kept.append(ray.put(np.ones(60 << 20, dtype=np.uint8)))
    assert int(ray.get(kept[0]).sum()) == 20 << 20
    kept.clear()
    gc.collect()
    for _ in range(20):
        assert int(ray.get(ray.put(array))[0]) == 1


@pytest.mark.usefixtures("cluster")
def test_dropped_objects_free_the_store_even_if_their_worker_is_dead() -> None:
    from ipyremote.backend import current

    @ray.remote
    def make() -> tuple[int, np.ndarray]:
        return os.getpid(), np.ones(10 << 20, dtype=np.uint8)

    session: Any = current.backend()
    ref = make.remote()
    worker, array = ray.get(ref, timeout=30)
    assert session.insight.status().stored_bytes > 0
    os.kill(worker, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{worker}").exists(), "the worker is gone")
    del ref, array
    gc.collect()
    until(lambda: session.insight.status().stored_bytes == 0, "the object is gone")
    until(lambda: session.insight.status().objects == 0, "no object is left")


@pytest.mark.usefixtures("cluster")
def test_no_records_are_kept_of_finished_and_dropped_tasks() -> None:
    from ipyremote.backend import current

    session: Any = current.backend()
    refs = [pid.remote() for _ in range(500)]
    ray.get(refs, timeout=30)
    del refs
    gc.collect()
    until(lambda: session.insight.status().objects == 0, "no object is left")
    assert not session.channel.objects.counts
    assert not session.channel.objects.ready
