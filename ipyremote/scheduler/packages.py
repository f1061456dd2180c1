"""Installations of packages for environments: virtual environments in the user's cache directory, made once and kept.

    <cache>/environments/<digest>.lock     a lock: shared for processes that use the installation, exclusive for the one
                                           that makes or removes it
    <cache>/environments/<digest>/         a virtual environment, on top of the packages of this Python
        complete                           present in a whole installation; its time is the time of the last use

The digest covers everything that the result depends on: requirements, options, this Python, and the place of this
Python's packages.

Rules. An installation without the file `complete` was interrupted, and is made anew. An installation that nobody has
used for `UNUSED_SECONDS`, and that nobody uses now, is removed when another one is made. The scripts in a virtual
environment contain its path, so an installation is made in its final place and never renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple

from ipyremote import settings
from ipyremote.messages import Packages

__all__ = ["InstalledPackages", "SetupError", "Unwanted", "provide"]

#: Time without use after which an installation may be removed, in seconds.
UNUSED_SECONDS: Final = 30 * 24 * 3600
#: Time between two looks whether the installation is still wanted, the lock is free or the installer has ended, in
#: seconds.
_LOOK_SECONDS: Final = 0.02
#: Time that an installer may take to end after SIGTERM, in seconds.
_STOP_SECONDS: Final = 0.5
#: Number of last lines of an installer's output that go into an error, and length of each, in characters.
_LINES: Final = 20
_LINE_LENGTH: Final = 300
#: Name of the file that puts the packages of this Python on the installation's search path, behind its own packages.
_PARENT: Final = "_ipyremote_parent.pth"


class SetupError(Exception):
    """The installation failed. The message is for the user, and continues "could not be set up: ..."."""


class Unwanted(Exception):
    """The error of an installation that is stopped, because nobody needs it any more."""


class InstalledPackages(NamedTuple):
    """A whole installation, which is not removed while the descriptor `lock` is open."""

    #: Path of the Python to run.
    python: str
    #: Environment variables for the processes that use the installation.
    variables: Mapping[str, str]
    #: Descriptor of the shared lock.
    lock: int


def provide(
    packages: Packages, cache: Path, *, cwd: str, seconds: float, is_wanted: Callable[[], bool]
) -> InstalledPackages:
    """Return an installation of these packages, which is made if there is none. Prints what installers print.

    `cwd`: the directory that relative paths in requirements start from. `seconds`: the time limit; below 0: no limit.
    Raises SetupError, OSError, and Unwanted once `is_wanted()` is false.
    """
    deadline = time.monotonic() + seconds if seconds >= 0 else None
    work = _SetupRun(deadline, is_wanted, cwd)
    try:
        (cache / "environments").mkdir(mode=0o700, parents=True, exist_ok=True)
        home = cache / "environments" / _digest(packages)
        lock = os.open(home.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(
            f"the cache directory cannot be used: {error}. XDG_CACHE_HOME names another one"
        ) from error
    try:
        while True:
            work.lock(lock, fcntl.LOCK_SH)
            if _is_whole(home):
                break
            # Another process may have made the installation before this process got the exclusive lock.
            work.lock(lock, fcntl.LOCK_EX)
            if not _is_whole(home):
                _make(packages, home, work)
                _prune(home)
    except BaseException:
        os.close(lock)
        raise
    os.utime(home / "complete")
    python = home / "bin" / "python"
    path = os.pathsep.join(filter(None, (str(home / "bin"), settings.search_path())))
    return InstalledPackages(str(python), {"VIRTUAL_ENV": str(home), "PATH": path}, lock)


class _SetupRun:
    """The slow steps of an installation, which end early when the time is over or nobody wants the installation."""

    def __init__(self, deadline: float | None, is_wanted: Callable[[], bool], cwd: str) -> None:
        self._deadline = deadline
        self._is_wanted = is_wanted
        self._cwd = cwd

    def _look(self, what: str) -> None:
        if not self._is_wanted():
            raise Unwanted
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise SetupError(
                f"{what} took too long; runtime_env['config'] can give it more (setup_timeout_seconds)"
            )

    def lock(self, fd: int, how: int) -> None:
        """Wait for a lock. `how` is LOCK_SH or LOCK_EX."""
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                return
            self._look("waiting for another program that installs the same")
            time.sleep(_LOOK_SECONDS)

    def run(self, *words: str) -> None:
        """Run an installer. Raises SetupError with the end of its output when it fails."""
        name = _name_of(words)
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                # The installer asks no questions, and installs nowhere but in the virtual environment.
                env=settings.environment_with({"PIP_USER": "0", "PIP_NO_INPUT": "1", "PYTHONSAFEPATH": "1"}),
            )
            try:
                while process.poll() is None:
                    self._look(name)
                    time.sleep(_LOOK_SECONDS)
            except BaseException:
                _stop(process)
                raise
            finally:
                _pass_on(output)
            if process.returncode:
                raise SetupError(
                    f"{name} ended with exit code {process.returncode}. The end of its output:\n{_end_of(output)}"
                )


def _make(packages: Packages, home: Path, work: _SetupRun) -> None:
    shutil.rmtree(home, ignore_errors=True)
    try:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(home)
        _show_parent(home)
        requirements = home / "requirements.txt"
        requirements.write_text("\n".join((*packages.requirements, "")), encoding="utf-8")
        python = str(home / "bin" / "python")
        if packages.installer == "uv":
            _install_with_uv(packages, python, str(requirements), work)
        else:
            _install_with_pip(packages, python, str(requirements), work)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    (home / "complete").touch()


def _install_with_pip(packages: Packages, python: str, requirements: str, work: _SetupRun) -> None:
    pip = (python, "-m", "pip")
    install = (*pip, "install", "--disable-pip-version-check", "--no-warn-script-location")
    if importlib.util.find_spec("pip") is None:
        work.run(python, "-m", "ensurepip")
    if packages.version:
        work.run(*install, f"pip{packages.version}")
    work.run(*install, *packages.options, "-r", requirements)
    if packages.check:
        work.run(*pip, "check", "--disable-pip-version-check")


def _install_with_uv(packages: Packages, python: str, requirements: str, work: _SetupRun) -> None:
    uv = _uv()
    if packages.version:
        work.run(*_pip_of_uv(uv, "install", python), f"uv{packages.version}")
        uv = str(Path(python).parent / "uv")
    work.run(*_pip_of_uv(uv, "install", python), *packages.options, "-r", requirements)
    if packages.check:
        work.run(*_pip_of_uv(uv, "check", python))


def _pip_of_uv(uv: str, what: str, python: str) -> tuple[str, ...]:
    return (uv, "pip", what, "--python", python)


def _uv() -> str:
    """Return the path of the uv beside this Python, or else of one on the search path."""
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv", path=settings.search_path())
    if found is None:
        raise SetupError(
            "there is no uv on this machine. Install it (pip install uv), or give the packages as runtime_env['pip']"
        )
    return found


def _show_parent(home: Path) -> None:
    """Put the packages of this Python on the installation's search path, behind the installation's own packages."""
    parents = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    for site in home.glob("lib/python*/site-packages"):
        lines = [f"import site; site.addsitedir({path!r})" for path in parents]
        (site / _PARENT).write_text("\n".join((*lines, "")), encoding="utf-8")


def _is_whole(home: Path) -> bool:
    return (home / "complete").exists()


def _digest(packages: Packages) -> str:
    python = (sys.implementation.cache_tag, sys.version, sys.prefix, sys.base_prefix)
    return hashlib.blake2b(repr((packages, python)).encode(), digest_size=12).hexdigest()


def _prune(made: Path) -> None:
    """Remove the installations, except `made`, that nobody has used for long."""
    for lock in _locks(made.parent):
        home = lock.with_suffix("")
        with contextlib.suppress(OSError):
            if home == made or time.time() - (home / "complete").stat().st_mtime < UNUSED_SECONDS:
                continue
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (home / "complete").unlink()
                shutil.rmtree(home)
            finally:
                os.close(fd)


def _locks(directory: Path) -> Iterator[Path]:
    return directory.glob("*.lock")


def _name_of(words: tuple[str, ...]) -> str:
    """Return the name that people have for the installer in a command line."""
    return words[2] if words[1] == "-m" else os.path.basename(words[0])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End an installer.

    Ends the installer's own children as well if this process leads the process group that they belong to.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    process.terminate()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    signal.signal(signal.SIGTERM, before)


def _pass_on(output: IO[bytes]) -> None:
    """Copy an installer's output into this process's log."""
    output.seek(0)
    shutil.copyfileobj(output, sys.stdout.buffer)
    sys.stdout.flush()


def _end_of(output: IO[bytes]) -> str:
    output.seek(0)
    lines = [line.rstrip()[:_LINE_LENGTH] for line in output.read().decode("utf-8", "replace").splitlines()]
    return "\n".join(f"    {line}" for line in [line for line in lines if line][-_LINES:])
