"""One suite for every backend: a test sees only the public API and a session that runs on the backend of the moment.

What a backend cannot do (nothing runs in parallel inline, and nothing can be killed there) is in `test_processes.py`,
which names the backends that can. Functions are defined inside the tests, so that they travel by value.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ipyremote


@pytest.fixture(params=["inline", "local"], scope="module")
def backend_name(request: pytest.FixtureRequest) -> str:
    """The backend that the tests run on."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def _session(backend_name: str) -> Iterator[None]:
    ipyremote.shutdown()
    ipyremote.init(backend=backend_name, num_cpus=2, num_gpus=1, resources={"widget": 2})
    yield
    ipyremote.shutdown()


@pytest.fixture(autouse=True)
def session(_session: None) -> None:
    """A running session with two CPUs, one GPU and two widgets."""
