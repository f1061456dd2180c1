"""Boards, buttons, progress bars and the dashboard in JupyterLab, as users see them."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.clusters import shown
from tests.browser.lab import Lab
from tests.support.waiting import until

QUICK = """
@ipyremote.remote
def quick(number):
    if number % 1000 == 7:
        raise ValueError(number)
    return number
"""
BARS = """
from tqdm import tqdm
@ipyremote.remote
def bars(gate):
    for epoch in tqdm(range(4), desc='epochs'):
        for batch in tqdm(range(5), desc='batches'):
            print('batch', epoch, batch)
            time.sleep(0.03)
        while epoch == 2 and not os.path.exists(gate):
            time.sleep(0.02)
"""
FRAMES = """() => new Promise((done) => {
  const times = [];
  const step = (now) => {
    times.push(now);
    if (now - times[0] < 2000) requestAnimationFrame(step);
    else done(times.length / 2);
  };
  requestAnimationFrame(step);
})"""


def test_a_board_of_ten_thousand_refs_stays_smooth_and_its_cells_open(lab: Lab, tmp_path: Path) -> None:
    shown(lab, tmp_path, QUICK, "refs = [quick.remote(number) for number in range(10_000)]\nrefs")
    lab.run(3)
    lab.run(4, wait=False)
    grid = lab.output(4).locator("canvas.ipyremote-grid")
    expect(grid).to_have_count(1)
    assert lab.page.evaluate(FRAMES) >= 20
    lab.wait_text(4, "9990 resolved, 10 failed", within=60)
    expect(lab.output(4).locator(".ipyremote-board")).to_contain_text("ValueError: 7")
    until(lambda: lab.output(4).locator(".ipyremote-board[data-view]").count() == 0, "the view is closed", 10)
    expect(grid).to_have_count(1)
    grid.click(position={"x": 3, "y": 3})
    opened = lab.output(4).locator(".ipyremote-opened")
    expect(opened).to_contain_text("quick#1")
    expect(opened).to_contain_text("resolved")
    grid.press("f")
    grid.press("Enter")
    expect(opened).to_contain_text("quick#8")
    expect(opened.get_by_role("button", name="Retry")).to_be_visible()
    lab.screenshot("board_light")
    lab.set_theme("Dark")
    # Widths of elements are wrong while the page changes its style sheets.
    until(lambda: lab.page.locator("#jupyterlab-splash").count() == 0, "the splash screen is gone", 10)
    until(lambda: (grid.bounding_box() or {"width": 0})["width"] > 400, "the grid has its width", 10)
    lab.screenshot("board_dark")
    lab.set_theme("Light")
    saved = lab.save()
    assert {"text/html", "text/plain"} == set(saved.cells[4].outputs[0].data)


def test_the_cancel_button_of_a_board_works_while_a_cell_blocks(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(
        lab,
        tmp_path,
        f"ref = slow.remote({str(gate)!r})\nref",
        "import time\nwhile not ipyremote.wait([ref])[0]: pass",
    )
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    lab.run(4, wait=False)
    expect(lab.cell(4).locator(".jp-InputPrompt")).to_contain_text("*")
    lab.output(3).get_by_role("button", name=re.compile("cancel", re.IGNORECASE)).click()
    expect(lab.refs(3, "cancelled")).to_have_count(1)
    lab.wait_run(4, within=10)


#: Source of a task that waits for one file and then creates another file.
NEEDS = """@ipyremote.remote
def needs(gate, start):
    import os, time
    while not os.path.exists(start):
        time.sleep(0.01)
    with open(gate):
        return 'found'
"""


def test_the_retry_button_runs_a_failed_task_again_and_its_ref_gets_the_value(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    start = tmp_path / "start"
    shown(
        lab, tmp_path, NEEDS + f"ref = needs.remote({str(gate)!r}, {str(start)!r})\nref", "ipyremote.get(ref)"
    )
    lab.run(3)
    expect(lab.output(3).get_by_role("button", name="Cancel")).to_be_visible()
    start.touch()
    expect(lab.refs(3, "failed")).to_have_count(1)
    again = lab.output(3).get_by_role("button", name="Retry")
    expect(again).to_be_visible()
    saved = lab.save()
    assert {"text/html", "text/plain"} == set(saved.cells[3].outputs[0].data)
    gate.touch()
    again.click()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    lab.run(4)
    lab.wait_text(4, "found")


def test_a_task_that_failed_before_its_display_can_be_retried(lab: Lab, tmp_path: Path, gate: Path) -> None:
    start = tmp_path / "start"
    start.touch()
    need = NEEDS + f"ref = needs.remote({str(gate)!r}, {str(start)!r})\n"
    shown(
        lab,
        tmp_path,
        "import time\nslow = ipyremote.remote(time.sleep).remote(0.5)\nslow",
        need + "ref",
        need + "ipyremote.wait([ref])\nref",
        "ipyremote.get(ref)",
    )
    lab.run(3)
    expect(lab.refs(3, "resolved")).to_have_count(1)
    for cell in (4, 5):
        lab.run(cell)
        expect(lab.refs(cell, "failed")).to_have_count(1)
        expect(lab.output(cell).get_by_role("button", name="Retry")).to_be_visible()
    saved = lab.save()
    assert all({"text/html", "text/plain"} == set(saved.cells[cell].outputs[0].data) for cell in (4, 5))
    gate.touch()
    lab.output(5).get_by_role("button", name="Retry").click()
    expect(lab.refs(5, "resolved")).to_have_count(1)
    lab.run(6)
    lab.wait_text(6, "found")


def test_a_ref_shows_the_progress_bars_and_the_last_lines_of_its_task(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    shown(lab, tmp_path, BARS + f"bars.remote({str(gate)!r})")
    lab.run(3)
    card = lab.refs(3)
    expect(card.get_by_role("progressbar", name="epochs")).to_have_attribute("aria-valuenow", "2")
    expect(card).to_contain_text("batch 2 4")
    card.get_by_text("earlier lines of output").click()
    expect(card.get_by_text("batch 0 0")).to_be_visible()
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)


def test_a_long_get_shows_the_refs_that_it_waits_for(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"values = ipyremote.get([slow.remote({str(gate)!r}) for _ in range(3)])")
    lab.run(3, wait=False)
    board = lab.output(3).locator(".ipyremote-board")
    expect(board).to_have_count(1)
    gate.touch()
    lab.wait_run(3, within=10)
    expect(lab.output(3).locator('.ipyremote-board[data-state="resolved"]')).to_have_count(1)


def test_the_dashboard_lists_workers_and_draws_their_runs(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"ref = slow.remote({str(gate)!r})", "%remote_status", "ipyremote.shutdown()")
    lab.run(3)
    lab.run(4)
    view = lab.output(4).locator(".ipyremote-dashboard")
    expect(view.locator(".ipyremote-workers")).to_contain_text("slow#1")
    lanes = view.locator("canvas.ipyremote-lanes")
    expect(lanes).to_have_count(1)
    lanes.focus()
    lanes.press("+")
    gate.touch()
    expect(view).to_contain_text("1 done")
    lab.screenshot("dashboard_light")
    lab.run(5)
    expect(lab.output(4).locator('.ipyremote-dashboard[data-state="ended"]')).to_have_count(1)
    expect(lab.output(4).locator("canvas")).to_have_count(0)
