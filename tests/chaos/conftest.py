"""Faults of the machine on real clusters. The longer tests run only on request, with `pytest -m chaos`."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import cluster, start

__all__ = ["cluster", "start"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the longer tests, unless the user's `-m` mentions them."""
    if "chaos" in config.option.markexpr:
        return
    longer = [item for item in items if item.get_closest_marker("chaos")]
    if longer:
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in longer]
