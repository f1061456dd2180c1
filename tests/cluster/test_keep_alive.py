"""Detached sessions: a driver is killed, and the next driver finds the values of its names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from jupyter_client.manager import start_new_kernel

import ipyremote as ray
from ipyremote.backends import discovery
from ipyremote.notebook.cells import sessions
from ipyremote.session import lifecycle, recovery
from tests.support import leaks
from tests.support.sources import ROOT
from tests.support.waiting import until

#: Program of the first driver. Names at its top level are bound to all values that a test needs.
_DRIVER = """
import sys, time, pathlib
import numpy as np
import ipyremote as ray
from ipyremote.session import lifecycle
gate = pathlib.Path(sys.argv[1])
ray.init(num_cpus=2, keep_alive={keep_alive!r})
lifecycle.remember(globals())

@ray.remote
def wait_for(path):
    while not path.exists():
        time.sleep(0.01)
    return "open"

@ray.remote
def double(x):
    return 2 * x

@ray.remote
class Counter:
    def __init__(self):
        self.value = 0
    def add(self, n):
        self.value += n
        return self.value

{body}
lifecycle.remember(globals())
# The scheduler has heard of it.
ray.cluster_resources()
print("up", flush=True)
{ending}
"""
_ALL = """
running = wait_for.remote(gate)
later = double.remote(running)
done = double.remote(21)
array = ray.put(np.arange(1_000_000))
parts = {"a": double.remote(1), "b": [double.remote(2)]}
counter = Counter.remote()
ray.get([done, parts["a"], parts["b"][0], counter.add.remote(5)], timeout=60)
number = 3
_hidden = double.remote(100)
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the path of the file that the first driver's task waits for."""
    return tmp_path / "gate"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a runtime directory of the test's own, so that other detached sessions on this machine are not seen."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="kept-") as place:
        monkeypatch.setenv("IPYREMOTE_TEMP_DIR", place)
        monkeypatch.setattr(discovery, "places", lambda: {Path(place)})
        yield
        until(lambda: not os.listdir(place), "the sessions' directories are gone")


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Run a program in its own process group until it prints "up"; end the group and its session after the test."""
    programs: list[subprocess.Popen[bytes]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"
        return program

    with leaks.leakless():
        yield start
        for program in programs:
            _kill(program)
        ray.shutdown()
        until(_none_is_kept, "the kept sessions have ended")


def _none_is_kept() -> bool:
    """End each detached session, as soon as the session has noticed that its driver is gone."""
    for session in discovery.find():
        with suppress(Exception):
            discovery.join(session)[0].shutdown()
    return not discovery.find()


@pytest.fixture
def drive(spawn: Any, gate: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a driver."""

    def start(body: str = _ALL, keep_alive: Any = 60, ending: str = "time.sleep(1000)") -> Any:
        return spawn(_DRIVER.format(keep_alive=keep_alive, body=body, ending=ending), str(gate))

    return start


