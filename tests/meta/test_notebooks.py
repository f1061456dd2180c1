"""The notebooks in the repository: valid, run to the end, small, and without traces of the machine that ran them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat

from tests.support.sources import ROOT

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS: dict[str, Any] = {path.name: nbformat.read(path, as_version=4) for path in PATHS}
TEXTS = {path.name: path.read_text() for path in PATHS}
NAMES = list(NOTEBOOKS)
WIDGET = "application/vnd.jupyter.widget-view+json"


def cells(name: str, kind: str) -> list[Any]:
    """Return the cells of a notebook that are of one type."""
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == kind]


def test_the_repository_has_notebooks() -> None:
    assert NAMES[:1] == ["01_start.ipynb"]


def test_each_notebook_is_valid_and_small() -> None:
    for notebook in NOTEBOOKS.values():
        nbformat.validate(notebook)
    assert [] == [path.name for path in PATHS if path.stat().st_size >= 500_000]


def test_each_notebook_was_run_from_top_to_bottom() -> None:
    counts = {name: [cell.execution_count for cell in cells(name, "code")] for name in NAMES}
    assert {name: list(range(1, len(found) + 1)) for name, found in counts.items()} == counts


def test_saved_notebooks_have_only_the_last_static_view_of_widgets() -> None:
    outputs = [(name, output) for name in NAMES for cell in cells(name, "code") for output in cell.outputs]
    assert [] == [name for name, output in outputs if WIDGET in output.get("data", {})]
    assert [] == [name for name in NAMES if "widgets" in NOTEBOOKS[name].metadata]


def test_links_to_notebooks_and_files_lead_to_existing_files() -> None:
    targets = [
        (name, target)
        for name in NAMES
        for target in re.findall(
            r"\]\(([^)#\s]+)[^)]*\)", "\n".join(cell.source for cell in cells(name, "markdown"))
        )
        if "://" not in target
    ]
    assert [] == [(name, target) for name, target in targets if not (ROOT / "notebooks" / target).exists()]


def test_each_notebook_links_to_the_next_notebook() -> None:
    last = {name: cells(name, "markdown")[-1].source for name in NAMES}
    assert [] == [
        (name, following) for name, following in pairwise(NAMES) if f"]({following})" not in last[name]
    ]


def test_each_notebook_ends_with_a_shutdown() -> None:
    assert [] == [name for name in NAMES if NOTEBOOKS[name].cells[-1].source != "ray.shutdown()"]


def test_no_notebook_shows_traces_of_its_machine() -> None:
    private = re.compile(r"/(?:home|root|tmp|work|Users)/\w+|pid[= ]\d+|" + re.escape(f"{Path.home()}/"))
    found = {name: private.findall(text) for name, text in TEXTS.items()}
    assert {} == {name: texts for name, texts in found.items() if texts}
