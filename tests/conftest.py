"""Setup of all tests: a clean environment, Hypothesis profiles, the leak check, and no silent skips in CI."""

from __future__ import annotations

import builtins
import gc
import os
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from typing import Any

import hypothesis
import pytest

from tests.support import leaks
from tests.support.unit import confine, is_unit

#: Whether the tests run in CI (`.ci/run` or hosted CI), where a skipped test is a failure.
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
#: Markers of tests that may be skipped in CI, because fresh machines or some engines lack a requirement of the tests.
OPTIONAL = ("lacks", "optional_peer", "ray_differential")

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=5_000, stateful_step_count=200)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """Remove the shell's own settings, which must not change tests, and mark the processes of this test run."""
    for name in [name for name in os.environ if name.startswith("IPYREMOTE_")]:
        del os.environ[name]
    leaks.mark_run()
    if config.option.markexpr == "unit" and not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("quick")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude the collected tests from garbage collection, because each leak check collects garbage twice."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the unit tests, before `-m` selects tests."""
    for item in items:
        if is_unit(item):
            item.add_marker("unit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Keep the fixtures of a unit test from starting a process."""
    with confine(item.nodeid) if item.get_closest_marker("unit") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Keep a unit test from starting a process."""
    with confine(item.nodeid) if item.get_closest_marker("unit") else nullcontext():
        return (yield)


@pytest.fixture
def leakless() -> Iterator[leaks.Snapshot]:
    """Fail the test if it leaves a process, session directory, descriptor or thread behind."""
    with leaks.leakless() as before:
        yield before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skipped test as a failure in CI, unless the test has an optional marker."""
    report = yield
    optional = any(item.get_closest_marker(name) for name in OPTIONAL)
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not optional:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Report a module that skips itself as a failure in CI."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture(autouse=True)
def _no_last_value() -> Iterator[None]:
    """Remove the `_` that a doctest leaves in `builtins`, with which IPython would not set its own `_`."""
    yield
    vars(builtins).pop("_", None)
