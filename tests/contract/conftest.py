"""One suite for every engine: a test sees only the public API and a session that runs on the engine under test.

A test of a feature that not every engine has is marked `@pytest.mark.needs("parallel_tasks")`, with names of fields of
`Capabilities`. Such a test is skipped, with the engine's own sentence, on an engine whose capabilities lack the
feature; there is no other reason to skip (`tests/engines/test_contract_suite.py` checks this). Functions are defined
inside the tests, so that they travel by value.
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
    """The number of objects that the session keeps. Engines that cannot count their objects skip such a test."""
    count = ENGINES[engine_name].count_objects
    assert count is not None, "such a test needs `insight`, and is skipped on engines without"
    return KeptObjects(count)


# ------------------------------------------------------------------------------------- the tests of each engine


def _sentence(item: pytest.Item) -> str:
    """Return the engine's sentence about a feature that the test needs and the engine lacks; empty if there is none."""
    params: dict[str, Any] = item.callspec.params  # every test here has the engine
    contestant = ENGINES[params["engine_name"]]
    capabilities = contestant.engine.capabilities
    needs = [feature for mark in item.iter_markers("needs") for feature in mark.args]
    if "objects" in item.fixturenames and contestant.count_objects is None:
        needs.append("insight")
    return next(filter(None, map(capabilities.lacks, needs)), "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test whose features the engine lacks."""
    for item in items:
        if HERE in item.path.parents and (sentence := _sentence(item)):
            item.add_marker(pytest.mark.lacks)
            item.add_marker(pytest.mark.skip(reason=sentence))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write which engine runs which tests to a file, for `tests/engines/test_contract_suite.py`."""
    if path := os.environ.get("CONTRACT_PLAN"):
        plan = [
            {
                "test": item.nodeid,
                "engine": item.callspec.params["engine_name"],
                "needs": [feature for mark in item.iter_markers("needs") for feature in mark.args],
                "counts": "objects" in item.fixturenames,
                "skips": [mark.kwargs["reason"] for mark in item.iter_markers("skip")],
                "conditions": [mark.name for mark in item.iter_markers() if mark.name in ("skipif", "xfail")],
            }
            for item in session.items
        ]
        Path(path).write_text(json.dumps(plan))
