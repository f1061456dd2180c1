"""Generators of refs in a notebook: they are displayed like the refs of their tasks, at once."""

from __future__ import annotations

from typing import Any

import pytest

import ipyremote
from ipyremote.notebook import extension
from ipyremote.notebook.extension import Notebook
from ipyremote.streams import ObjectRefGenerator
from tests.notebook.fakes import FakeBackend, FakeFrontend, ManualUpdater


class HoldingBackend(FakeBackend):
    """A backend whose refs can be copied."""

    def hold(self, any_id: int) -> None:
        """Do nothing: holds are not counted here."""


@pytest.fixture
def backend() -> FakeBackend:
    return HoldingBackend()


def generator(backend: FakeBackend, name: str) -> ObjectRefGenerator[Any]:
    ref = backend.new_ref(name)
    return ObjectRefGenerator(ref._id, backend, ref._label)


def test_a_shown_generator_follows_its_task(
    loaded: Notebook, shell: Any, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    gen = generator(backend, "count")
    shell.display_formatter.format(gen)
    bundle = frontend.displays[-1][1]
    assert bundle["text/plain"] == "ObjectRefGenerator(count#1)"
    assert "count#1" in bundle["text/html"]


def test_progress_takes_generators(
    loaded: Notebook, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension._Loaded, "notebook", loaded)
    ipyremote.progress(generator(backend, "count"))
    ipyremote.progress([generator(backend, "one"), backend.new_ref()])
    assert "2 refs" in loaded.frontend.displays[-1][1]["text/html"]  # type: ignore[attr-defined]


def test_a_generator_of_an_ended_session_is_text(loaded: Notebook, shell: Any, backend: FakeBackend) -> None:
    gen = generator(FakeBackend(), "count")
    data, _ = shell.display_formatter.format(gen)
    assert data["text/plain"] == "ObjectRefGenerator(count#1)"
