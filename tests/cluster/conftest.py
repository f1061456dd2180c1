"""Fixtures of real clusters: each test has its own cluster, and must leave no process, file or segment behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipyremote as ray
from tests.support import leaks
from tests.support.waiting import until


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Start a cluster with these arguments of `init`; after the test everything is gone."""
    with leaks.leakless():
        yield lambda **options: ray.init(**options)
        ray.shutdown()


@pytest.fixture
def cluster(start: Callable[..., Any]) -> Any:
    """A cluster with two CPUs, which still works and has both of them free at the end of the test."""
    context = start(num_cpus=2, object_store_memory=256 << 20)
    yield context
    if ray.is_initialized():
        until(lambda: ray.available_resources().get("CPU") == 2.0, "both CPUs are free")
        assert ray.get(_again.remote(1), timeout=30) == 2


@ray.remote
def _again(value: int) -> int:
    return value + 1
