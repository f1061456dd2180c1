"""Containers at their limits: memory, processes, shared memory. The tests need root, so they run only on request."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.sources import ROOT

pytestmark = pytest.mark.chaos

_GROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


@contextlib.contextmanager
def group(controller: str, **limits: int) -> Iterator[Path]:
    """Create a control group with these limits; return the file to which a process writes its id to join the group."""
    unified = (_GROUPS / "cgroup.controllers").exists()
    made = (_GROUPS if unified else _GROUPS / controller) / f"test-ipyremote-{os.getpid()}"
    try:
        made.mkdir()
        for name, limit in limits.items():
            found = made / f"{controller}.{name}"
            if found.exists():
                found.write_text(str(limit))
    except OSError as reason:
        with contextlib.suppress(OSError):
            made.rmdir()
        pytest.skip(f"cannot make a control group here: {reason}")
    try:
        yield made / "cgroup.procs"
    finally:
        made.rmdir()


def run_inside(program: str, inside: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a control group."""
    return run(["/bin/sh", "-c", f'echo $$ > {inside} && exec "$0" -c "$1"', sys.executable, program])


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that must end normally and leave nothing behind."""
    with leaks.leakless():
        done = subprocess.run(
            command,
            capture_output=True,
            cwd=ROOT,
            text=True,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    return done


_GREEDY = """
import ipyremote as ray
from ipyremote import exceptions

@ray.remote(max_retries={retries})
def greedy():
    kept = []
    while True:
        kept.append(bytearray(b"x" * (4 << 20)))

@ray.remote
def fine(value):
    return 2 * value

ray.init(num_cpus=1, object_store_memory=16 << 20)
assert ray.get(fine.remote(2), timeout=60) == 4
try:
    ray.get(greedy.remote(), timeout=60)
except exceptions.OutOfMemoryError as error:
    print(error)
assert ray.get(fine.remote(3), timeout=60) == 6
ray.shutdown()
"""


@pytest.mark.parametrize("retries", [0, 3])
def test_a_task_that_takes_all_memory_of_the_container_dies_alone_and_the_error_says_why(
    retries: int,
) -> None:
    # The limit on swap has another name in each version; without this limit, memory beyond the limit is swapped out.
    limits = {"limit_in_bytes": 250 * MIB, "memsw.limit_in_bytes": 250 * MIB, "max": 250 * MIB, "swap.max": 0}
    with group("memory", **limits) as inside:
        done = run_inside(_GREEDY.format(retries=retries), inside)
    assert "greedy#1 was running when its worker (pid " in done.stdout
    assert "out of memory: signal 9 (SIGKILL) from the kernel's OOM killer" in done.stdout


_CROWDED = """
import time
import ipyremote as ray

@ray.remote
def nested(depth):
    return 1 + ray.get(nested.remote(depth - 1)) if depth else 0

ray.init(num_cpus=1)
assert ray.get(nested.remote(0), timeout=60) == 0
try:
    assert ray.get(nested.remote(40), timeout=10) == 40
    print("enough")
except Exception as error:
    print(type(error).__name__)
began = time.monotonic()
ray.shutdown()
assert time.monotonic() - began < 5
"""


def test_a_container_that_allows_few_processes_leads_to_an_error_and_a_normal_end() -> None:
    with group("pids", max=40) as inside:
        done = run_inside(_CROWDED, inside)
    assert done.stdout in ("GetTimeoutError\n", "TaskError(IPyRemoteSystemError)\n", "IPyRemoteSystemError\n")
    assert "Workers cannot be started" in done.stderr
    assert "Resource temporarily unavailable" in done.stderr


_SMALL_SHARED_MEMORY = """
import os
import numpy as np
import ipyremote as ray

@ray.remote
def double(array):
    return 2 * array

ray.init(num_cpus=1)
for i in range(20):
    array = ray.get(double.remote(ray.put(np.full(2_000_000, i))), timeout=60)
    assert array[0] == array[-1] == 2 * i
print(sum(name.startswith("ipyremote-") for name in os.listdir("/dev/shm")))
ray.shutdown()
"""


def run_apart(program: str, size: str) -> subprocess.CompletedProcess[str]:
    """Run a program with its own /dev/shm of this size."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot give a program a /dev/shm of its own here")
    mount = f"mount -t tmpfs -o size={size} none /dev/shm"
    command = f'{mount} && exec "$0" -c "$1"'
    return run(["unshare", "-m", "/bin/sh", "-c", command, sys.executable, program])


def test_a_session_with_small_shared_memory_uses_files_and_warns_once() -> None:
    done = run_apart(_SMALL_SHARED_MEMORY, "64m")
    assert done.stdout == "0\n"
    assert done.stderr.count("Only 64 MiB of shared memory are free in /dev/shm") == 1


_FILLED_SHARED_MEMORY = """
import os
import numpy as np
import ipyremote as ray
from ipyremote import exceptions

def fill():
    with open("/dev/shm/filler", "ab", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                pass

@ray.remote
def pid():
    return os.getpid()

@ray.remote(max_retries=0)
def make(size):
    return np.ones(size)

ray.init(num_cpus=1)
kept = ray.get(make.remote(1_000_000), timeout=60)
worker = ray.get(pid.remote(), timeout=60)
fill()
for store in (lambda: ray.put(np.ones(3_000_000)), lambda: ray.get(make.remote(3_000_000), timeout=60)):
    try:
        store()
    except exceptions.ObjectStoreFullError as error:
        print(type(error).__name__)
assert ray.get(pid.remote(), timeout=60) == worker
assert kept.sum() == 1_000_000
os.kill(worker, 9)
for _ in range(100):
    fill()
os.unlink("/dev/shm/filler")
assert ray.get(pid.remote(), timeout=60) != worker
assert ray.get(make.remote(3_000_000), timeout=60).sum() == 3_000_000
print("again")
ray.shutdown()
"""


def test_shared_memory_filled_by_another_program_causes_an_error_and_never_a_signal() -> None:
    done = run_apart(_FILLED_SHARED_MEMORY, "1300m")
    assert done.stdout == "ObjectStoreFullError\nObjectStoreFullError\nagain\n"
