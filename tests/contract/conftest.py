"""One suite for every engine: a test sees only the public API and a session that runs on the engine of the moment.

A test that needs what not every engine has says so by `@pytest.mark.needs("parallel_tasks")`, with the names of fields
of `Capabilities`. It is skipped for an engine whose capabilities say that the engine cannot, with the engine's own
sentence, and for nothing else (`test_engines.py` sees to that). Functions are defined inside the tests, so that they
travel by value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ipyremote
from ipyremote.backend import registry
from tests.contract.engines import ENGINES, KeptObjects

HERE = Path(__file__).parent


@pytest.fixture(params=list(ENGINES), scope="module")
def engine_name(request: pytest.FixtureRequest) -> str:
    """The engine that the tests run on, as `init(backend=...)` takes its name."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def begin_session(engine_name: str) -> Callable[[], None]:
    """Start a session with two CPUs, one GPU and two widgets."""

    def begin() -> None:
        ipyremote.init(backend=engine_name, num_cpus=2, num_gpus=1, resources={"widget": 2})

    return begin


@pytest.fixture(scope="module")
def _session(engine_name: str, begin_session: Callable[[], None]) -> Iterator[None]:
    ipyremote.shutdown()
    contestant = ENGINES[engine_name]
    if contestant.is_guest:
        registry.register(engine_name, contestant.engine)
    begin_session()
    yield
    ipyremote.shutdown()
    if contestant.is_guest:
        registry.unregister(engine_name)


@pytest.fixture(autouse=True)
def session(_session: None) -> None:
    """A running session with two CPUs, one GPU and two widgets."""


@pytest.fixture
def objects(engine_name: str) -> KeptObjects:
    """The number of objects that the session keeps; a test that asks needs `insight` where there is no other way."""
    count = ENGINES[engine_name].count_objects
    assert count is not None, "such a test needs `insight`, and is skipped where there is none"
    return KeptObjects(count)


# ----------------------------------------------------------------------------------- which tests an engine runs


def _sentence(item: pytest.Item) -> str:
    """Return why a test's engine cannot do what the test needs, in the engine's words; empty where the engine can."""
    params: dict[str, Any] = item.callspec.params  # type: ignore[attr-defined]  # every test here has the engine
    contestant = ENGINES[params["engine_name"]]
    capabilities = contestant.engine.capabilities
    needs = [feature for mark in item.iter_markers("needs") for feature in mark.args]
    if "objects" in item.fixturenames and contestant.count_objects is None:  # type: ignore[attr-defined]
        needs.append("insight")
    return next(filter(None, map(capabilities.lacks, needs)), "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what an engine says that it cannot."""
    for item in items:
        if HERE in item.path.parents and (sentence := _sentence(item)):
            item.add_marker(pytest.mark.lacks)
            item.add_marker(pytest.mark.skip(reason=sentence))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down which engine runs which tests, for the test that looks after the suite."""
    if path := os.environ.get("CONTRACT_PLAN"):
        plan = [
            {
                "test": item.nodeid,
                "engine": item.callspec.params["engine_name"],  # type: ignore[attr-defined]
                "needs": [feature for mark in item.iter_markers("needs") for feature in mark.args],
                "counts": "objects" in item.fixturenames,  # type: ignore[attr-defined]
                "skips": [mark.kwargs["reason"] for mark in item.iter_markers("skip")],
                "conditions": [mark.name for mark in item.iter_markers() if mark.name in ("skipif", "xfail")],
            }
            for item in session.items
        ]
        Path(path).write_text(json.dumps(plan))
