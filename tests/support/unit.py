"""The fast loop: the rule for unit tests, and the guard that keeps unit tests from starting a process.

A test is a unit test unless it is in one of `FOLDERS`, uses one of `FIXTURES`, is the case `local` of a test for
several backends, or has the marker `processes`. The marker `unit` is set by this rule and never by hand. A unit test
that starts a process fails with a text that says which fixture or marker to use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.sources import ROOT

__all__ = ["FIXTURES", "FOLDERS", "confine", "is_unit"]

#: Folders in which each test starts processes.
FOLDERS = {"binder", "browser", "chaos", "cluster", "differential"}
#: Fixtures that start processes.
FIXTURES = {"cluster", "leakless", "start"}
#: Audit events of the start of a process by `subprocess`, `os` or a shell.
EVENTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen"}

#: Running unit tests, innermost last, each with the audit events of processes that the test started nevertheless.
_confined: list[tuple[str, list[str]]] = []
_installed = False


def is_unit(item: pytest.Item) -> bool:
    """Return whether a test needs neither a process nor a browser."""
    if ROOT / "tests" not in item.path.parents or item.get_closest_marker("processes"):
        return False
    if item.path.relative_to(ROOT / "tests").parts[0] in FOLDERS:
        return False
    if FIXTURES & set(getattr(item, "fixturenames", ())):
        return False
    params = getattr(getattr(item, "callspec", None), "params", {})
    return not any(isinstance(value, str) and value == "local" for value in params.values())


@contextmanager
def confine(name: str) -> Iterator[None]:
    """Fail the test with this name if it starts a process."""
    global _installed
    if not _installed:
        # The hook stays installed, because Python cannot remove an audit hook.
        sys.addaudithook(_watch)
        _installed = True
    started: list[str] = []
    _confined.append((name, started))
    try:
        yield
    finally:
        _confined.pop()
    if started:
        pytest.fail(
            f"a unit test starts no process, and this one did: {', '.join(started)}. "
            "Use the fixture `cluster` or `start`, or mark the test `processes`.",
            pytrace=False,
        )


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _confined and event in EVENTS:
        name, started = _confined[-1]
        started.append(event)
        raise RuntimeError(f"{name} is a unit test and starts a process ({event})")
