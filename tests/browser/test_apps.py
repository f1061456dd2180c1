"""The same displays in JupyterLab and in Notebook 7: live refs, output by cell, a reloaded page, both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.clusters import shown
from tests.browser.lab import APPS, Lab, Server, serving
from tests.support.waiting import until

WIDGET = "application/vnd.jupyter.widget-view+json"

GALLERY = """
@ipyremote.remote
def table(rows):
    return [row * row for row in range(rows)]
@ipyremote.remote
def wrong():
    print('about to fail')
    return {}['colour']
stopped = slow.remote('/nowhere')
ipyremote.cancel(stopped)
for ref in (table.remote(5), wrong.remote(), stopped, slow.remote(gate)):
    display(ref)
[table.remote(n) for n in range(20)] + [wrong.remote(), slow.remote(gate)]
"""

#: Script that returns the lowest contrast of a text in displays of ipyremote, as [contrast ratio of WCAG, text].
CONTRAST = """() => {
    const rgba = (text) => {
        const canvas = document.createElement("canvas").getContext("2d");
        canvas.fillStyle = text;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, bottom) => [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3])).concat(1);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        if (!element) return rgba(getComputedStyle(document.body).getPropertyValue("--jp-layout-color0"));
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own : over(own, ground(element.parentElement));
    };
    let least = [99, ""];
    for (const element of document.querySelectorAll(".ipyremote, .ipyremote *")) {
        const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
        if (!text || element.tagName === "STYLE" || !element.getClientRects().length) continue;
        let color = rgba(getComputedStyle(element).color);
        const back = ground(element);
        for (let up = element; up; up = up.parentElement) color[3] *= Number(getComputedStyle(up).opacity);
        const [a, b] = [light(over(color, back)), light(back)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least[0]) least = [ratio, text];
    }
    return least;
}"""


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the server of a Notebook 7."""
    yield from serving(tmp_path_factory.mktemp("jupyter"), "notebook")


@pytest.fixture(params=APPS)
def server(request: pytest.FixtureRequest) -> Any:
    """Return the server of each application."""
    return request.getfixturevalue({"lab": "jupyterlab", "notebook": "notebook7"}[request.param])


def test_a_pending_ref_becomes_resolved_although_no_cell_runs(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})")
    lab.run(3)
    expect(lab.refs(3)).to_have_count(1)
    expect(lab.refs(3, "running")).to_have_count(1)
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")
    expect(lab.refs(3)).to_contain_text("slow#1")


def test_text_printed_by_a_task_appears_under_its_cell_while_another_cell_runs(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    speaker = "@ipyremote.remote\ndef speak(gate):\n    slow.__wrapped__(gate)\n    print('from the task')\nref = speak"
    waiter = "done = ipyremote.get(ref)\nprint('the other cell')"
    shown(lab, tmp_path, f"{speaker}.remote({str(gate)!r})", waiter)
    lab.run(3)
    lab.run(4, wait=False)
    expect(lab.cell(4).locator(".jp-InputPrompt")).to_contain_text("*")
    gate.touch()
    lab.wait_run(4)
    lab.wait_text(3, "from the task")
    assert lab.text(4).strip() == "the other cell"


def test_two_cells_show_the_output_of_their_own_tasks_although_both_run_at_once(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    speak = (
        "@ipyremote.remote\n"
        "def speak(word, gate):\n"
        "    slow.__wrapped__(gate)\n"
        "    for i in range(3):\n"
        "        print(word, i)\n"
    )
    cells = (f"{speak}{word} = speak.remote({word!r}, {str(gate)!r})" for word in ("left", "right"))
    shown(lab, tmp_path, *cells, "done = ipyremote.get([left, right])")
    lab.run(3)
    lab.run(4)
    lab.run(5, wait=False)
    gate.touch()
    lab.wait_run(5)
    for index, word in ((3, "left"), (4, "right")):
        lab.wait_text(index, f"{word} 2")
        assert [" ".join(line.split()[-2:]) for line in lab.text(index).splitlines()] == [
            f"{word} {i}" for i in range(3)
        ]
    assert lab.text(5).strip() == ""


def test_the_cancel_button_works_while_a_cell_blocks(lab: Lab, tmp_path: Path, gate: Path) -> None:
    blocking = "try:\n    ipyremote.get(ref)\nexcept Exception as error:\n    print(type(error).__name__)"
    shown(lab, tmp_path, f"ref = slow.remote({str(gate)!r})\nref", blocking)
    lab.run(3)
    expect(lab.refs(3, "running")).to_have_count(1)
    lab.run(4, wait=False)
    expect(lab.cell(4).locator(".jp-InputPrompt")).to_contain_text("*")
    lab.output(3).get_by_role("button", name=re.compile("cancel", re.IGNORECASE)).click()
    expect(lab.refs(3, "cancelled")).to_have_count(1)
    lab.wait_run(4)
    assert lab.text(4).strip() == "TaskCancelledError"


def is_live(lab: Lab, number: int) -> None:
    """Wait until the output of a running cell is a widget that the page shows."""
    expect(lab.output(number).get_by_role("button", name="Cancel").first).to_be_visible()


def test_a_page_reloaded_while_a_task_runs_shows_the_task_run_and_then_end(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    shown(lab, tmp_path, f"slow.remote({str(gate)!r})", f"[slow.remote({str(gate)!r}) for _ in range(2)]")
    lab.run(3)
    lab.run(4)
    for number in (3, 4):
        is_live(lab, number)
    lab.save()
    lab.reopen()
    expect(lab.refs(3, "running")).to_have_count(1)
    earlier = lab.text(3)
    until(lambda: lab.text(3) != earlier, "the time shown changes", 5)
    gate.touch()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")
    expect(lab.output(4).locator('.ipyremote-board[data-state="resolved"]')).to_have_count(1)
    lab.reopen()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    assert lab.errors() == []


def test_a_task_that_ended_while_no_page_was_open_is_shown_at_its_end(
    lab: Lab, tmp_path: Path, gate: Path
) -> None:
    shown(lab, tmp_path, f"ref = slow.remote({str(gate)!r})\nref", "ipyremote.get(ref)")
    lab.run(3)
    is_live(lab, 3)
    lab.save()
    lab.leave()
    gate.touch()
    lab.reopen()
    expect(lab.refs(3, "resolved")).to_have_count(1)
    expect(lab.refs(3)).to_contain_text("[7, 8, 9]")
    lab.run(4)
    assert "[7, 8, 9]" in lab.text(4)


def test_each_display_has_enough_contrast_in_both_themes(lab: Lab, tmp_path: Path, gate: Path) -> None:
    shown(lab, tmp_path, f"gate = {str(gate)!r}{GALLERY}")
    lab.run(3)
    for state in ("resolved", "failed", "cancelled", "running"):
        expect(lab.refs(3, state)).to_have_count(1)
    try:
        for theme in ("Light", "Dark"):
            lab.set_theme(theme)
            lab.screenshot(f"{lab.app}-{theme.lower()}")
            ratio, text = lab.page.evaluate(CONTRAST)
            # WCAG requires this contrast for text of this size.
            assert ratio >= 4.5, f"{text!r} is hard to read in the theme {theme}: {ratio:.1f} to 1"
    finally:
        lab.set_theme("Light")
    gate.touch()
