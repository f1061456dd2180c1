"""Fixtures of the tests of output and displays: a clock that stands still, and a record of reports."""

from __future__ import annotations

import pytest

from ipyremote.remote_cells import rate_limit
from tests.remote_cells.capture import Clock, Recorder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limit, "time", clock)
    return clock


@pytest.fixture
def recorder(clock: Clock) -> Recorder:
    return Recorder()
