"""Faults of the machine, on real clusters. The longer ones run only when they are asked for: `pytest -m chaos`."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import cluster, start

__all__ = ["cluster", "start"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the longer ones out, unless the user's `-m` speaks about them."""
    if "chaos" in config.option.markexpr:
        return
    longer = [item for item in items if item.get_closest_marker("chaos")]
    if longer:
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in longer]
