"""The Binder image without Docker: the same pins in a fresh environment, `postBuild`, and notebook 01 run by `start`.

The tests do not test conda or repo2docker: the packages of environment.yml are installed from PyPI, for this Python.

Rules. The environment is made once, and sees only a copy of this checkout. The limits of its processes are real. If a
limit cannot be set, the tests are skipped, which CI counts as a failure:

    CPU        one, by affinity
    /dev/shm   64 MB, in its own file system in a mount namespace, or the /dev/shm of a container if that is not larger
    memory     1 GB, announced as by JupyterHub (MEM_LIMIT) and enforced: the memory of all processes together
               (proportional set sizes, so shared memory counts once) is measured five times a second, with nbconvert in
               the place of the server, and a program that uses more is killed and fails. The data of a single process
               can never be larger (RLIMIT_DATA), so that short peaks are not missed. No control group is needed.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support import leaks
from tests.support.sources import ROOT

pytestmark = pytest.mark.timeout(420)

BINDER = ROOT / "binder"
COPIED = ("binder", "ipyremote", "notebooks", "LICENSE", "README.md", "pyproject.toml")
#: PyPI name of each conda package with another name there; None if conda itself provides the package.
PYPI_NAMES = {"matplotlib-base": "matplotlib", "pip": None, "python": None}

MEMORY = 1 << 30
SHM = 64 << 20
#: Script for `sh -c` that mounts a small /dev/shm of its own and then runs the command.
SMALL_SHM = f'mount -t tmpfs -o size={SHM} tmpfs /dev/shm && exec "$@"'

PROBE = """
import glob, json, os, resource
import numpy
import ipyremote

ipyremote.init()
array = numpy.ones(100 * 1024 * 1024 // 8)

@ipyremote.remote
def total(array):
    return float(array.sum()), array.flags.writeable

shm = os.statvfs("/dev/shm")
print(json.dumps({
    "sum": ipyremote.get(total.remote(ipyremote.put(array))),
    "resources": ipyremote.cluster_resources(),
    "package": ipyremote.__file__,
    "cpus": len(os.sched_getaffinity(0)),
    "data": resource.getrlimit(resource.RLIMIT_DATA),
    "shm": shm.f_blocks * shm.f_frsize,
    "in_shm": glob.glob("/dev/shm/ipyremote-*"),
}))
"""


@functools.cache
def small_shm() -> tuple[str, ...]:
    """Return the start of a command line that runs a command with a small /dev/shm.

    Root can usually mount one, and other users can mount one in a user namespace. Otherwise the test is skipped.
    """
    for options in ("-m", "-Urm"):
        start = ("unshare", options, "sh", "-c", SMALL_SHM, "sh")
        with suppress(OSError):
            if subprocess.run([*start, "true"], capture_output=True).returncode == 0:
                return start
    status = os.statvfs("/dev/shm")
    if status.f_blocks * status.f_frsize > SHM:
        pytest.skip(
            "/dev/shm is large, and this user may not mount a small one (root may, or user namespaces)"
        )
    return ()


@dataclass(frozen=True)
class Image:
    """The files that Binder would start: a checkout, a virtual environment and a home directory."""

    checkout: Path
    venv: Path
    home: Path

    def environment(self) -> dict[str, str]:
        """Return the environment of a user of the image, without this checkout and its tools."""
        kept = ("LANG", "LC_ALL", "CI_RUN_MARK", leaks.RUN_VARIABLE)
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PATH": os.pathsep.join([str(self.venv / "bin"), os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.home),
            "TMPDIR": tempfile.gettempdir(),
            "CPU_LIMIT": "1.0",
            "MEM_LIMIT": str(MEMORY),
        }

    def command(self, *command: str) -> tuple[list[str], dict[str, str]]:
        """Return (command line, environment) that runs a command through `start`, within the limits."""
        limits = (
            *small_shm(),
            *("taskset", "-c", str(min(os.sched_getaffinity(0)))),
            *("prlimit", f"--data={MEMORY}"),
        )
        return [*limits, str(self.checkout / "binder" / "start"), *command], self.environment()


def entries() -> list[Any]:
    """Return the dependencies of environment.yml: strings, and {"pip": strings}."""
    listed: list[Any] = yaml.safe_load((BINDER / "environment.yml").read_text())["dependencies"]
    return listed


def requirements() -> list[str]:
    """Return the pinned packages of environment.yml under their names on PyPI."""
    found = []
    for entry in entries():
        if isinstance(entry, dict):
            found += entry["pip"]
            continue
        parts = re.fullmatch(r"([\w-]+)(.*)", entry)
        assert parts is not None, entry
        name, versions = parts.groups()
        if (known := PYPI_NAMES.get(name, name)) is not None:
            found.append(known + versions)
    return found


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image once, which takes about a minute, and delete its 500 MB after the tests."""
    place = tmp_path_factory.mktemp("binder")
    try:
        yield build(place)
    finally:
        shutil.rmtree(place)


def build(place: Path) -> Image:
    """Build an image in a directory: the checkout, an environment with the pins, and the additions of postBuild."""
    image = Image(place / "checkout", place / "venv", place / "home")
    image.home.mkdir()
    image.checkout.mkdir()
    for name in COPIED:
        source, target = ROOT / name, image.checkout / name
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            )
        else:
            shutil.copy2(source, target)
    subprocess.run([sys.executable, "-m", "venv", str(image.venv)], check=True)
    install = [str(image.venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*install, "--disable-pip-version-check", *requirements()], check=True)
    # Install as the user of the image, but with the pip settings of this machine.
    environment = {**os.environ, "PATH": image.environment()["PATH"], "PIP_NO_COMPILE": "1"}
    environment.pop("PYTHONPATH", None)
    subprocess.run(
        [str(image.checkout / "binder" / "postBuild")], cwd=image.checkout, env=environment, check=True
    )
    return image


