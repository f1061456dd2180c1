"""The notebooks in the repository: valid, run to the end, small, and without anything of the machine that ran them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.support.sources import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS][:1] == ["01_start.ipynb"]


def markdown(path: Path) -> list[str]:
    """The cells that are read, not run."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
class TestNotebook:
    def test_is_valid_and_small(self, path: Path) -> None:
        nbformat.validate(nbformat.read(path, as_version=4))
        assert path.stat().st_size < 500_000

    def test_was_run_from_top_to_bottom(self, path: Path) -> None:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert list(range(1, len(cells) + 1)) == [cell.execution_count for cell in cells]

    def test_keeps_no_widget_but_what_it_showed_at_last(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert [] == [output for output in outputs if WIDGET in output.get("data", {})]
        assert "widgets" not in notebook.metadata

    def test_links_to_notebooks_and_files_lead_somewhere(self, path: Path) -> None:
        text = "\n".join(markdown(path))
        targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        assert [] == [name for name in targets if "://" not in name and not (path.parent / name).exists()]

    def test_leads_to_the_next_one(self, path: Path) -> None:
        following = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :][:1]
        assert [] == [other.name for other in following if f"]({other.name})" not in markdown(path)[-1]]

    def test_ends_with_the_end_of_the_cluster(self, path: Path) -> None:
        assert nbformat.read(path, as_version=4).cells[-1].source == "ray.shutdown()"

    def test_shows_nothing_of_the_machine(self, path: Path) -> None:
        text = path.read_text()
        assert re.findall(r"/(?:home|root|tmp|work|Users)/\w+|pid[= ]\d+", text) == []
        assert str(Path.home()) + "/" not in text
