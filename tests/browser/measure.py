"""Measurements in JupyterLab: the delay of a result on screen, and the smoothness of a page with a large board.

    python -m tests.browser.measure [--refs 60] [--cells 10000]

*Latency* is the time from the last statement of a task, in the worker, to the animation frame in which the page shows
the task's ref as resolved. Refs are shown one by one; both times are from this machine's clock. *Frames* are counted by
`requestAnimationFrame` while a board is running; an idle page has 60 frames per second. This module is not a test: the
numbers depend on the load of the machine, which is printed beside the numbers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from playwright.sync_api import expect, sync_playwright

from tests.browser.clusters import LOAD, START
from tests.browser.lab import CHROMIUM_FLAGS, Lab, Server, chromium, notebook

#: Ranges of the durations of tasks, in seconds: short tasks end just after the page shows them as running.
DURATIONS: Final = {"short tasks": (0.0, 0.15), "long tasks": (0.3, 0.6)}
TASKS: Final = """
import random, time
@ipyremote.remote
def timed(seconds):
    time.sleep(seconds)
    return time.time()
@ipyremote.remote
def short(number):
    time.sleep(0.002)
    return number
"""
#: Script that records [label, time of the next frame in milliseconds since 1970] for each ref that becomes resolved.
NOTE_FRAMES: Final = """() => {
    const seen = new Set();
    window.frames_of = [];
    const look = () => {
        for (const card of document.querySelectorAll('.ipyremote-ref[data-state="resolved"]')) {
            const label = card.querySelector(".ipyremote-label").textContent;
            if (seen.has(label)) continue;
            seen.add(label);
            requestAnimationFrame(() => window.frames_of.push([label, performance.timeOrigin + performance.now()]));
        }
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}"""
#: Script that returns the times of all frames in three seconds, in milliseconds.
COUNT_FRAMES: Final = """() => new Promise((done) => {
    const times = [];
    const step = (now) => {
        times.push(now);
        if (now - times[0] < 3000) requestAnimationFrame(step);
        else done(times);
    };
    requestAnimationFrame(step);
})"""


def latencies(lab: Lab, cell: int, count: int) -> list[float]:
    """Return the time from the end of each task to the frame that shows the end, in milliseconds."""
    lab.page.evaluate(NOTE_FRAMES)
    found = []
    for number in range(1, count + 1):
        lab.run(cell, wait=False)
        lab.page.wait_for_function(f"window.frames_of.length >= {number}")
        value = lab.refs(cell, "resolved").locator("pre")
        expect(value).to_have_count(1)
        found.append(lab.page.evaluate("window.frames_of.at(-1)[1]") - 1000 * float(value.inner_text()))
        lab.wait_run(cell)
    return found


def frames(lab: Lab, cell: int, count: int) -> tuple[float, float]:
    """Return (frames per second, longest time between two frames in milliseconds) while a board of refs runs."""
    lab.run(cell, wait=False)
    expect(lab.output(cell).locator("canvas.ipyremote-grid")).to_have_count(1)
    times = lab.page.evaluate(COUNT_FRAMES)
    assert lab.output(cell).locator('.ipyremote-board[data-state="running"]').count(), "it ended too early"
    gaps = [later - earlier for earlier, later in pairwise(times)]
    lab.wait_text(cell, f"{count} resolved", within=300)
    return 1000 * len(gaps) / (times[-1] - times[0]), max(gaps)


@contextmanager
def page() -> Iterator[Lab]:
    """Open a page of a new JupyterLab."""
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = Server(Path(home))
        try:
            server.wait()
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
            lab = Lab(server, browser.new_context())
            try:
                yield lab
            finally:
                lab.close()
                browser.close()
        finally:
            server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--refs", type=int, default=60, help="refs shown one by one, for each length of tasks"
    )
    parser.add_argument("--cells", type=int, default=10_000, help="refs on the board")
    options = parser.parse_args(arguments)
    shows = [f"timed.remote(random.uniform{bounds})" for bounds in DURATIONS.values()]
    board = f"[short.remote(number) for number in range({options.cells})]"
    with page() as lab, tempfile.TemporaryDirectory() as place:
        lab.open(notebook(Path(place) / "measure.ipynb", [LOAD, START, TASKS, *shows, board]))
        for index in range(3):
            lab.run(index)
        for index, name in enumerate(DURATIONS, 3):
            found = sorted(latencies(lab, index, options.refs))
            late = found[min(int(0.95 * len(found)), len(found) - 1)]
            print(
                f"resolved to painted, {name}: median {statistics.median(found):.0f} ms, "
                f"95th percentile {late:.0f} ms, of {len(found)}; load {os.getloadavg()[0]:.1f}"
            )
        rate, longest = frames(lab, 5, options.cells)
        print(
            f"board of {options.cells:,} running: {rate:.0f} frames a second, longest gap {longest:.0f} ms; "
            f"load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
