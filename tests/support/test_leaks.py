"""Tests of the leak check, which must find each kind of leak, orphans included, and ignore other runs."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import leaks


def the_leak(before: leaks.Snapshot, kind: str) -> list[str]:
    return [sentence for sentence in leaks.leaked(before) if sentence.startswith(kind)]


def test_an_empty_block_has_no_leaks(leakless: leaks.Snapshot) -> None:
    assert leaks.leaked(leakless) == []


@pytest.mark.processes
def test_a_child_process_is_a_leak_until_it_has_ended() -> None:
    before = leaks.Snapshot.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = the_leak(before, "process")
        assert len(found) == 1
        assert str(child.pid) in found[0]
        child.communicate(b"\n")
    assert the_leak(before, "process") == []


@pytest.mark.processes
def test_an_orphaned_process_is_found_by_its_mark() -> None:
    before = leaks.Snapshot.take()
    sleeper = (
        "from subprocess import DEVNULL, Popen;"
        "print(Popen(['sleep', '60'], stdout=DEVNULL, start_new_session=True).pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", sleeper], stdout=subprocess.PIPE, text=True, check=True, timeout=30
    )
    orphan = psutil.Process(int(done.stdout))
    try:
        assert orphan in leaks.processes() - before.processes
    finally:
        os.kill(orphan.pid, signal.SIGKILL)
    psutil.wait_procs([orphan], timeout=5)


@pytest.mark.processes
def test_a_zombie_process_is_a_leak() -> None:
    before = leaks.Snapshot.take()
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.read() == b""
    assert len(the_leak(before, "process")) == 1
    child.wait(timeout=5)
    child.stdout.close()
    assert leaks.leaked(before) == []


def test_an_open_file_descriptor_is_a_leak() -> None:
    before = leaks.Snapshot.take()
    number = os.open(os.devnull, os.O_RDONLY)
    try:
        assert any(os.devnull in sentence for sentence in the_leak(before, "descriptor"))
    finally:
        os.close(number)


def test_a_running_thread_is_a_leak() -> None:
    before = leaks.Snapshot.take()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-over")
    thread.start()
    assert the_leak(before, "thread") == ["thread left-over"]
    stop.set()
    thread.join()


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path("/dev/shm") / f"ipyremote-{uuid.uuid4().hex[:12]}"
    path.mkdir(mode=0o700)
    yield path
    for entry in path.iterdir():
        entry.unlink()
    path.rmdir()


@pytest.mark.processes
def test_a_session_directory_that_existed_before_is_no_leak(directory: Path) -> None:
    assert the_leak(leaks.Snapshot.take(), f"directory {directory}") == []


@pytest.mark.processes
def test_a_session_directory_without_a_lock_of_another_run_is_a_leak(directory: Path) -> None:
    before = leaks.Snapshot(leaks.processes(), frozenset(), {}, frozenset(), 0)
    assert the_leak(before, f"directory {directory}")
    with (directory / "lock").open("w") as lock:
        assert the_leak(before, f"directory {directory}")
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert the_leak(before, f"directory {directory}")


@pytest.mark.processes
def test_a_session_directory_that_another_run_holds_is_no_leak(directory: Path) -> None:
    before = leaks.Snapshot(leaks.processes(), frozenset(), {}, frozenset(), 0)
    (directory / "lock").touch()
    holder = f"""
import fcntl
with open({str(directory / "lock")!r}) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert the_leak(before, f"directory {directory}")
        assert leaks._foreign(directory, frozenset())
        other.communicate(b"\n")


def test_the_block_fails_with_a_list_of_leaks() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-over")
    with pytest.raises(AssertionError, match="thread left-over"), leaks.leakless(within=0.05):
        thread.start()
    stop.set()
    thread.join()
