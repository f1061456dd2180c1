"""Fixtures of displays: a screen that shows what the fake backend says, and the widgets that it has made."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote.notebook.display.screen import Screen
from tests.notebook.fakes import Clock, FakeBackend, FakeFrontend, FakeWidget, ManualUpdater, Reports


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch) -> list[FakeWidget]:
    made: list[FakeWidget] = []
    monkeypatch.setattr(FakeWidget, "made", made, raising=False)
    return made


@pytest.fixture
def screen(
    frontend: FakeFrontend,
    updater: ManualUpdater,
    clock: Clock,
    backend: FakeBackend,
    widgets: list[FakeWidget],
) -> Screen:
    made: Any = FakeWidget
    screen = Screen(frontend, updater, lambda: {"cell": "latest"}, make_widget=made, clock=clock)
    backend.listen(Reports(backend, screen))
    return screen
