"""The names that a `%%remote` cell has in a worker besides those of Python."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

from ipyremote.remote_cells.cell import Cell, CellInputs, run_cell


def home() -> None:
    """Give its globals to the cell."""


def run(source: str, **names: Any) -> Any:
    place = FunctionType(home.__code__, {}, "home")
    return run_cell(Cell(source, "<cell>", "In [1]"), CellInputs(place, names), ())


@pytest.fixture(autouse=True)
def plain_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove IPython's names from the built-in names."""
    monkeypatch.delattr(builtins, "display", raising=False)
    yield
    assert not hasattr(builtins, "display")


def test_display_prints_in_a_process_that_is_no_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("display([1, 2], 'x', clear=True)\n3") == 3
    assert capsys.readouterr().out == "[1, 2]\n'x'\n"


def test_a_display_function_of_the_user_is_used() -> None:
    assert run("display(2)", display=lambda x: x + 1) == 3
