"""Displays, figures and progress bars of tasks, which reach the driver's listener in order and before the result."""

from __future__ import annotations

import base64
import getpass
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
from tqdm.auto import tqdm
from tqdm.notebook import tqdm as notebook_tqdm

import ipyremote as ray
from ipyremote.backend import DisplayReport, ProgressReport, StateReport, TextReport, current
from ipyremote.client.session import Session
from ipyremote.remote_cells.cell import Cell, CellInputs, run_cell
from ipyremote.remote_cells.preview import preview

pytestmark = pytest.mark.usefixtures("cluster")

PNG = b"\x89PNG"


class Recorder:
    """A listener that records each call, in order."""

    def __init__(self) -> None:
        #: ("text", stream, text) or ("display", content)
        self.shown: list[tuple[Any, ...]] = []
        #: (task, bar, description, done, total, unit, closed)
        self.bars: list[tuple[int, int, str, float, float | None, str, bool]] = []

    def on_output(self, output: TextReport) -> None:
        self.shown.append(("text", output.stream, output.text))

    def on_display(self, display: DisplayReport) -> None:
        self.shown.append(("display", display.content))

    def on_progress(self, progress: ProgressReport) -> None:
        bar = progress.bar
        self.bars.append(
            (progress.task_id, bar.number, bar.description, bar.done, bar.total, bar.unit, bar.closed)
        )

    def on_update(self, update: StateReport) -> None:
        """Ignore task updates."""

    def on_notice(self, cell: int, text: str) -> None:
        """Ignore notices."""

    def flush(self) -> None:
        """Do nothing, because nothing is buffered."""

    def on_lost(self, reason: str) -> None:
        """Ignore the loss of the cluster, which does not happen here."""

    @property
    def words(self) -> list[str]:
        """Return the printed texts and the plain texts of displays, in order."""
        return [
            item[2].strip() if item[0] == "text" else item[1]["data"].get("text/plain", item[1]["kind"])
            for item in self.shown
        ]

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """Return the data of the displays."""
        return [item[1]["data"] for item in self.shown if item[0] == "display"]


@pytest.fixture
def recorder(cluster: Any) -> Iterator[Recorder]:
    recorder = Recorder()
    current.backend().listen(recorder)
    yield recorder
    current.backend().listen(None)


def home() -> None:
    """Stand-in for a cell, whose globals the remote cell sees."""


def run_remotely(source: str) -> Any:
    """Run code as `%%remote` does."""
    place = FunctionType(home.__code__, {}, "home")
    cell = ray.remote(run_cell)
    return ray.get(cell.remote(Cell(source, "<cell>", "In [1]"), CellInputs(place, {}), ()), timeout=60)


def test_printed_text_and_displays_of_a_task_keep_their_order(recorder: Recorder) -> None:
    @ray.remote
    def work() -> None:
        from IPython.display import HTML, display

        print("one")
        display({"two": 2})
        print("three", file=sys.stderr)
        display(HTML("<b>four</b>"), metadata={"a": 1})
        print("five", end="")

    ray.get(work.remote(), timeout=60)
    assert recorder.words == ["one", "{'two': 2}", "three", "<IPython.core.display.HTML object>", "five"]
    content = recorder.shown[3][1]
    assert content["data"]["text/html"] == "<b>four</b>"
    assert (content["kind"], content["metadata"], content["transient"]) == ("display_data", {"a": 1}, {})


def test_display_can_be_used_in_a_task_without_an_import(recorder: Recorder) -> None:
    run_remotely(
        "import pandas as pd\ndisplay(pd.DataFrame({'a': [1]}))\nh = display(1, display_id=True)\nh.update(2)"
    )
    frame, first, last = (item[1] for item in recorder.shown)
    assert "<table" in frame["data"]["text/html"]
    assert first["transient"] == last["transient"] != {}
    assert ("display_data", "1") == (first["kind"], first["data"]["text/plain"])
    assert ("update_display_data", "2") == (last["kind"], last["data"]["text/plain"])


def test_a_worker_that_displays_nothing_imports_no_ipython() -> None:
    @ray.remote
    def loaded() -> list[str]:
        print("something")
        return [name for name in ("IPython", "matplotlib", "tqdm") if name in sys.modules]

    assert ray.get(loaded.remote(), timeout=30) == []


def test_figures_left_open_by_a_cell_are_shown_and_closed(recorder: Recorder) -> None:
    source = """
import matplotlib.pyplot as plt
print(plt.get_backend())
plt.plot([1, 2])
print("drawn")
"""
    run_remotely(source)
    assert "\n".join(recorder.words) == "agg\ndrawn\n<Figure size 640x480 with 1 Axes>"
    (bundle,) = recorder.bundles
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)
    recorder.shown.clear()
    run_remotely("import matplotlib.pyplot as plt\nprint(len(plt.get_fignums()))")
    assert recorder.words == ["0"]


