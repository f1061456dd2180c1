"""Actors that run several calls at a time, as coroutines on an event loop or in threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Meeting:
    """An actor whose coroutines wait for one another."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.calls = 0

    async def wait(self) -> int:
        await self.event.wait()
        return os.getpid()

    async def release(self) -> str:
        self.event.set()
        return "released"

    async def count(self) -> int:
        self.calls += 1
        return self.calls

    def plain(self) -> int:
        return threading.get_ident()

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("in a coroutine")

    async def ask(self, ref: list[Any]) -> Any:
        return await ref[0]

    async def talk(self, name: str, others: int) -> None:
        for line in range(3):
            print(name, line)
            await asyncio.sleep(0.001)

    async def forever(self, log: Path) -> None:
        log.touch()
        try:
            await asyncio.sleep(1000)
        finally:
            log.with_suffix(".end").touch()


@ray.remote
def one() -> int:
    return 1


def test_coroutines_of_an_actor_run_concurrently() -> None:
    meeting = Meeting.remote()
    waiting = [meeting.wait.remote() for _ in range(50)]
    assert ray.get(meeting.release.remote(), timeout=30) == "released"
    assert len(set(ray.get(waiting, timeout=30))) == 1


def test_all_of_many_concurrent_calls_are_answered() -> None:
    meeting = Meeting.remote()
    refs = [meeting.count.remote() for _ in range(2000)]
    assert sorted(ray.get(refs, timeout=60)) == list(range(1, 2001))


def test_plain_methods_and_errors_and_refs_work_on_the_event_loop() -> None:
    meeting = Meeting.remote()
    assert isinstance(ray.get(meeting.plain.remote(), timeout=30), int)
    with pytest.raises(ValueError, match="in a coroutine"):
        ray.get(meeting.fail.remote(), timeout=30)
    assert ray.get(meeting.ask.remote([one.remote()]), timeout=30) == 1


def test_text_printed_by_a_coroutine_has_the_label_of_its_call(capsys: pytest.CaptureFixture[str]) -> None:
    meeting = Meeting.remote()
    ray.get([meeting.talk.remote(name, 2) for name in "ab"], timeout=30)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "#1)" in line] == [f"(Meeting.talk#1) a {i}" for i in range(3)]
    assert [line for line in lines if "#2)" in line] == [f"(Meeting.talk#2) b {i}" for i in range(3)]


def test_a_cancelled_coroutine_is_interrupted_and_the_actor_continues(tmp_path: Path) -> None:
    meeting = Meeting.remote()
    ref = meeting.forever.remote(tmp_path / "log")
    until(lambda: (tmp_path / "log").exists(), "the call runs")
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)
    until(
        lambda: (tmp_path / "log.end").exists() or (tmp_path / "log").with_suffix(".end").exists(), "it ended"
    )
    assert ray.get(meeting.count.remote(), timeout=30) == 1


def test_max_concurrency_limits_coroutines() -> None:
    @ray.remote(max_concurrency=2)
    class Narrow:
        def __init__(self) -> None:
            self.now = 0
            self.most = 0

        async def enter(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            # Wait until two calls run at a time, and then long enough for a third call to begin.
            while self.most < 2:
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            self.now -= 1
            return self.most

    narrow = Narrow.remote()
    assert max(ray.get([narrow.enter.remote() for _ in range(20)], timeout=30)) == 2


def test_threads_of_an_actor_run_concurrently_and_do_not_block_each_other() -> None:
    @ray.remote(max_concurrency=3)
    class Threads:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(3)

        def meet(self) -> int:
            self.barrier.wait(20)
            return threading.get_ident()

        def nested(self) -> int:
            return int(ray.get(one.remote()))

    threads = Threads.remote()
    assert len(set(ray.get([threads.meet.remote() for _ in range(3)], timeout=30))) == 3
    assert ray.get([threads.nested.remote() for _ in range(6)], timeout=30) == [1] * 6


def test_killing_a_concurrent_actor_fails_its_running_calls() -> None:
    @ray.remote(max_concurrency=4)
    class Doomed:
        def sleep(self, log: str) -> None:
            Path(log).touch()
            time.sleep(1000)

        def pid(self) -> int:
            return os.getpid()

    doomed = Doomed.remote()
    pid = ray.get(doomed.pid.remote(), timeout=30)
    refs = [doomed.sleep.remote(os.devnull) for _ in range(2)]
    assert ray.wait(refs, timeout=0.05) == ([], refs)
    os.kill(pid, 9)
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=30)
