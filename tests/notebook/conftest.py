"""Fixtures of the notebook layer's tests: a shell in this process, and a notebook loaded into it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ipyremote.backend import current
from ipyremote.notebook.extension import Notebook
from tests.notebook.fakes import Clock, FakeBackend, FakeFrontend, ManualUpdater


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def updater(clock: Clock) -> ManualUpdater:
    return ManualUpdater(clock)


@pytest.fixture
def frontend() -> FakeFrontend:
    return FakeFrontend()


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def shell(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A new shell without a history."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=config)
    made.user_ns["__name__"] = "__main__"
    try:
        yield made
    finally:
        atexit.unregister(made.atexit_operations)
        made.restore_sys_module_state()
        InteractiveShell.clear_instance()


@pytest.fixture
def loaded(shell: InteractiveShell, frontend: FakeFrontend, backend: FakeBackend) -> Iterator[Notebook]:
    """The extension in the shell, with a fake front end and the fake backend."""
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    try:
        yield notebook
    finally:
        notebook.unload()
        current.remove(backend)