def test_a_task_shows_only_the_figures_that_it_displays(recorder: Recorder) -> None:
    @ray.remote
    def work() -> int:
        import matplotlib.pyplot as plt

        plt.plot([1, 2])
        plt.show()
        plt.figure().add_subplot()
        plt.gcf().show()
        plt.plot([1, 2])
        return len(plt.get_fignums())

    assert ray.get(work.remote(), timeout=60) == 1
    assert [sorted(bundle) for bundle in recorder.bundles] == [["image/png", "text/plain"]] * 2


def test_a_returned_figure_can_be_drawn_and_its_preview_leaves_no_figure_open_in_the_worker() -> None:
    @ray.remote(num_cpus=2)
    def draw() -> Any:
        import matplotlib.pyplot as plt

        figure = plt.figure()
        figure.add_subplot()
        return figure

    ref = draw.remote()
    spine = ray.get(ref, timeout=60).axes[0].spines["left"]
    assert spine.get_path().vertices.flags.writeable, "drawing moves it"

    @ray.remote(num_cpus=2)
    def look(figure: Any) -> tuple[str, bool]:
        import matplotlib.pyplot as plt

        found = preview(figure)
        return found["html"], figure.number in plt.get_fignums() and plt.figure(figure.number) is figure

    html, is_open = ray.get(look.remote(ref), timeout=60)
    assert "data:image/png;base64," in html
    assert not is_open


def test_a_task_can_display_a_figure(recorder: Recorder) -> None:
    @ray.remote
    def work() -> None:
        from matplotlib.figure import Figure

        figure = Figure()
        figure.add_subplot().plot([1])
        display(figure)  # type: ignore[name-defined]  # noqa: F821

    ray.get(work.remote(), timeout=60)
    (bundle,) = recorder.bundles
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)


def test_progress_bars_are_reported_and_not_printed(recorder: Recorder) -> None:
    @ray.remote
    def work() -> None:
        for _ in tqdm(range(3), desc="outer"):
            for _ in notebook_tqdm(range(2), desc="inner", leave=False, unit="row"):
                time.sleep(0.001)
        tqdm.write("written")

    ref = work.remote()
    ray.get(ref, timeout=60)
    assert recorder.words == ["written"]
    assert {task for task, *_ in recorder.bars} == {ref._id}
    outer = [bar[2:] for bar in recorder.bars if bar[1] == 1]
    assert outer[0] == ("outer", 0.0, 3.0, "it", False)
    assert outer[-1] == ("outer", 3.0, 3.0, "it", True)
    inner = [bar for bar in recorder.bars if bar[1] > 1]
    assert inner[-1][2:] == ("inner", 2.0, 2.0, "row", True)
    assert len(inner) <= 4


def test_a_progress_bar_is_reported_while_its_task_runs_and_not_too_often(recorder: Recorder) -> None:
    @ray.remote
    def work() -> None:
        bar = tqdm(total=1000, mininterval=0, miniters=1)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            bar.update()
            time.sleep(0.001)

    ray.get(work.remote(), timeout=60)
    states = [bar[3:] for bar in recorder.bars]
    assert 4 <= len(states) <= 8
    assert states == sorted(states)
    assert states[-1][-1], "a bar that its task leaves open is closed"


def test_warnings_and_log_records_of_a_task_arrive_in_order(recorder: Recorder) -> None:
    @ray.remote
    def work() -> None:
        logging.basicConfig(format="%(message)s", force=True)
        print("first")
        warnings.warn("second", stacklevel=1)
        print("third")
        logging.getLogger("x").warning("fourth")
        print("fifth")

    ray.get(work.remote(), timeout=60)
    text = "".join(item[2] for item in recorder.shown)
    places = [text.index(word) for word in ("first", "second", "third", "fourth", "fifth")]
    assert places == sorted(places)
    assert {item[1] for item in recorder.shown if "fourth" in item[2]} == {2}


@pytest.mark.parametrize("ask", [input, getpass.getpass, lambda _: breakpoint()])
def test_input_in_a_task_is_a_clear_error(ask: Any) -> None:
    @ray.remote
    def work() -> str:
        return str(ask("name? "))

    with pytest.raises(RuntimeError, match=r"because a worker has no keyboard"):
        ray.get(work.remote(), timeout=60)


def test_task_runs_of_a_cluster_can_be_queried() -> None:
    @ray.remote
    def work(seconds: float) -> None:
        time.sleep(seconds)

    session = current.backend()
    assert isinstance(session, Session)
    began = time.monotonic()
    ray.get([work.remote(0.1), work.remote(0.0)], timeout=60)
    elapsed = time.monotonic() - began
    now, spans = session.insight.runs()
    durations = {span.label: span.end - span.start for span in spans}
    assert set(durations) == {"work#1", "work#2"}
    assert 0.09 <= durations["work#1"] <= elapsed
    assert all(span.state == "done" and span.start <= span.end <= now for span in spans)
    ray.get(work.remote(0.0), timeout=60)
    assert [span.label for span in session.insight.runs(now)[1]] == ["work#3"]
