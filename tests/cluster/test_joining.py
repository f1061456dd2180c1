"""Several programs that share one session by `init(address=...)`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from tests.support.sources import ROOT
from tests.support.waiting import until


def program(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another program of this user."""
    return subprocess.run(
        [sys.executable, "-c", "import sys\nimport ipyremote as ray\n" + textwrap.dedent(text), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


WORK = """
    with ray.init(address=sys.argv[1]) as context:
        @ray.remote
        def pid():
            import os
            print("said by a task")
            return os.getpid()
        print(ray.get(pid.remote()), ray.cluster_resources()["CPU"], context.address_info["address"])
    print(ray.is_initialized())
"""


@ray.remote
def pid() -> int:
    import os

    return os.getpid()


def workers() -> set[int]:
    return set(ray.get([pid.remote() for _ in range(20)]))


@pytest.mark.parametrize("how", ["auto", "address"])
def test_another_program_can_join_a_session_and_leave_it_unchanged(
    start: Callable[..., Any], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a runtime directory where no other program has a session.
    monkeypatch.setenv("IPYREMOTE_TEMP_DIR", str(tmp_path))
    context = start(num_cpus=1)
    address = context.address_info["address"]
    own = workers()
    done = program(WORK, "auto" if how == "auto" else address)
    assert not done.returncode, done.stderr
    said, answer, ended = done.stdout.splitlines()
    assert (said, ended) == ("(pid#1) said by a task", "False")
    there, cpus, joined = answer.split()
    assert (int(there) in own, cpus, joined) == (True, "1.0", address)
    assert workers() == own


def test_the_tasks_of_a_killed_guest_program_end_and_all_others_continue(start: Callable[..., Any]) -> None:
    context = start(num_cpus=1)
    text = """
        import os, signal, time
        ray.init(address=sys.argv[1])
        @ray.remote
        def sleep():
            time.sleep(1000)
        ref = sleep.remote()
        while ray.available_resources().get("CPU"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert program(text, context.address_info["address"]).returncode == -9
    until(lambda: ray.available_resources().get("CPU") == 1.0, "the CPU of the guest's task is free")
    assert len(workers()) == 1


def test_the_address_of_a_session_can_come_from_the_environment(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = start(num_cpus=1).address_info["address"]
    monkeypatch.setenv("IPYREMOTE_ADDRESS", address)
    done = program('print(ray.init().address_info["address"])')
    assert (done.returncode, done.stdout.strip()) == (0, address)


def test_resource_amounts_of_a_joined_session_cannot_be_chosen(start: Callable[..., Any]) -> None:
    address = start(num_cpus=1).address_info["address"]
    done = program("ray.init(address=sys.argv[1], num_cpus=3)", address)
    assert "ValueError: The session is running, so num_cpus cannot be chosen any more." in done.stderr


def test_guest_programs_are_told_of_the_end_of_the_session(start: Callable[..., Any]) -> None:
    address = start(num_cpus=1).address_info["address"]
    text = """
        ray.init(address=sys.argv[1])
        @ray.remote
        def sleep():
            import time
            time.sleep(1000)
        ref = sleep.remote()
        print("waits", flush=True)
        try:
            ray.get(ref)
        except ray.exceptions.ClusterLostError as error:
            print("lost")
    """
    guest = subprocess.Popen(
        [sys.executable, "-c", "import sys\nimport ipyremote as ray\n" + textwrap.dedent(text), address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guest.stdout is not None
    with guest:
        assert guest.stdout.readline() == "waits\n"
        ray.shutdown()
        assert guest.communicate(timeout=30)[0] == "lost\n"


def test_init_with_the_address_of_the_running_session_returns_it(
    start: Callable[..., Any],
) -> None:
    context = start(num_cpus=1)
    assert ray.init(address="auto") is context
    assert ray.init(address=context.address_info["address"]) is context
    with pytest.raises(RuntimeError, match="init twice"):
        ray.init(address="/dev/shm/ipyremote-another")
