"""Output that subprocesses, forks and C code of a task write without Python's streams."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


def test_output_of_a_subprocess_arrives_in_order_and_before_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @ray.remote
    def work() -> None:
        print("first")
        subprocess.run(["echo", "second"], check=True)
        print("third")
        os.write(1, "vierté\n".encode())

    ray.get(work.remote(), timeout=30)
    lines = [line.partition(") ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["first", "second", "third", "vierté"]


def test_output_of_a_subprocess_arrives_while_the_subprocess_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def work() -> None:
        subprocess.run(f"echo started; until [ -e {gate} ]; do sleep 0.01; done", shell=True, check=True)

    ref = work.remote()
    seen: list[str] = []

    def started() -> bool:
        ray.wait([ref], timeout=0.01)
        seen.append(capsys.readouterr().out)
        return "started" in "".join(seen)

    until(started, "the program's text is here")
    gate.touch()
    ray.get(ref, timeout=30)


def test_a_flood_of_subprocess_output_arrives_completely(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def work() -> None:
        os.write(1, b"x" * 70_000 + b"\n")

    ray.get(work.remote(), timeout=30)
    assert capsys.readouterr().out.count("x") == 70_000


def test_processes_that_a_task_forks_can_print_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def work() -> list[int | None]:
        print("half a line", end="")

        def child() -> None:
            print("from the child")
            try:
                ray.get(_one.remote(), timeout=5)
            except exceptions.ClusterLostError:
                sys.exit(7)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(20)
        return [process.exitcode, ray.get(_one.remote())]

    assert ray.get(work.remote(), timeout=60) == [7, 1]
    out = capsys.readouterr().out
    assert out.count("half a line") == 1
    assert out.count("from the child") == 1


def test_the_message_of_sys_exit_is_in_the_error() -> None:
    @ray.remote(max_retries=0)
    def leave() -> None:
        sys.exit("no such data set")

    with pytest.raises(exceptions.WorkerCrashedError, match=r"(?s)exit code 1.*no such data set"):
        ray.get(leave.remote(), timeout=30)


def test_a_thread_of_a_task_can_print_and_submit_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def work() -> list[int]:
        found: list[Any] = []

        def ask() -> None:
            print("asking")
            found.append(ray.get(_one.remote()))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    started = time.monotonic()
    assert ray.get(work.remote(), timeout=30) == [1] * 4
    assert time.monotonic() - started < 20
    # Lines of threads stay whole unless a thread is suspended for long in the middle of its line.
    out = capsys.readouterr().out
    assert (out.count("asking"), out.count("\n")) == (4, 4)


@ray.remote
def _one() -> int:
    return 1
