"""Killed processes of environments, and sessions that end with environments: work continues, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.chaos.sessions import processes, scheduler, session
from tests.support import leaks
from tests.support.packages import slow_package
from tests.support.sources import ROOT
from tests.support.waiting import until

ENV = {"env_vars": {"CHAOS": "1"}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place


@ray.remote(runtime_env=ENV, max_retries=1)
def value(gate: Path | None = None) -> tuple[str, int, int]:
    while gate is not None and not gate.exists():
        time.sleep(0.002)
    return os.environ["CHAOS"], os.getpid(), os.getppid()


@ray.remote
def plain(number: int) -> int:
    return number + 1


def environment_processes() -> list[psutil.Process]:
    """Return the environment processes, which are children of the scheduler with their own title."""
    return [
        child
        for child in scheduler().children()
        if " ".join(child.cmdline()).startswith("ipyremote: environment")
    ]


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_of_an_environment_is_replaced_in_its_environment(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    _, pid, zygote = ray.get(value.remote(), timeout=60)
    ref = value.remote(gate)
    until(lambda: len(running()) == 1, "the task runs")
    os.kill(running()[0], signal.SIGKILL)
    gate.touch()
    again = ray.get(ref, timeout=60)
    assert (again[0], again[2]) == ("1", zygote)
    assert again[1] != pid


def running() -> list[int]:
    """Return the busy workers of environments."""
    members = {child.pid for process in environment_processes() for child in process.children()}
    return [w.pid for w in session().insight.status().workers if w.state == "busy" and w.pid in members]


@pytest.mark.usefixtures("cluster")
def test_tasks_of_a_killed_environment_process_run_again_and_other_tasks_continue(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    _, pid, zygote = ray.get(value.remote(), timeout=60)
    # An environment process that is lost right after its start counts as a failed set-up.
    time.sleep(1.1)  # not a wait for a condition: the environment process must be older than a second
    running_one, waiting_one = value.remote(gate), value.options(max_retries=0).remote()
    until(lambda: running() != [], "the task runs")
    os.kill(zygote, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), "the workers of the environment are gone")
    assert ray.get([plain.remote(number) for number in range(20)], timeout=30) == list(range(1, 21))
    gate.touch()
    again = ray.get(running_one, timeout=60)
    assert again[0] == "1"
    assert again[2] != zygote
    assert ray.get(waiting_one, timeout=60)[0] == "1"


@pytest.mark.usefixtures("cluster")
def test_an_actor_of_a_killed_environment_process_is_restarted_or_dead_with_the_reason() -> None:
    @ray.remote(runtime_env=ENV)
    class Actor:
        def parent(self) -> tuple[str, int, int]:
            return os.environ["CHAOS"], os.getppid(), os.getpid()

    lasting = Actor.options(max_restarts=-1, max_task_retries=-1).remote()
    mortal = Actor.remote()
    _, zygote, pid = ray.get(lasting.parent.remote(), timeout=60)
    assert ray.get(mortal.parent.remote(), timeout=60)[:2] == ("1", zygote)
    # Not a wait for a condition: the environment process must be older than a second, as above
    time.sleep(1.1)
    os.kill(zygote, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), "the process of the actor is gone")
    name, other, _ = ray.get(lasting.parent.remote(), timeout=60)
    assert name == "1"
    assert other != zygote
    with pytest.raises(exceptions.ActorDiedError, match="the process that had started it was lost"):
        ray.get(mortal.parent.remote(), timeout=60)


@pytest.mark.usefixtures("cluster")
def test_a_killed_set_up_process_fails_its_waiting_tasks_and_stops_the_installation(tmp_path: Path) -> None:
    slow = slow_package(tmp_path, seconds=60)
    options = ["--no-index", "--no-build-isolation", "--no-deps"]
    env = {"pip": {"packages": [str(slow)], "pip_install_options": options}}
    ref = plain.options(runtime_env=env).remote(1)
    building = tmp_path / "building"
    until(lambda: building.exists() and building.read_text() != "", "it is being built", 60)
    builder = int(building.read_text())
    (process,) = environment_processes()
    process.kill()
    with pytest.raises(exceptions.RuntimeEnvSetupError, match=r"signal 9 \(SIGKILL\)"):
        ray.get(ref, timeout=60)
    until(lambda: not psutil.pid_exists(builder), "the build process is gone")
    assert ray.get(plain.remote(1), timeout=30) == 2


def test_all_environment_processes_end_when_the_scheduler_is_killed(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    start(num_cpus=2)
    assert ray.get(value.remote(), timeout=60)[0] == "1"
    slow = slow_package(tmp_path, seconds=60)
    options = ["--no-index", "--no-build-isolation", "--no-deps"]
    env = {"pip": {"packages": [str(slow)], "pip_install_options": options}}
    ref = plain.options(runtime_env=env).remote(1)
    until(lambda: (tmp_path / "building").exists(), "it is being built", 60)
    all_of_it = processes()
    assert len(all_of_it) >= 6
    scheduler().kill()
    with pytest.raises(exceptions.ClusterLostError):
        ray.get(ref, timeout=30)
    gone = lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in all_of_it)  # noqa: E731
    until(gone, "all processes and files are gone")


def test_all_environment_processes_and_files_are_gone_when_the_driver_is_killed(tmp_path: Path) -> None:
    program = f"""
import ipyremote as ray
from pathlib import Path
from tests.support.packages import slow_package
ray.init(num_cpus=1, runtime_env={{"working_dir": {str(ROOT / "ipyremote" / "core")!r}}})

@ray.remote(runtime_env={ENV!r})
def pids():
    import os
    return os.getpid(), os.getppid(), os.getcwd()

print(*ray.get(pids.remote(), timeout=60), flush=True)
slow = slow_package(Path({str(tmp_path)!r}), seconds=60)
options = ["--no-index", "--no-build-isolation", "--no-deps"]
pids.options(runtime_env={{"pip": {{"packages": [str(slow)], "pip_install_options": options}}}}).remote()
ray.wait([pids.remote()], timeout=1)
input()
"""
    with leaks.leakless():
        driver = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert driver.stdout is not None
        worker, zygote, cwd = driver.stdout.readline().split()
        building = tmp_path / "building"
        until(lambda: building.exists() and building.read_text() != "", "it is being built", 60)
        builder = int(building.read_text())
        driver.kill()
        driver.communicate()
        for pid in (int(worker), int(zygote), builder):
            until(lambda: not psutil.pid_exists(pid), f"{pid} is gone")  # noqa: B023  # called in this round only
        until(lambda: not Path(cwd).exists(), "the copy of the working directory is gone")