def memory() -> int:
    """Return the memory of all processes of this run, in bytes; shared memory counts once."""
    total = 0
    for process in leaks.processes():
        with suppress(OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            if found := re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE):
                total += int(found[1]) << 10
    return total


def test_all_packages_that_the_notebooks_need_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lab = {Requirement(need).name for need in project["optional-dependencies"]["lab"]}
    pinned = {need.name: need for need in map(Requirement, requirements())}
    assert lab <= set(pinned)
    assert all("<" in str(need.specifier) for need in pinned.values()), "a pin without an upper end"
    (python,) = (str(need) for need in entries() if str(need).startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(project["requires-python"])


def test_the_scripts_are_executable_and_stop_at_the_first_error() -> None:
    assert "\nset -ex\n" in (BINDER / "postBuild").read_text()
    assert (BINDER / "start").read_text().endswith('exec "$@"\n')
    assert [] == [name for name in ("postBuild", "start") if not os.access(BINDER / name, os.X_OK)]


def test_a_large_array_is_shared_on_one_cpu_and_a_small_shm(image: Image) -> None:
    line, environment = image.command("python", "-c", PROBE)
    with leaks.leakless():
        done = subprocess.run(
            line, env=environment, cwd=image.home, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sum"] == [100 * 1024 * 1024 / 8, False]
    assert Path(found["package"]).is_relative_to(image.venv)
    assert found["cpus"] == 1
    assert found["data"] == [MEMORY, MEMORY]
    assert found["resources"]["CPU"] == 2, "start says how many workers"
    assert found["resources"]["object_store_memory"] <= 0.3 * MEMORY
    assert found["shm"] <= SHM
    assert found["in_shm"] == []
    assert done.stderr.count("shared memory are free") == 1, done.stderr


def peak_of(line: list[str], environment: dict[str, str], cwd: Path, log: Path) -> int:
    """Run a command that must succeed, stay below `MEMORY`, and leave nothing; return its peak memory, in bytes."""
    others, peak = memory(), 0
    with leaks.leakless(), log.open("wb") as output:
        process = psutil.Popen(line, env=environment, cwd=cwd, stdout=output, stderr=output)
        deadline = time.monotonic() + 240
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, f"{line} takes too long"
                peak = max(peak, memory() - others)
                assert peak < MEMORY, f"{line} took {peak >> 20} MiB and was killed"
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                for child in [*process.children(recursive=True), process]:
                    with suppress(psutil.Error):
                        child.kill()
                process.wait()
    assert process.returncode == 0, log.read_text()
    return peak


def test_the_first_notebook_runs_within_a_gigabyte(image: Image, tmp_path: Path) -> None:
    convert = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path))
    line, environment = image.command(*convert, "notebooks/01_start.ipynb")
    peak = peak_of(line, environment, image.checkout, tmp_path / "log")
    book = nbformat.read(tmp_path / "01_start.ipynb", as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    tolerant = [cell for cell in cells if "raises-exception" not in cell.metadata.get("tags", ())]
    assert [] == [output for cell in tolerant for output in cell.outputs if output.output_type == "error"]
    shown = " ".join(
        str(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell.outputs
    )
    assert 'data-state="resolved"' in shown
    assert 'data-state="running"' not in shown
    assert peak > 100 << 20, f"{peak >> 20} MiB: that cannot be all of it"


def test_a_program_that_uses_more_than_a_gigabyte_is_killed(image: Image, tmp_path: Path) -> None:
    greedy = "import subprocess, sys\nhalf = 'x = b\"1\" * (600 << 20); import time; time.sleep(60)'\n"
    greedy += "[p.wait() for p in [subprocess.Popen([sys.executable, '-c', half]) for _ in range(2)]]"
    line, environment = image.command("python", "-c", greedy)
    with pytest.raises(AssertionError, match="was killed"):
        peak_of(line, environment, image.home, tmp_path / "log")


def test_no_process_can_have_more_than_a_gigabyte_even_for_a_moment(image: Image) -> None:
    line, environment = image.command("python", "-c", "bytearray(1100 << 20)")
    done = subprocess.run(line, env=environment, cwd=image.home, capture_output=True, text=True, timeout=60)
    assert done.stderr.rstrip().endswith("MemoryError")
