"""Hooks on imports: each is called once, right after the module's code ran, and never makes the import fail."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ipyremote.remote_cells import import_hooks
from ipyremote.remote_cells.import_hooks import after_import


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hooks that only this test uses."""
    monkeypatch.setattr(import_hooks, "_hooks", import_hooks._Hooks())
    yield
    if import_hooks._hooks in sys.meta_path:
        sys.meta_path.remove(import_hooks._hooks)


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: None) -> Iterator[str]:
    """A module that can be imported."""
    name = "hooked_module"
    (tmp_path / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_hook_is_called_once_and_before_the_importer_goes_on(name: str) -> None:
    seen: list[int] = []

    def hook(module: ModuleType) -> None:
        seen.append(module.x)
        module.x = 2  # type: ignore[attr-defined]

    after_import(name, hook)
    module = importlib.import_module(name)
    assert (module.x, seen) == (2, [1])
    importlib.reload(module)
    assert (module.x, seen) == (1, [1])


def test_the_hook_of_an_imported_module_is_called_at_once(name: str) -> None:
    module = importlib.import_module(name)
    seen: list[ModuleType] = []
    after_import(name, seen.append)
    assert seen == [module]


def test_a_hook_that_fails_does_not_fail_the_import(name: str) -> None:
    after_import(name, lambda module: 1 / 0)
    assert importlib.import_module(name).x == 1


def test_the_import_of_a_missing_module_fails_in_spite_of_a_hook(hooks: None) -> None:
    after_import("no_such_module_at_all", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_at_all")
