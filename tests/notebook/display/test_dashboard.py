"""Dashboards, the timeline, text bars, and displays of the refs that a `get` waits for."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import ipyremote
from ipyremote.backend import ClusterStatus, TaskRun, WorkerStatus
from ipyremote.ids import ClientId
from ipyremote.notebook import extension
from ipyremote.notebook.display.dashboard import DashboardModel, Dashboards, ProcessMeter
from ipyremote.notebook.display.dashboard_html import (
    DashboardView,
    WorkerLine,
    dashboard_html,
    dashboard_text,
)
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.display.textbar import TextBar, bar_text, follow
from ipyremote.notebook.display.timeline import chrome_trace, condensed
from ipyremote.notebook.display.waiting_displays import WaitingDisplays
from ipyremote.notebook.extension import Notebook
from tests.notebook.fakes import Clock, FakeBackend, FakeFrontend, FakeInsight, ManualUpdater
from tests.support.waiting import until

SPANS = (
    TaskRun(ClientId(3), "square", "1", 10.0, 10.5, "done"),
    TaskRun(ClientId(4), "square", "2", 10.25, 11.0, "failed"),
)


class StatusInsight(FakeInsight):
    """The insight into a session with two workers."""

    def status(self) -> ClusterStatus:
        workers = (
            WorkerStatus(ClientId(3), os.getpid(), "busy", "<b>x</b>", 2),
            WorkerStatus(ClientId(4), 2**22 + 1, "idle"),
        )
        amounts = (("CPU", 20_000), ("object_store_memory", 1000 * 10_000))
        return ClusterStatus(amounts, (("CPU", 10_000),), workers, {"running": 1}, {"alive": 2}, 5, 250)

    def runs(self, since: float = 0.0) -> tuple[float, tuple[TaskRun, ...]]:
        return 12.0, tuple(span for span in SPANS if span.end > since)


class StatusBackend(FakeBackend):
    """A backend with insight into its session."""

    def __init__(self, insight: FakeInsight | None = None) -> None:
        super().__init__()
        self.insight = insight or StatusInsight()


def test_a_dashboard_shows_workers_tasks_actors_store_and_runs() -> None:
    backend, model = StatusBackend(), DashboardModel()
    content = model.ask(backend, ProcessMeter())
    html = model.html(0.0, timed=True)
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<b>x" not in html
    for words in ("CPU 1 of 2", "1 running", "2 alive", "250 bytes of 1000 bytes", "square#1: done", "+ 2"):
        assert words in html
    assert content["whole"]
    assert content["spans"][0] == [3, "square#1", 10.0, 10.5, "done"]
    assert content["running"] == [[3, "<b>x</b>", 12.0]]
    later = model.ask(backend, ProcessMeter())
    assert (later["whole"], later["spans"]) == (False, [])
    assert later["running"] == [[3, "<b>x</b>", 12.0]]
    model.on_shown()
    assert len(model.ask(backend, ProcessMeter())["spans"]) == 2


def test_a_process_that_has_ended_has_no_reading() -> None:
    found = ProcessMeter().read([os.getpid(), 2**22 + 1])
    assert found.keys() == {os.getpid()}
    assert found[os.getpid()][1] > 0


@pytest.mark.processes
def test_a_worker_stopped_by_a_signal_is_shown_as_stopped() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])

    class Busy(StatusInsight):
        def status(self) -> ClusterStatus:
            workers = (WorkerStatus(ClientId(3), sleeper.pid, "busy", "square#1"),)
            return ClusterStatus((), (), workers, {}, {}, 0, 0)

    backend, model, meter = StatusBackend(Busy()), DashboardModel(), ProcessMeter()

    def states() -> list[str]:
        model.ask(backend, meter)
        return [row.state for row in model.view.workers]

    try:
        assert ["busy"] == states()
        sleeper.send_signal(signal.SIGSTOP)
        until(lambda: states() == ["stopped"], "the stop is seen")
        sleeper.send_signal(signal.SIGCONT)
        until(lambda: states() == ["busy"], "it is seen to go on")
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_dashboard_is_bounded_and_has_a_text_form() -> None:
    rows = tuple(WorkerLine(ClientId(number), number, "idle", "f#1", 0, 0.5, 2**20) for number in range(500))
    view = DashboardView("live", workers=rows)
    assert "and 436 more" in dashboard_html(view)
    assert len(dashboard_html(view)) < 60_000
    assert "worker 1  idle" in dashboard_text(view)


def test_a_chrome_trace_has_a_lane_for_each_worker() -> None:
    events = chrome_trace(SPANS)
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["worker 1", "worker 2"]
    runs = [event for event in events if event["ph"] == "X"]
    assert (runs[1]["name"], runs[1]["ts"], runs[1]["dur"], runs[1]["tid"]) == (
        "square",
        250_000.0,
        750_000.0,
        4,
    )
    assert runs[1]["args"] == {"task": "square#2", "state": "failed"}
    json.dumps(events)


def test_too_many_runs_are_merged_for_drawing_and_failures_stay_visible() -> None:
    runs = [
        TaskRun(ClientId(3 + number % 2), "quick", str(number), number / 1000, (number + 1) / 1000, "done")
        for number in range(10_000)
    ]
    runs[5_000] = TaskRun(ClientId(3), "quick", "5000", 5.0, 5.001, "failed")
    found = condensed(runs, 500)
    assert 100 < len(found) <= 500
    assert [1] == [len([run for run in found if run.state == "failed"])]
    assert {3, 4} == {run.worker_id for run in found}
    assert (0.0, 10.0) == (min(run.start for run in found), max(run.end for run in found))
    assert all(re.fullmatch(r"quick, \d+ runs", run.label) for run in found)
    assert tuple(runs[:500]) == condensed(runs[:500], 500)


def test_the_timeline_sent_to_a_page_is_bounded_in_a_busy_session() -> None:
    class Busy(StatusInsight):
        def runs(self, since: float = 0.0) -> tuple[float, tuple[TaskRun, ...]]:
            return since + 1, tuple(
                TaskRun(ClientId(3), "square", str(n), since + n / 20_000, since + (n + 1) / 20_000, "done")
                for n in range(20_000)
            )

    backend, model, meter = StatusBackend(Busy()), DashboardModel(), ProcessMeter()
    sizes = [len(json.dumps(model.ask(backend, meter))) + len(model.html(0.0, timed=True)) for _ in range(3)]
    assert max(sizes) < 100_000


def test_a_text_bar_says_how_far_how_fast_and_how_long() -> None:
    assert bar_text(0, 10, 0.0) == "  0%|" + " " * 30 + "| 0/10 refs [00:00<?, ?/s]"
    assert bar_text(5, 10, 2.5) == " 50%|" + "#" * 15 + " " * 15 + "| 5/10 refs [00:02<00:02,  2.00/s]"
    assert bar_text(1, 1, 2.0) == "100%|" + "#" * 30 + "| 1/1 ref [00:02<00:00,  0.50/s]"


class Terminal(io.StringIO):
    """A terminal that keeps all text."""

    def isatty(self) -> bool:
        return True


def test_a_text_bar_is_drawn_again_and_leaves_its_line_or_takes_it_away(backend: FakeBackend) -> None:
    for leave, last in ((True, "\n"), (False, "\r")):
        refs, out = [backend.new_ref() for _ in range(4)], Terminal()
        bar = TextBar(refs, 2.0, out)
        assert "0/4 refs [00:02<?" in out.getvalue()
        for ref in refs[:2]:
            backend.end(ref, "done", 1)
        bar.draw()
        assert "2/4 refs [00:02<00:02,  1.00/s]" in out.getvalue()
        bar.end(leave=leave)
        written = out.getvalue()
        assert written.endswith(last)
        bar.draw()  # On another thread, the updater may be about to draw.
        assert out.getvalue() == written


def test_a_text_bar_shows_in_a_terminal_that_does_not_tell_its_size(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = os.openpty()
    with open(mine, "rb") as screen, open(other, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert os.get_terminal_size(other) == (0, 0)
        TextBar([backend.new_ref() for _ in range(3)], 0.0).end(leave=True)
        assert b"0/3 refs" in screen.read1()


def test_a_text_bar_survives_a_terminal_that_is_closed(backend: FakeBackend) -> None:
    out = Terminal()
    bar = TextBar([backend.new_ref()], 0.0, out)
    out.close()
    bar.draw()
    bar.end(leave=True)


def test_a_long_get_in_a_terminal_has_a_text_bar_as_long_as_it_waits(
    updater: ManualUpdater, clock: Clock, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(FakeFrontend(), updater, dict, clock=clock)
    waiting = WaitingDisplays(screen, updater, dict, lambda: True, rich=False, clock=clock)
    for terminal in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", terminal)
        waiting.cell_began(1)
        refs = [backend.new_ref() for _ in range(2)]
        wait = waiting.begin(refs)
        updater.advance(0.9)
        assert terminal.getvalue() == ""
        updater.advance(0.6)
        backend.end(refs[0], "done", 1)
        updater.advance(0.6)
        waiting.end(wait)
        waiting.cell_ended()
        if terminal.isatty():
            assert "0/2 refs" in terminal.getvalue()
            assert "1/2 refs" in terminal.getvalue()
            assert terminal.getvalue().endswith("\r")
        else:
            assert terminal.getvalue() == ""


@pytest.fixture
def waiting_and_screen(
    frontend: FakeFrontend, updater: ManualUpdater, clock: Clock, backend: FakeBackend
) -> tuple[WaitingDisplays, Screen]:
    screen = Screen(frontend, updater, lambda: {"cell": "latest"}, clock=clock)
    return WaitingDisplays(screen, updater, lambda: {"cell": 7}, lambda: True, clock=clock), screen


def test_a_get_of_more_than_a_second_is_shown_under_its_cell(
    waiting_and_screen: tuple[WaitingDisplays, Screen],
    frontend: FakeFrontend,
    updater: ManualUpdater,
    backend: FakeBackend,
) -> None:
    waiting, screen = waiting_and_screen
    waiting.cell_began(1)
    quick = waiting.begin([backend.new_ref()])
    updater.advance(0.5)
    waiting.end(quick)
    refs = [backend.new_ref() for _ in range(3)]
    wait = waiting.begin(refs)
    updater.advance(0.9)
    assert frontend.displays == []
    updater.advance(0.6)
    ((_, bundle),) = frontend.displays
    assert "3 refs" in bundle["text/html"]
    updater.advance(3)
    assert len(frontend.displays) == 1
    waiting.end(wait)
    waiting.cell_ended()
    assert screen.count == 1
    updater.advance(2)
    assert updater.idle


def test_refs_on_screen_are_not_displayed_again_by_a_long_get(
    waiting_and_screen: tuple[WaitingDisplays, Screen],
    frontend: FakeFrontend,
    updater: ManualUpdater,
    backend: FakeBackend,
) -> None:
    waiting, screen = waiting_and_screen
    refs = [backend.new_ref() for _ in range(3)]
    screen.show_board(refs)
    waiting.cell_began(1)
    wait = waiting.begin(refs[1:])
    updater.advance(3)
    assert len(frontend.displays) == 1
    waiting.end(wait)
    waiting.cell_ended()


def test_an_interrupted_wait_is_told_of_once_and_only_when_it_ended_the_cell(
    waiting_and_screen: tuple[WaitingDisplays, Screen], backend: FakeBackend
) -> None:
    waiting, _ = waiting_and_screen
    refs = [backend.new_ref() for _ in range(1_200)]
    error = KeyboardInterrupt()
    waiting.interrupted(error, "wait", refs)
    assert waiting.cell_ended(error) == (
        "wait() was interrupted; the 1,200 tasks go on. To end them all: %remote_cancel --all "
        "(or %remote_cancel with the list's name)."
    )
    assert waiting.cell_ended(error) == ""
    waiting.interrupted(error, "get", refs[:1])
    assert waiting.cell_ended(None) == ""  # The cell caught the interrupt.
    assert waiting.cell_ended(error) == ""
    waiting.interrupted(error, "get", refs[:1])
    assert waiting.cell_ended(KeyboardInterrupt()) == ""


def test_progress_takes_groups_of_refs_and_nothing_else(
    loaded: Notebook, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension._Loaded, "notebook", loaded)
    refs = {"a": [backend.new_ref()], "b": backend.new_ref()}
    ipyremote.progress(refs)
    assert "2 refs" in loaded.frontend.displays[-1][1]["text/html"]  # type: ignore[attr-defined]
    ipyremote.progress([])
    with pytest.raises(TypeError, match="progress\\(\\) takes a ref"):
        ipyremote.progress([1, 2])


@pytest.fixture
def session() -> Any:
    ipyremote.init(num_cpus=2)
    yield
    ipyremote.shutdown()


@pytest.mark.processes
def test_in_a_plain_program_progress_waits_and_timeline_writes_a_file(session: Any, tmp_path: Path) -> None:
    @ipyremote.remote
    def square(x: int) -> int:
        if x == 3:
            raise ValueError(x)
        return x * x

    refs = [square.remote(number) for number in range(8)]
    out = io.StringIO()
    follow(refs, out)
    assert "8/8 refs" in out.getvalue()
    assert out.getvalue().count("\n") == 1
    terminal = Terminal()
    follow([*refs, refs[0]], terminal)
    assert "8/8 refs" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    ipyremote.timeline(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())
    assert len([event for event in events if event["ph"] == "X"]) >= 8
    assert ipyremote.timeline() is not None


@pytest.mark.processes
def test_a_failed_call_can_be_repeated_as_long_as_its_ref_is_there(session: Any, tmp_path: Path) -> None:
    from ipyremote.backend import current

    @ipyremote.remote
    def once(path: str) -> int:
        if not Path(path).exists():
            Path(path).touch()
            raise ValueError("not yet")
        return 7

    backend: Any = current.backend()
    backend.history.remember_calls()
    ref = once.remote(str(tmp_path / "mark"))
    with pytest.raises(ValueError, match="not yet"):
        ipyremote.get(ref)
    new = backend.history.retry(ref._id)
    assert backend.get([new], 20) == [7]
    backend.released.append(new)
    with pytest.raises(ValueError, match="not remembered"):
        backend.history.retry(2**40)


def test_in_static_mode_a_dashboard_is_there_at_once(
    frontend: FakeFrontend, updater: ManualUpdater, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(*_: object) -> None:
        raise AssertionError("nothing can change, so nothing is waited for")

    monkeypatch.setattr(threading.Event, "wait", waiting)
    screen = Screen(frontend, updater, dict, static=lambda: True)
    Dashboards(screen, lambda: False).show(StatusBackend())
    ((_, bundle),) = frontend.displays
    assert "CPU 1 of 2" in bundle["text/html"]
    assert 'data-state="ended"' in bundle["text/html"]
    assert (screen.count, updater.idle) == (0, True)


def test_a_terminal_gets_the_dashboard_as_text(
    frontend: FakeFrontend, updater: ManualUpdater, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(frontend, updater, dict)
    assert Dashboards(screen, lambda: False).show_live(StatusBackend())
    told = capsys.readouterr().out
    assert "CPU 1 of 2 free" in told
    assert f"worker {os.getpid()}" in told
    assert not Dashboards(screen, lambda: False, lambda: True).show_live(StatusBackend())
    assert capsys.readouterr().out == ""
    assert frontend.displays == []


def test_the_dashboard_shows_the_size_of_objects_on_disk() -> None:
    view = DashboardView("live", objects=2, stored=5_000_000, capacity=10_000_000, spilled=7_000_000)
    for shown in (dashboard_html(view), dashboard_text(view)):
        assert "2 objects, 6.7 MiB of them on disk" in shown
    assert "disk" not in dashboard_text(DashboardView("live", objects=2, stored=5))


def test_calls_without_refs_have_a_board_under_their_cell(
    waiting_and_screen: tuple[WaitingDisplays, Screen], frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    waiting, screen = waiting_and_screen
    quick = waiting.work("short")
    quick.on_counts({"resolved": 3})
    quick.end()
    work = waiting.work("fit")
    work.on_counts({"running": 2, "pending": 0})
    updater.advance(0.9)
    assert frontend.displays == []
    updater.advance(0.3)
    ((_, bundle),) = frontend.displays
    assert "2 calls of fit" in bundle["text/html"]
    assert "calls of fit" in bundle["text/plain"]
    work.on_counts({"running": 2, "resolved": 97, "failed": 1})
    work.end()
    work.on_counts({"running": 5})
    updater.advance(3)
    html = frontend.updates[-1][1]["text/html"]
    assert "100 calls of fit" in html
    assert "97 resolved, 1 failed, 2 cancelled" in html
    assert screen.count == 0
    assert updater.idle
