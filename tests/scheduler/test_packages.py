"""Installations in the cache: made once, never taken when they were interrupted, removed when nobody uses them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ipyremote.messages import Packages
from ipyremote.scheduler import packages
from ipyremote.scheduler.packages import InstalledPackages, SetupError, Unwanted, provide
from tests.support.packages import make_wheel

pytestmark = pytest.mark.processes


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "tiny", "1.0")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def wanted(*requirements: str, **more: object) -> Packages:
    return Packages("pip", ("--no-index", *requirements), **more)  # type: ignore[arg-type]


def make(wanted: Packages, cache: Path, seconds: float = 60.0) -> InstalledPackages:
    return provide(wanted, cache, cwd="/", seconds=seconds, is_wanted=lambda: True)


def home_of(made: InstalledPackages) -> Path:
    return Path(made.python).parents[1]


def test_an_installation_is_a_python_with_its_own_packages_and_those_of_this_python(
    wheel: Path, cache: Path
) -> None:
    made = make(wanted(str(wheel)), cache)
    program = "import sys, tiny, msgspec; print(tiny.VERSION, sys.prefix)"
    said = subprocess.run([made.python, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1.0", str(home_of(made))]
    assert made.variables["PATH"].startswith(f"{home_of(made)}/bin{os.pathsep}")
    assert made.variables["VIRTUAL_ENV"] == str(home_of(made))
    os.close(made.lock)


def test_an_installation_is_made_once_and_made_anew_when_it_is_not_whole(wheel: Path, cache: Path) -> None:
    made = make(wanted(str(wheel)), cache)
    mark = home_of(made) / "mark"
    mark.touch()
    os.close(made.lock)
    again = make(wanted(str(wheel)), cache)
    assert again.python == made.python
    assert mark.exists()
    os.close(again.lock)
    # As if the power had failed.
    (home_of(made) / "complete").unlink()
    anew = make(wanted(str(wheel)), cache)
    assert anew.python == made.python
    assert not mark.exists()
    os.close(anew.lock)
    other = make(wanted(str(wheel), fingerprints=("changed",)), cache)
    assert other.python != made.python
    os.close(other.lock)


def test_processes_that_want_the_same_installation_at_the_same_time_share_it(
    wheel: Path, cache: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from ipyremote.messages import Packages\n"
        "from ipyremote.scheduler.packages import provide\n"
        "made = provide(Packages('pip', ('--no-index', sys.argv[1])), Path(sys.argv[2]), cwd='/', seconds=60,"
        " is_wanted=lambda: True)\n"
        "print(made.python, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, str(wheel), str(cache)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    found = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], found
    assert len({said for _, said in found}) == 1
    # One of them has installed it.
    assert sum("Successfully installed tiny" in output for output, _ in found) == 1


def test_a_failed_installation_gives_the_end_of_its_output_and_leaves_no_files(cache: Path) -> None:
    with pytest.raises(SetupError, match=r"pip ended with exit code 1\. The end of its output:\n") as caught:
        make(wanted("no-such-package-anywhere"), cache)
    assert "No matching distribution found for no-such-package-anywhere" in str(caught.value)
    assert [path.suffix for path in (cache / "environments").iterdir()] == [".lock"]


def test_the_error_names_a_cache_directory_that_cannot_be_used(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="XDG_CACHE_HOME"):
        make(wanted(str(wheel)), tmp_path / "file")


def test_a_wait_for_the_same_installation_ends_when_the_time_is_over_or_nobody_wants_it(
    wheel: Path, cache: Path
) -> None:
    home = home_of(made := make(wanted(str(wheel)), cache))
    os.close(made.lock)
    (home / "complete").unlink()
    lock = os.open(home.with_suffix(".lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(SetupError, match="another program that installs the same took too long"):
            make(wanted(str(wheel)), cache, seconds=0.1)
        with pytest.raises(Unwanted):
            provide(wanted(str(wheel)), cache, cwd="/", seconds=-1, is_wanted=lambda: False)
    finally:
        os.close(lock)


def test_a_check_finds_packages_that_do_not_fit_together(tmp_path: Path, cache: Path) -> None:
    wheel = make_wheel(tmp_path, "picky", "1.0", requires="no-such-package-anywhere")
    options = ("--no-deps",)
    os.close(make(wanted(str(wheel), options=options), cache).lock)
    with pytest.raises(SetupError, match="no-such-package-anywhere, which is not installed"):
        make(wanted(str(wheel), options=options, check=True), cache)


def test_an_installation_that_nobody_has_used_for_long_goes_when_another_is_made(
    tmp_path: Path, wheel: Path, cache: Path
) -> None:
    unused, used, fresh = (make(wanted(str(wheel), fingerprints=(name,)), cache) for name in "abc")
    long_ago = time.time() - packages.UNUSED_SECONDS - 1
    for made in (unused, used):
        os.utime(home_of(made) / "complete", (long_ago, long_ago))
    os.close(unused.lock)
    os.close(fresh.lock)
    os.close(make(wanted(str(wheel), fingerprints=("d",)), cache).lock)
    assert not home_of(unused).exists()
    assert home_of(used).exists()
    assert home_of(fresh).exists()
    os.close(used.lock)


def test_without_uv_the_error_says_how_to_get_uv(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SetupError, match="pip install uv"):
        packages._uv()


def test_uv_installs_the_same_packages_as_pip_would(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: Path
) -> None:
    """A program in the place of uv writes down its command lines."""
    calls = tmp_path / "calls"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(packages, "_uv", lambda: str(uv))
    made = make(Packages("uv", ("tiny",), ("--no-index",), check=True), cache)
    home = home_of(made)
    assert calls.read_text().splitlines() == [
        f"pip install --python {made.python} --no-index -r {home}/requirements.txt",
        f"pip check --python {made.python}",
    ]
    os.close(made.lock)


def test_an_installer_that_is_not_wanted_any_more_is_stopped(tmp_path: Path, cache: Path) -> None:
    stopped = threading.Event()
    work = packages._SetupRun(None, lambda: not stopped.is_set(), "/")
    threading.Timer(0.3, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(Unwanted):
        work.run("sleep", "60")
    assert time.monotonic() - began < 5
