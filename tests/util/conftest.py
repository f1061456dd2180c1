"""Fixtures of real clusters, as for tests/cluster: each test has its own cluster and must leave nothing behind."""

from __future__ import annotations

from tests.cluster.conftest import cluster, start

__all__ = ["cluster", "start"]
