"""Tests of the harness of the browser tests, with notebooks that do not use ipyremote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import Lab, notebook

SLEEPER = """
import time
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""
MARKUP = """
from IPython.display import HTML, display
display(HTML('<b class="ipyremote-ref" data-state="resolved">x</b>'))
"""


@pytest.fixture
def trivial(tmp_path: Path) -> Path:
    return notebook(tmp_path / "trivial.ipynb", ["print('hello', 1 + 1)", SLEEPER, MARKUP])


def test_the_harness_runs_a_cell_and_reads_its_output(lab: Lab, trivial: Path) -> None:
    lab.open(trivial)
    lab.run(0)
    assert lab.text(0).strip() == "hello 2"
    lab.run(2)
    assert lab.refs(2).count() == lab.refs(2, "resolved").count() == 1
    assert lab.refs(2, "pending").count() == 0


def test_the_stop_button_stops_a_cell_and_other_cells_run(lab: Lab, trivial: Path) -> None:
    lab.open(trivial)
    lab.run_all(wait=False)
    lab.wait_text(0, "hello")
    lab.interrupt()
    lab.wait_run()
    assert lab.text(1).strip() == "stopped"


def test_a_saved_notebook_shows_its_outputs_when_opened_again(lab: Lab, trivial: Path) -> None:
    lab.open(trivial)
    lab.run(0)
    saved = lab.save()
    assert saved.cells[0].outputs[0].text == "hello 2\n"
    lab.reopen()
    assert lab.text(0).strip() == "hello 2"


def test_a_restart_of_the_kernel_clears_its_variables(lab: Lab, tmp_path: Path) -> None:
    lab.open(notebook(tmp_path / "memory.ipynb", ["known = 1", "print('known' in globals())"]))
    lab.run(0)
    lab.restart()
    lab.run(1)
    assert lab.text(1).strip() == "False"


def test_the_harness_reads_tracebacks(lab: Lab, tmp_path: Path) -> None:
    lab.open(notebook(tmp_path / "wrong.ipynb", ["1 / 0"]))
    assert lab.errors() == []
    lab.run(0)
    assert ["ZeroDivisionError" in text for text in lab.errors()] == [True]


def test_the_harness_takes_a_screenshot(lab: Lab, trivial: Path) -> None:
    lab.open(trivial)
    picture = lab.screenshot("harness")
    try:
        assert picture.read_bytes().startswith(b"\x89PNG")
    finally:
        picture.unlink()
