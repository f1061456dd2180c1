"""Streams between processes: items of running tasks, backpressure, crashes, and dropped generators."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipyremote as ray
from ipyremote.backend import current
from ipyremote.backend.records import ClusterStatus
from ipyremote.exceptions import ActorDiedError, TaskCancelledError, WorkerCrashedError
from tests.support.waiting import until


@ray.remote
def logged(path: Path, n: int, size: int = 0) -> Iterator[Any]:
    """Yield numbers or arrays, and write each number to a file before its yield."""
    try:
        for i in range(n):
            with path.open("a") as log:
                log.write(f"{i}\n")
            yield np.full(size, i) if size else i
    finally:
        with path.open("a") as log:
            log.write("closed\n")


@ray.remote
def held(path: Path, gate: Path) -> Iterator[int]:
    """Yield 0, wait until the gate file exists, and yield 1."""
    yield 0
    while not gate.exists():
        time.sleep(0.005)
    path.touch()
    yield 1


@ray.remote
class Gate:
    """Actor with a stream of its process id, and of a second value after `open`."""

    def __init__(self) -> None:
        self.isopen = asyncio.Event()

    async def wait(self) -> Any:
        yield os.getpid()
        await self.isopen.wait()
        yield "open"

    async def open(self) -> None:
        self.isopen.set()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def status() -> ClusterStatus:
    insight = current.backend().insight
    assert insight is not None
    return insight.status()


def objects() -> int:
    return status().objects


def ended() -> bool:
    return not {"running", "ready", "blocked", "cancelling"} & set(status().tasks)


def test_items_of_a_stream_arrive_while_the_task_runs(cluster: Any, tmp_path: Path) -> None:
    gen = held.remote(tmp_path / "log", tmp_path / "gate")
    assert ray.get(next(gen), timeout=15) == 0
    assert not gen.next_ready()
    assert not gen.is_finished()
    assert ray.wait([gen, gen.completed()], num_returns=1, timeout=0.05)[0] == []
    (tmp_path / "gate").touch()
    assert ray.wait([gen], timeout=15)[0] == [gen]
    assert [ray.get(ref) for ref in gen] == [1]


def test_wait_returns_the_generator_with_a_ready_item(cluster: Any, tmp_path: Path) -> None:
    quick, slow = (held.remote(tmp_path / "log", tmp_path / name) for name in ("here", "there"))
    for gen in (quick, slow):
        next(gen)
    (tmp_path / "here").touch()
    assert ray.wait([slow, quick], timeout=15) == ([quick], [slow])
    (tmp_path / "there").touch()
    assert [ray.get(next(gen)) for gen in (quick, slow)] == [1, 1]


def test_a_producer_without_a_limit_runs_ahead_of_its_consumer(cluster: Any, tmp_path: Path) -> None:
    gen = logged.remote(tmp_path / "log", 50)
    until(lambda: "closed" in lines(tmp_path / "log"), "the producer has ended")
    assert len(list(gen)) == 50


def test_a_limit_on_unconsumed_items_pauses_the_producer(cluster: Any, tmp_path: Path) -> None:
    gen = logged.options(_generator_backpressure_num_objects=3).remote(tmp_path / "log", 10)
    until(lambda: status().tasks.get("blocked") == 1, "the producer waits")
    assert lines(tmp_path / "log") == ["0", "1", "2"]
    assert "waits until more of what it yielded is taken" in current.backend().explain(gen._task)
    next(gen)
    until(lambda: len(lines(tmp_path / "log")) == 4, "one more item is yielded")
    assert ray.get(list(gen)) == list(range(1, 10))


def test_a_paused_producer_lends_its_cpu(start: Callable[..., Any], tmp_path: Path) -> None:
    start(num_cpus=1)

    @ray.remote
    def consume() -> int:
        gen = logged.options(_generator_backpressure_num_objects=1).remote(tmp_path / "log", 5)
        return sum(ray.get(ref) for ref in gen)

    assert ray.get(consume.remote(), timeout=30) == 10


def test_no_item_of_a_stream_arrives_twice_after_a_crash(cluster: Any, tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def fragile() -> Any:
        first = not (tmp_path / "crashed").exists()
        for i in range(4):
            yield (i, first)
            if first and i == 1:
                while not (tmp_path / "crash").exists():
                    time.sleep(0.005)
                (tmp_path / "crashed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

    gen = fragile.remote()
    begun = [ray.get(next(gen)), ray.get(next(gen))]
    (tmp_path / "crash").touch()
    assert [*begun, *(ray.get(ref) for ref in gen)] == [(0, True), (1, True), (2, False), (3, False)]


def test_a_producer_with_a_limit_recovers_from_a_crash(cluster: Any, tmp_path: Path) -> None:
    @ray.remote(max_retries=1, _generator_backpressure_num_objects=1)
    def fragile() -> Any:
        for i in range(4):
            if i == 2 and not (tmp_path / "crashed").exists():
                (tmp_path / "crashed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield i

    assert [ray.get(ref, timeout=30) for ref in fragile.remote()] == [0, 1, 2, 3]


def test_a_crash_without_retries_is_the_error_of_the_last_ref(cluster: Any, tmp_path: Path) -> None:
    @ray.remote(max_retries=0)
    def fragile() -> Any:
        yield np.zeros(200_000)
        until((tmp_path / "arrived").exists, "the item has arrived")
        os.kill(os.getpid(), signal.SIGKILL)

    gen = fragile.remote()
    first = next(gen)
    (tmp_path / "arrived").touch()
    (last,) = list(gen)
    # A large item outlives its producer's worker.
    assert ray.get(first).sum() == 0
    with pytest.raises(WorkerCrashedError, match="fragile#1"):
        ray.get(last)
    assert gen.is_finished()


def test_a_dropped_generator_closes_its_producer(cluster: Any, tmp_path: Path) -> None:
    for ref in logged.remote(tmp_path / "log", 10**9, 50_000):
        assert ray.get(ref).sum() == 0
        break
    del ref
    until(lambda: "closed" in lines(tmp_path / "log"), "the producer was closed")
    until(ended, "the task has ended")
    gc.collect()
    until(lambda: objects() == 0, "no object is left")
    assert status().stored_bytes == 0


def test_a_dropped_generator_closes_a_paused_producer(cluster: Any, tmp_path: Path) -> None:
    gen = logged.options(_generator_backpressure_num_objects=1).remote(tmp_path / "log", 5)
    until(lambda: status().tasks.get("blocked") == 1, "the producer waits")
    del gen
    until(lambda: lines(tmp_path / "log") == ["0", "closed"], "the producer was closed")


def test_a_task_whose_generator_is_dropped_before_its_start_never_runs(cluster: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    busy = [held.remote(tmp_path / f"log{i}", gate) for i in range(2)]
    for gen in busy:
        next(gen)
    logged.remote(tmp_path / "log", 3)
    until(lambda: status().tasks.get("cancelled") == 1, "the task was cancelled")
    gate.touch()
    assert [ray.get(next(gen)) for gen in busy] == [1, 1]
    assert lines(tmp_path / "log") == []


def test_waiting_for_the_end_of_a_stream_lets_the_producer_continue(cluster: Any, tmp_path: Path) -> None:
    end = logged.options(_generator_backpressure_num_objects=1).remote(tmp_path / "log", 5).completed()
    assert ray.get(end, timeout=15) is None
    assert lines(tmp_path / "log") == ["0", "1", "2", "3", "4", "closed"]
    until(lambda: objects() == 1, "the items are gone")


def test_items_of_a_stream_are_freed_one_by_one(cluster: Any, tmp_path: Path) -> None:
    # The items together are four times as large as the store.
    total = 0
    for ref in logged.options(_generator_backpressure_num_objects=2).remote(tmp_path / "log", 40, 3_200_000):
        total += int(ray.get(ref)[0])
        del ref
    assert total == sum(range(40))


def test_the_streams_of_a_task_end_with_the_task(cluster: Any, tmp_path: Path) -> None:
    @ray.remote(max_retries=0)
    def lose() -> None:
        gen = logged.options(_generator_backpressure_num_objects=1).remote(tmp_path / "log", 5)
        next(gen)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError):
        ray.get(lose.remote(), timeout=15)
    until(lambda: "closed" in lines(tmp_path / "log"), "the producer was closed")
    # The order of the worker's loss and of the report of consumed items does not matter.
    assert lines(tmp_path / "log") in (["0", "closed"], ["0", "1", "closed"])


def test_cancel_interrupts_code_between_two_items(cluster: Any) -> None:
    @ray.remote
    def sleepy() -> Any:
        yield 1
        time.sleep(60)

    gen = sleepy.remote()
    next(gen)
    ray.cancel(gen)
    with pytest.raises(TaskCancelledError):
        ray.get(next(gen), timeout=15)
    with pytest.raises(StopIteration):
        next(gen)


def test_cancel_with_force_kills_the_worker_of_a_stream(cluster: Any) -> None:
    @ray.remote
    def stubborn() -> Any:
        yield 1
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                continue

    gen = stubborn.remote()
    next(gen)
    ray.cancel(gen, force=True)
    with pytest.raises((TaskCancelledError, WorkerCrashedError)):
        ray.get(next(gen), timeout=15)


@pytest.mark.parametrize("limit", [-1, 1])
@pytest.mark.parametrize("kind", ["plain", "threads", "loop"])
def test_streams_of_actor_methods_can_be_cancelled_and_dropped(cluster: Any, kind: str, limit: int) -> None:
    @ray.remote
    class Plain:
        def endless(self) -> Any:
            while True:
                yield 1
                time.sleep(0.001)

        def alive(self) -> bool:
            return True

    @ray.remote
    class Loop:
        async def endless(self) -> Any:
            while True:
                yield 1
                await asyncio.sleep(0.001)

        async def alive(self) -> bool:
            return True

    actor: Any = {
        "plain": lambda: Plain.remote(),
        "threads": lambda: Plain.options(max_concurrency=2).remote(),
        "loop": lambda: Loop.remote(),
    }[kind]()
    endless = actor.endless.options(_generator_backpressure_num_objects=limit)
    gen = endless.remote()
    next(gen)
    ray.cancel(gen)
    last = list(gen)[-1]
    with pytest.raises(TaskCancelledError):
        ray.get(last, timeout=15)
    next(endless.remote())
    # The generator was dropped, so the actor is free again.
    assert ray.get(actor.alive.remote(), timeout=15)
    until(lambda: objects() <= 3, "the items are gone")


def test_streams_of_an_async_actor_run_concurrently(cluster: Any) -> None:
    gate = Gate.remote()
    gens = [gate.wait.remote() for _ in range(3)]
    assert len({ray.get(next(gen)) for gen in gens}) == 1
    assert not any(gen.next_ready() for gen in gens)
    gate.open.remote()
    assert [ray.get(next(gen), timeout=15) for gen in gens] == ["open"] * 3


def test_the_death_of_an_actor_is_the_error_of_the_last_ref(cluster: Any) -> None:
    gate = Gate.remote()
    gen = gate.wait.remote()
    os.kill(ray.get(next(gen)), signal.SIGKILL)
    with pytest.raises(ActorDiedError):
        ray.get(next(gen), timeout=15)
    with pytest.raises(StopIteration):
        next(gen)


def test_async_for_over_a_stream_does_not_block_the_event_loop(cluster: Any) -> None:
    gate = Gate.remote()

    async def main() -> list[Any]:
        gen = gate.wait.remote()
        first = await anext(gen)
        late = asyncio.ensure_future(anext(gen))
        await asyncio.sleep(0.02)
        assert not late.done()
        await gate.open.remote()
        return [type(await first), await (await late), [ref async for ref in gen]]

    assert asyncio.run(main()) == [int, "open", []]


def test_several_threads_can_share_a_generator(cluster: Any, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    gen = logged.remote(tmp_path / "log", 200)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: [ray.get(ref) for ref in gen], range(4)))
    assert sorted(item for part in parts for item in part) == list(range(200))


def test_waiting_for_an_item_fails_when_the_cluster_is_lost(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    from ipyremote.exceptions import ClusterLostError

    start(num_cpus=1)
    gen = held.remote(tmp_path / "log", tmp_path / "gate")
    next(gen)
    os.kill(current.backend().scheduler_pid, signal.SIGKILL)
    with pytest.raises(ClusterLostError):
        next(gen)
    with pytest.raises(ClusterLostError):
        asyncio.run(gen.__anext__())