def _kill(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver with its whole process group, as a kernel is killed."""
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait(15)
    assert driver.stdout is not None
    driver.stdout.close()


def _orphaned() -> None:
    until(lambda: bool(recovery.recoverable()), "the kept session is there")


def test_results_and_running_tasks_survive_the_kill_of_the_driver(drive: Any, gate: Path) -> None:
    _kill(drive())
    _orphaned()
    table = ray.recover()
    assert {"running", "later", "done", "array", "parts", "counter"} == set(table)
    assert ("running", "waiting", "done", "alive") == tuple(
        table[name] for name in ("running", "later", "done", "counter")
    )
    assert "3 done" not in table["parts"]
    assert "  done     double#" in repr(table)
    assert not ray.is_initialized()

    assert ray.get(ray.recover("done"), timeout=30) == 42
    assert ray.is_initialized()
    rest = ray.recover(["running", "later", "array", "parts", "counter"])
    assert np.array_equal(ray.get(rest["array"], timeout=30), np.arange(1_000_000))
    assert ray.get([rest["parts"]["a"], rest["parts"]["b"][0]], timeout=30) == [2, 4]
    assert ray.get(rest["counter"].add.remote(1), timeout=30) == 6
    assert ray.wait([rest["running"]], timeout=0)[0] == []
    gate.touch()
    assert ray.get([rest["running"], rest["later"]], timeout=30) == ["open", "openopen"]
    assert ray.get(_triple.remote(rest["counter"].add.remote(0)), timeout=30) == 18
    assert not ray.recover()
    until(lambda: ray.available_resources().get("CPU") == 2.0, "both CPUs are free")


def test_spilled_objects_survive_the_kill_of_the_driver(
    drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYREMOTE_object_spilling_directory", str(tmp_path))
    body = (
        "ray.shutdown()\n"
        "ray.init(num_cpus=2, keep_alive=60, object_store_memory=32 << 20)\n"
        "many = [ray.put(np.full(2 << 20, i, np.uint8)) for i in range(30)]\n"
    )
    _kill(drive(body))
    _orphaned()
    many = ray.recover("many")
    assert [i * (2 << 20) for i in range(30)] == [int(ray.get(ref).sum(dtype=np.int64)) for ref in many]
    more = [ray.put(np.full(2 << 20, i, np.uint8)) for i in range(30)]
    assert 29 == ray.get(more[29])[0] == ray.get(many[29])[-1]
    ray.shutdown()
    assert [] == list(tmp_path.iterdir())


@ray.remote
def _triple(value: int) -> int:
    return 3 * value


def test_recover_returns_all_named_values_and_works_again_after_another_kill(drive: Any, gate: Path) -> None:
    gate.touch()
    _kill(drive())
    _orphaned()
    everything = ray.recover(all=True)
    assert {"running", "later", "done", "array", "parts", "counter"} == set(everything)
    assert {} == ray.recover(all=True)
    # A cell that is run again while its ref still exists.
    assert ray.get(ray.recover("done"), timeout=30) == 42
    del everything["done"]
    with pytest.raises(LookupError, match="'other' is not kept; nothing is left"):
        ray.recover("other")


def test_objects_without_a_name_are_released(drive: Any, gate: Path) -> None:
    body = """
hidden = [wait_for.remote(gate), wait_for.remote(gate), wait_for.remote(gate)]
done = double.remote(1)
keep = ray.put(7)
del done
hidden = set(hidden)
"""
    _kill(drive(body))
    _orphaned()
    assert ray.get(ray.recover("keep"), timeout=30) == 7
    until(lambda: ray.available_resources().get("CPU") == 2.0, "the tasks were cancelled")
    assert ray.get(_triple.remote(1), timeout=30) == 3


def test_the_next_driver_owns_a_detached_session_and_its_shutdown_ends_the_session(drive: Any) -> None:
    _kill(drive())
    _orphaned()
    ray.recover("done")
    directory = discovery.find()[0].path
    ray.shutdown()
    assert not directory.exists()
    assert not ray.recover()
    assert repr(ray.recover()).startswith("Nothing is kept.")


_HEIR = """
import sys, time, pathlib
import ipyremote as ray
from ipyremote.session import lifecycle
from ipyremote.backends import discovery
discovery.places = lambda: {pathlib.Path(sys.argv[1])}
lifecycle.remember(globals())
mine = ray.recover("running")
made = ray.put(8)
lifecycle.remember(globals())
ray.cluster_resources()
print("up", flush=True)
time.sleep(1000)
"""


def test_the_death_of_the_next_driver_restarts_the_time_limit(
    drive: Any, spawn: Any, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill(drive())
    _orphaned()
    heir = spawn(_HEIR, os.environ["IPYREMOTE_TEMP_DIR"])
    assert [] == recovery.recoverable()
    with pytest.raises(LookupError, match=r"nothing is kept.*Sessions of other programs are in use"):
        ray.recover("done")
    (session,) = discovery.find()
    with monkeypatch.context() as patch:
        patch.setattr(discovery, "origin", lambda: session.mark.origin)
        with pytest.raises(RuntimeError, match="done: another process has recovered the session"):
            ray.recover("done")
    _kill(heir)
    _orphaned()
    assert {"later", "done", "array", "parts", "counter", "mine", "made"} == set(ray.recover())
    gate.touch()
    refs = ray.recover(["mine", "made", "done"])
    assert ["open", 8, 42] == [ray.get(refs[name], timeout=30) for name in ("mine", "made", "done")]


def test_a_second_driver_cannot_adopt_the_same_detached_session(drive: Any) -> None:
    _kill(drive())
    _orphaned()
    (session,) = discovery.find()
    first, _ = discovery.join(session)
    with pytest.raises(RuntimeError, match="Another process has recovered this session"):
        discovery.join(session)
    assert discovery.look(session).is_taken  # type: ignore[union-attr]  # it answers
    first.shutdown()


def test_a_driver_that_ends_normally_leaves_a_detached_session_too(drive: Any) -> None:
    driver = drive("done = double.remote(4)", ending="last = double.remote(5)")
    assert driver.wait(30) == 0
    _orphaned()
    assert [8, 10] == ray.get([ray.recover("done"), ray.recover("last")], timeout=30)


def test_names_are_recorded_while_the_driver_is_busy(drive: Any) -> None:
    ending = """
from ipyremote.backend import current
soon = double.remote(8)
deadline = time.monotonic() + 30
while "soon" not in current.backend().recovery._told:
    assert time.monotonic() < deadline, "nobody looks through the names"
    time.sleep(0.01)
# The scheduler answers after it has read the news of the name.
ray.cluster_resources()
print("bound", flush=True)
time.sleep(1000)
"""
    driver = drive("", ending=ending)
    assert driver.stdout.readline() == b"bound\n"
    _kill(driver)
    _orphaned()
    assert ray.get(ray.recover("soon"), timeout=30) == 16


def test_shutdown_of_the_driver_ends_a_session_with_keep_alive_at_once(drive: Any) -> None:
    driver = drive("done = double.remote(4)", ending="ray.shutdown()")
    assert driver.wait(30) == 0
    assert [] == discovery.find()


def test_a_detached_session_is_gone_after_its_time_limit(gate: Path, drive: Any) -> None:
    with leaks.leakless(within=6.0):
        driver = drive(keep_alive="2s")
        (session,) = discovery.find()
        _kill(driver)
        killed = time.monotonic()
        _orphaned()
        until(lambda: not session.path.exists(), "the session's directory is gone")
        assert 1.9 < time.monotonic() - killed < 5.0
    with pytest.raises(LookupError, match="nothing is kept"):
        ray.recover("done")


def test_a_session_without_named_values_is_gone_at_once(drive: Any) -> None:
    with leaks.leakless(within=3.0):
        _kill(drive("number = 1"))


def test_a_session_without_keep_alive_is_gone_within_three_seconds(drive: Any) -> None:
    with leaks.leakless(within=3.0):
        driver = drive(keep_alive=None)
        assert [] == discovery.find()
        _kill(driver)


def test_a_detached_session_whose_scheduler_is_killed_leaves_nothing(drive: Any) -> None:
    _kill(drive())
    _orphaned()
    (session,) = discovery.find()
    psutil.Process(session.mark.pid).kill()
    until(lambda: not discovery.find(), "no process holds the session's lock")
    with pytest.raises(LookupError):
        ray.recover("done")
    ray.init(num_cpus=1)
    assert not session.path.exists()


def test_the_next_driver_is_told_of_the_death_of_the_scheduler(drive: Any) -> None:
    _kill(drive())
    _orphaned()
    ref = ray.recover("running")
    (session,) = discovery.find()
    psutil.Process(session.mark.pid).kill()
    with pytest.raises(ray.exceptions.ClusterLostError):
        ray.get(ref, timeout=30)
    assert not session.path.exists()


def test_recover_replaces_an_unused_session_but_not_a_used_session(drive: Any) -> None:
    _kill(drive())
    _orphaned()
    ray.init(num_cpus=1)
    assert ray.get(ray.recover("done"), timeout=30) == 42
    # The cell that started the first session is run again.
    assert ray.init(num_cpus=2, keep_alive="1m") is ray.init()
    assert ray.cluster_resources()["CPU"] == 2.0
    ray.shutdown()
    ray.init(num_cpus=1)
    assert ray.get(_triple.remote(1), timeout=30) == 3
    _kill(drive("done = double.remote(1)"))
    _orphaned()
    with pytest.raises(RuntimeError, match="uses a cluster of its own already"):
        ray.recover("done")
    until(lambda: dict(ray.recover()) == {"done": "done"}, "the task is done")
    ray.recover().discard()
    assert [] == recovery.recoverable()
    assert ray.get(_triple.remote(2), timeout=30) == 6


def test_output_of_a_running_task_reaches_the_next_driver(
    drive: Any, gate: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = """
@ray.remote
def talk(path):
    while not path.exists():
        time.sleep(0.01)
    print("it is open")
    return 1
talking = talk.remote(gate)
"""
    _kill(drive(body))
    _orphaned()
    ref = ray.recover("talking")
    gate.touch()
    assert ray.get(ref, timeout=30) == 1
    assert "(talk#1) it is open" in capfd.readouterr().out


def test_only_the_user_can_read_the_file_that_announces_a_detached_session(drive: Any) -> None:
    drive("done = double.remote(1)")
    (session,) = discovery.find()
    assert (session.path / "session").stat().st_mode & 0o777 == 0o600
    command = " ".join(psutil.Process(session.mark.pid).cmdline())
    assert session.mark.secret.hex() not in command
    session.path.chmod(0o755)
    assert [] == discovery.find()
    session.path.chmod(0o700)


@pytest.mark.parametrize("now", [False, True], ids=["in good order", "killed"])
def test_a_restarted_kernel_finds_its_earlier_values(now: bool) -> None:
    # The kernel's client keeps an event loop open.
    with leaks.leakless(allowed_descriptors=4):
        manager, client = start_new_kernel()
        try:
            _run(client, _CELL)
            assert _run(client, "print(ray.get(x, timeout=30))") == "42"
            client.stop_channels()
            manager.restart_kernel(now=now)
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=30)
            _run(client, "import ipyremote as ray\nfrom ipyremote.session import recovery")
            look = (
                "print(*[(*found.names, found.is_ours) for found in recovery.recoverable() if found.is_ours])"
            )
            until(lambda: _run(client, look) == "('x', True)", "the kernel finds its names")
            assert _run(client, "print(ray.get(ray.recover('x'), timeout=30))") == "42"
            _run(client, "ray.shutdown()")
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
            client.context.term()


def test_loading_the_extension_offers_an_earlier_kernels_detached_session() -> None:
    with leaks.leakless(allowed_descriptors=4):
        manager, client = start_new_kernel()
        try:
            _run(client, "import ipyremote\nipyremote.init(num_cpus=1, keep_alive='1m')\n%load_ext ipyremote")
            _run(client, "%%remote -s lab -b\nkept = 6 * 7")
            # The scheduler has received the name of the session.
            _run(client, "ipyremote.session.lifecycle.remember(*ipyremote.session.lifecycle._slot.names)")
            _run(client, "ipyremote.cluster_resources()")
            client.stop_channels()
            manager.restart_kernel(now=True)
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=30)
            _run(client, "from ipyremote import recover; from ipyremote.session import recovery")
            look = "print(any(found.is_ours for found in recovery.recoverable()))"
            until(lambda: _run(client, look) == "True", "the kernel finds its session")
            offered = _run(client, "%load_ext ipyremote")
            assert "ipyremote, from an earlier run: 1 name is kept" in offered
            assert "%%remote -s lab" in offered
            assert _run(client, "found = recover(all=True); print(*found)") == "%%remote -s lab"
            assert "lab: idle, 1 variable\n    kept  int" in _run(client, "%remote_sessions")
            assert _run(client, "%%remote -s lab -b\nprint(kept)") == "42"
            _run(client, "%remote_shutdown")
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
            client.context.term()


def test_init_warns_of_a_detached_session_with_the_same_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = recovery.RecoverableSession(
        "ab", {"%%remote -s lab": ("CellSession#1", "alive")}, 60.0, True, "/here"
    )
    monkeypatch.setattr(sessions, "recoverable", lambda: [left])
    sessions._warn_of_kept("other")
    assert capsys.readouterr().out == ""
    sessions._warn_of_kept("lab")
    assert (
        "an earlier run of this notebook has left a session lab; this cell starts a new one"
        in capsys.readouterr().out
    )


_CELL = """
import ipyremote as ray
from ipyremote.session import lifecycle
lifecycle.remember(get_ipython().user_ns)
ray.init(num_cpus=1, keep_alive="1m")
@ray.remote
def double(x):
    return 2 * x
x = double.remote(21)
lifecycle.remember(get_ipython().user_ns)
"""


def _run(client: Any, code: str) -> str:
    """Run a cell and return its printed text."""
    printed: list[str] = []

    def hook(message: Any) -> None:
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            printed.append(content["text"])
        if message["msg_type"] == "display_data":
            printed.append(content["data"]["text/plain"])
        assert message["msg_type"] != "error", content["traceback"]

    reply = client.execute_interactive(code, timeout=60, output_hook=hook)
    assert reply["content"]["status"] == "ok"
    return "".join(printed).strip()


def test_remember_without_a_session_does_nothing() -> None:
    lifecycle.remember({"x": 1})
    lifecycle.remember()
    assert not ray.is_initialized()
