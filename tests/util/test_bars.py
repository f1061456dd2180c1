"""`tqdm` and `safe_print`, which report to the driver in a task, and draw and print in the driver."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tqdm.std import tqdm as standard

import ipyremote as ray
from ipyremote.backend import ProgressReport, current
from ipyremote.session.quiet_listener import QuietListener
from ipyremote.util import safe_print, tqdm
from tests.support.waiting import until


class Heard(QuietListener):
    """A listener that records progress bars."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, float, float | None, str, bool]] = []

    def on_progress(self, progress: ProgressReport) -> None:
        bar = progress.bar
        self.bars.append((bar.description, bar.done, bar.total, bar.unit, bar.closed))


@pytest.fixture(autouse=True)
def _no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard, "monitor_interval", 0)  # its thread would outlive the test


@pytest.mark.usefixtures("cluster")
def test_a_progress_bar_in_a_task_is_reported_to_the_driver() -> None:
    @ray.remote
    def work() -> int:
        count = sum(1 for _ in tqdm(range(5), desc="fitting", unit="fold"))
        with tqdm(total=10) as bar:
            bar.set_description("by hand")
            bar.update(4)
            bar.refresh()
            safe_print("said")
        return count

    heard = Heard()
    backend = current.backend()
    backend.listen(heard)
    assert ray.get(work.remote(), timeout=30) == 5
    until(lambda: sum(bar[-1] for bar in heard.bars) == 2, "both bars were closed")
    ends = [bar for bar in heard.bars if bar[-1]]
    assert ends == [("fitting", 5.0, 5.0, "fold", True), ("by hand", 4.0, 10.0, "it", True)]


def test_a_progress_bar_in_the_driver_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tqdm([1, 2], desc="here")) == [1, 2]
    with pytest.raises(ValueError, match="No iterable"):
        iter(tqdm(total=3))
    bar = tqdm(total=3, position=0)
    bar.update(3)
    bar.close()
    bar.close()
    assert "here: 100%" in capsys.readouterr().err


def test_safe_print_does_not_break_progress_bars() -> None:
    out = io.StringIO()
    safe_print("a", "b", sep="-", file=out)
    assert out.getvalue() == "a-b\n"


def test_tqdm_and_safe_print_have_the_import_paths_of_ray(capsys: pytest.CaptureFixture[str]) -> None:
    from ipyremote.util import bars

    names: list[Any] = [bars.tqdm, bars.safe_print]
    assert names == [tqdm, safe_print]
