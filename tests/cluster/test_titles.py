"""Titles of the processes of a cluster, as `ps` and `top` show them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import ipyremote as ray
from ipyremote.backend import current
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


def title(process: psutil.Process) -> str:
    return "\0".join(process.cmdline()).rstrip("\0")


def scheduler() -> psutil.Process:
    backend: Any = current.peek()
    until(lambda: backend.scheduler_pid != 0, "the scheduler has answered")
    return psutil.Process(backend.scheduler_pid)


def worker_titles() -> list[str]:
    (zygote,) = (child for child in scheduler().children() if title(child) == "ipyremote: zygote")
    return sorted(title(worker) for worker in zygote.children())


@ray.remote
def train(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.01)


@ray.remote
class Counter:
    def count(self, gate: Path) -> None:
        while not gate.exists():
            time.sleep(0.01)


@ray.remote
class Meeting:
    async def wait(self, gate: Path) -> None:
        while not gate.exists():
            await asyncio.sleep(0.01)


def test_a_worker_is_named_after_its_task_while_the_task_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ref = train.remote(gate)
    until(lambda: "ipyremote: train#1" in worker_titles(), "the task is in a title")
    assert title(scheduler()) == "ipyremote: scheduler"
    gate.touch()
    ray.get(ref, timeout=30)
    until(lambda: set(worker_titles()) == {"ipyremote: idle"}, "every worker is idle")


def test_the_title_of_a_task_has_the_number_of_the_submitting_cell(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    backend: Any = current.peek()
    backend.cell = 7
    refs = [train.remote(gate)]
    backend.cell = -1
    refs.append(train.remote(gate))
    expected = {"ipyremote: train#1 (cell 7)", "ipyremote: train#2"}
    until(lambda: expected <= set(worker_titles()), "both tasks are in titles")
    gate.touch()
    ray.get(refs, timeout=30)


def test_the_worker_of_an_actor_is_named_after_its_running_method_or_after_the_actor(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    counter = Counter.remote()
    until(lambda: "ipyremote: idle (Counter#1)" in worker_titles(), "the actor is idle")
    ref = counter.count.remote(gate)
    until(lambda: "ipyremote: Counter.count#1" in worker_titles(), "the method is in a title")
    gate.touch()
    ray.get(ref, timeout=30)
    until(lambda: "ipyremote: idle (Counter#1)" in worker_titles(), "the actor is idle again")


def test_the_title_of_an_actor_counts_its_concurrent_calls(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    meeting = Meeting.remote()
    refs = [meeting.wait.remote(gate) for _ in range(3)]
    until(lambda: "ipyremote: Meeting.wait#1 and 2 more" in worker_titles(), "the calls are counted")
    gate.touch()
    ray.get(refs, timeout=30)


def test_the_process_of_an_environment_is_named_after_the_environment() -> None:
    ref = train.options(runtime_env={"env_vars": {"COLOUR": "red"}}).remote(Path("/"))
    ray.get(ref, timeout=60)
    titles = {title(child) for child in scheduler().children()}
    assert titles == {"ipyremote: zygote", "ipyremote: environment env_vars: COLOUR"}
