"""The end of a driver that is killed, forked, interrupted, or shut down many times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until

_DRIVER = """
import sys, time
import ipyremote as ray
ray.init(num_cpus=2)
@ray.remote
def busy():
    time.sleep(1000)
@ray.remote
def ready():
    return 1
refs = [busy.remote()]
assert ray.get(ready.remote(), timeout=30) == 1
print("up", flush=True)
{ending}
"""


@pytest.mark.parametrize(
    ("ending", "sent"),
    [
        ("time.sleep(1000)", signal.SIGKILL),
        ("time.sleep(1000)", signal.SIGTERM),
        ("import os; os._exit(1)", None),
        ("raise SystemExit", None),
        ("1 / 0", None),
    ],
)
def test_all_processes_and_files_of_a_driver_are_gone_three_seconds_after_its_end(
    ending: str, sent: signal.Signals | None
) -> None:
    with leaks.leakless(within=3.0):
        driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER.format(ending=ending)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"up\n"
        if sent is not None:
            os.killpg(driver.pid, sent)
        driver.wait(15)
        driver.stdout.close()


def test_init_and_shutdown_repeated_two_hundred_times_leak_nothing() -> None:
    with leaks.leakless():
        ray.init(num_cpus=1)
        ray.shutdown()
        before = psutil.Process().memory_info().rss
        for number in range(199):
            ray.init(num_cpus=1)
            # Most sessions end before their tasks have begun; in the other sessions the tasks have run.
            if number % 8 == 0:
                assert ray.get(_double.remote(4), timeout=30) == 8
            ray.shutdown()
        assert psutil.Process().memory_info().rss - before < 16 << 20


def test_a_session_that_is_still_starting_ends_at_once_and_leaves_nothing() -> None:
    with leaks.leakless():
        ray.init(num_cpus=1, keep_alive=60)
        starting = psutil.Process().children()
        ref = _double.remote(4)
        ray.shutdown()
        assert not any(process.is_running() for process in starting)
        with pytest.raises(exceptions.ObjectLostError, match="shut down"):
            ray.get(ref)


def test_a_session_started_in_a_thread_outlives_the_thread(start: Callable[..., Any]) -> None:
    thread = threading.Thread(target=lambda: start(num_cpus=1))
    thread.start()
    thread.join()
    assert ray.get(_double.remote(4), timeout=30) == 8
    assert ray.get(_double.remote(5), timeout=30) == 10


def test_a_forked_child_of_a_driver_is_refused_and_does_not_disturb_the_driver(cluster: Any) -> None:
    ref = _double.remote(1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ray.get(ref, timeout=5)
        except exceptions.ClusterLostError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert b"was forked" in pipe.read()
    os.waitpid(pid, 0)
    assert ray.get(ref, timeout=30) == 2


def test_an_interrupted_get_raises_soon_and_leaves_the_task_running(cluster: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ref = _wait_for.remote(gate)
    interrupted = _interrupt_main_when(_main_waits)
    with pytest.raises(KeyboardInterrupt):
        ray.get(ref)
    assert time.monotonic() - interrupted[0] < 0.2
    assert ray.get(_double.remote(3), timeout=30) == 6
    gate.touch()
    assert ray.get(ref, timeout=30) == "open"


def _interrupt_main_when(condition: Callable[[], bool]) -> list[float]:
    moment: list[float] = []

    def interrupt() -> None:
        until(condition, "the main thread waits")
        moment.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    return moment


def _main_waits() -> bool:
    """Return whether the main thread waits in a session: an interrupt at another place would end the test run."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code.co_name != "wait_until":
        frame = frame.f_back
    return frame is not None


def test_many_threads_can_share_a_session(cluster: Any) -> None:
    wrong: list[Any] = []

    def work(base: int) -> None:
        for value in range(base, base + 50):
            if ray.get(_double.remote(value), timeout=60) != 2 * value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(base * 1000,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@ray.remote
def _double(value: int) -> int:
    return 2 * value


@ray.remote
def _wait_for(path: Path) -> str:
    while not path.exists():
        time.sleep(0.005)
    return "open"
