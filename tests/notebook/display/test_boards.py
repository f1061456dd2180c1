"""Boards, output and progress of tasks on displays, and clicks; with a fake backend and a clock that the tests set."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest

from ipyremote.backend import BarState, ProgressReport, StateReport
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.grid import CODES, Grid
from ipyremote.notebook.display.html import Bar, RefView, ref_html
from ipyremote.notebook.display.models import BoardModel
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.display.task_records import TaskRecord, TaskRecords
from ipyremote.notebook.output.traceback_text import own_frames
from ipyremote.refs import ObjectRef
from tests.notebook.display.test_screen import state_of
from tests.notebook.fakes import FakeBackend, FakeFrontend, FakeHistory, FakeWidget, ManualUpdater


class RetryingHistory(FakeHistory):
    """Can run a task again."""

    def __init__(self, backend: RetryingBackend) -> None:
        super().__init__()
        self._backend = backend

    def retry(self, object_id: ObjectId) -> ObjectId:
        if self._backend.refusal:
            raise ValueError(self._backend.refusal)
        self._backend.retried.append(object_id)
        return ObjectId(next(self._backend._ids))


class RetryingBackend(FakeBackend):
    """Can run a task again."""

    def __init__(self) -> None:
        super().__init__()
        self.history = RetryingHistory(self)
        self.retried: list[ObjectId] = []
        self.refusal = ""


@pytest.fixture
def backend() -> RetryingBackend:
    return RetryingBackend()


def board(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget], count: int
) -> tuple[list[ObjectRef[Any]], FakeWidget]:
    """Return the refs and the widget of a board that a page shows."""
    refs = [backend.new_ref() for _ in range(count)]
    screen.show_board(refs)
    updater.advance(0.1)
    widgets[0].on_message("shown")
    updater.advance(0.2)
    return refs, widgets[0]


# ------------------------------------------------------------------------------------------------------------ grids


def test_a_grid_sends_each_change_once_or_all_states_when_that_is_shorter() -> None:
    grid = Grid(100)
    assert grid.take() is None
    grid.set(7, "running")
    grid.set(9, "failed")
    grid.set(7, "resolved")
    form, content = grid.take() or ("", b"")
    assert form == "changes"
    numbers = struct.unpack("<2I", content)
    assert [(number >> 3, number & 7) for number in numbers] == [(7, CODES["resolved"]), (9, CODES["failed"])]
    for place in range(50):
        grid.set(place, "running")
    assert grid.take() == ("whole", bytes(grid.states))
    assert grid.take() is None


def test_ten_thousand_refs_send_only_what_changed_and_at_most_100_kb_a_second(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    refs, widget = board(screen, backend, updater, widgets, 10_000)
    assert widget.grids == [("whole", bytes(10_000))]
    widget.updates.clear()
    widget.grids.clear()
    start = updater.clock.now
    for number, ref in enumerate(refs[:5_000]):
        backend.end(ref, "done", number)
        updater.advance(0.001)
    seconds = updater.clock.now - start
    assert len(widget.updates) <= 10 * seconds + 1
    assert {form for form, _ in widget.grids} == {"changes"}
    size = sum(len(html) for html, _ in widget.updates) + sum(len(content) for _, content in widget.grids)
    assert size <= 100_000 * (seconds + 0.2)
    updater.advance(0.5)
    assert sum(len(content) for _, content in widget.grids) == 4 * 5_000


def test_a_board_shows_its_rate_and_the_time_left() -> None:
    model = BoardModel({ObjectId(number): f"f#{number}" for number in range(100)})
    for number in range(50):
        model.on_update(StateReport(ObjectId(number), "done", "", 0.1, ""), 10 + number * 0.1)
    view = model.view(15.0, timed=True)
    assert view.rate == pytest.approx(10, rel=0.2)
    assert re.search(r" · (10|9\.\d|10\.\d)/s · [\d.]+ s left", model.html(15.0, timed=True))
    assert " s left" not in model.html(15.0, timed=False)


def test_a_board_shows_no_time_left_when_no_task_has_ended_for_long() -> None:
    model = BoardModel({ObjectId(number): f"f#{number}" for number in range(10)})
    model.on_update(StateReport(ObjectId(0), "running", "", 0.0, ""), 5.0)
    for number, now in ((1, 6.0), (2, 7.0)):
        model.on_update(StateReport(ObjectId(number), "done", "", 0.1, ""), now)
    assert model.view(7.0, timed=True).rate == pytest.approx(1, rel=0.3)
    assert model.view(12.0, timed=True).rate == pytest.approx(2 / 7, rel=0.1)
    assert model.view(17.1, timed=True).rate is None


def test_failures_on_a_board_count_as_retrieved(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater
) -> None:
    backend.history = history = FakeHistory()
    refs = [backend.new_ref() for _ in range(3)]
    screen.show_board(refs)
    updater.advance(0.1)
    backend.end(refs[1], "failed", ValueError("bad"))
    backend.end(refs[2], "done", 1)
    updater.advance(0.9)
    assert history.asked == [refs[1]._id]


# ----------------------------------------------------------------------------------------------------------- clicks


def test_a_clicked_grid_cell_opens_its_ref_and_a_second_click_opens_another(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    refs, widget = board(screen, backend, updater, widgets, 30)
    backend.update(refs[4], "running")
    widget.on_message("open", 4)
    backend.update(refs[4], "running", 1.0)
    updater.advance(0.2)
    assert "square#5" in widget.card
    assert state_of(widget.card) == "running"
    backend.end(refs[4], "done", {"answer": 42})
    updater.advance(0.3)
    assert "42" in widget.card
    widget.on_message("open", 6)
    updater.advance(0.2)
    assert "square#7" in widget.card
    widget.on_message("close")
    updater.advance(0.2)
    assert widget.card == ""


def test_a_finished_board_is_static_in_the_file_and_still_clickable_on_the_page(
    screen: Screen,
    backend: RetryingBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    refs, widget = board(screen, backend, updater, widgets, 30)
    for number, ref in enumerate(refs):
        backend.end(ref, "done", number * 111)
    updater.advance(0.3)
    assert frontend.updates[-1][1].keys() == {"text/plain", "text/html"}
    assert f'data-view="{widget.number}"' in frontend.updates[-1][1]["text/html"]
    assert (screen.count, widget.lasting, widget.discarded) == (0, True, False)
    widget.on_message("open", 3)
    updater.advance(0.3)
    assert "333" in widget.card
    del refs, ref
    widget.on_message("open", 4)
    updater.advance(0.3)
    updater.advance(700)
    assert widget.discarded
    assert screen._widgets.count == 0


def test_a_failed_ref_can_be_run_again_and_stands_for_the_new_run(
    screen: Screen,
    backend: RetryingBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.1)
    widget = widgets[0]
    widget.on_message("shown")
    backend.end(ref, "failed", ValueError("bad"))
    updater.advance(0.3)
    old = ref._id
    assert (widget.state, widget.lasting) == ("failed", True)
    widget.on_message("retry")
    updater.advance(0.3)
    assert backend.retried == [old]
    assert ref._id != old
    assert old in backend.released
    assert (widget.state, widget.lasting, screen.count) == ("pending", False, 1)
    backend.end(ref, "done", 7)
    updater.advance(0.3)
    assert state_of(frontend.updates[-1][1]["text/html"]) == "resolved"
    assert screen.count == 0


@pytest.fixture
def answered(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    """Let a page show a widget, so that the front end is known to have widgets."""
    ref = backend.new_ref()
    screen.show_ref(ref)
    widgets[0].on_message("shown")
    backend.end(ref, "done", 1)
    updater.advance(0.3)
    backend.released.clear()
    widgets.clear()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.usefixtures("answered")
def test_a_task_that_failed_before_a_page_showed_it_can_be_run_again(
    screen: Screen,
    backend: RetryingBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
    before: bool,
) -> None:
    ref = backend.new_ref()
    if before:
        backend.end(ref, "failed", ValueError("bad"))
    screen.show_ref(ref)
    updater.advance(0.01)
    if not before:
        backend.end(ref, "failed", ValueError("bad"))
    updater.advance(0.3)
    (widget,) = widgets
    assert (widget.state, widget.lasting, "bad" in widget.html) == ("failed", False, True)
    widget.on_message("shown")
    updater.advance(0.1)
    assert (widget.state, widget.lasting) == ("failed", True)
    assert "widget" not in frontend.updates[-1][1]
    widget.on_message("retry")
    updater.advance(0.3)
    assert len(backend.retried) == 1
    backend.end(ref, "done", 7)
    updater.advance(0.3)
    assert state_of(frontend.updates[-1][1]["text/html"]) == "resolved"
    assert screen.count == 0


@pytest.mark.parametrize("end", ["no page", "session", "clear"])
@pytest.mark.usefixtures("answered")
def test_a_failure_that_no_page_shows_becomes_static(
    screen: Screen,
    backend: RetryingBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
    end: str,
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.01)
    backend.end(ref, "failed", ValueError("bad"))
    updater.advance(0.3)
    assert screen.count == 1
    if end == "session":
        screen.on_ended(backend, "shut down")
    elif end == "clear":
        screen.clear("unloaded")
    updater.advance(2.0 if end == "no page" else 0.1)
    assert "widget" not in frontend.updates[-1][1]
    assert state_of(frontend.updates[-1][1]["text/html"]) == "failed"
    assert widgets[0].discarded
    assert screen.count == 0


def test_a_refused_retry_says_why(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    backend.refusal = "its arguments are gone"
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.1)
    widgets[0].on_message("shown")
    backend.end(ref, "failed", ValueError("bad"))
    updater.advance(0.3)
    widgets[0].on_message("retry")
    updater.advance(0.3)
    assert "cannot be run again: its arguments are gone" in widgets[0].html
    assert widgets[0].state == "failed"


def test_all_failures_of_a_board_run_again_at_one_click(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    refs, widget = board(screen, backend, updater, widgets, 25)
    for number, ref in enumerate(refs):
        backend.end(ref, "failed" if number % 5 == 0 else "done", ValueError("bad"))
    updater.advance(0.3)
    widget.on_message("retry")
    updater.advance(0.3)
    assert len(backend.retried) == 5
    assert "5 pending, 20 resolved" in widget.html
    for ref in refs[::5]:
        backend.end(ref, "done", 1)
    updater.advance(0.3)
    assert widget.state == "resolved"


def test_the_number_of_lasting_widgets_is_bounded(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    refs = [backend.new_ref() for _ in range(40)]
    for ref in refs:
        screen.show_ref(ref)
        updater.advance(0.1)
        widgets[-1].on_message("shown")
        backend.end(ref, "failed", ValueError("bad"))
        updater.advance(0.3)
    assert len([widget for widget in widgets if not widget.discarded]) == 20
    screen.on_ended(backend, "the session was shut down")
    updater.advance(0.3)
    assert all(widget.discarded for widget in widgets)


# ------------------------------------------------------------------------------------------------ output and progress
# of tasks


def test_a_running_ref_shows_its_bars_and_its_last_lines(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.1)
    backend.update(ref, "running")
    screen.on_progress(backend, ProgressReport(0, "", ref._id, BarState(1, "epochs", 3, 10, "it", False)))
    screen.on_progress(backend, ProgressReport(0, "", ref._id, BarState(2, "<batches>", 1, None, "", False)))
    screen.on_output(backend, ref._id, "".join(f"line {number}\n" for number in range(20)))
    updater.advance(0.3)
    html = widgets[0].html
    assert 'aria-valuenow="3"' in html
    assert "3/10 it · 30%" in html
    assert "&lt;batches&gt;" in html
    assert "17 earlier lines of output" in html
    assert html.index("line 16") < html.index("line 17\nline 18\nline 19</pre>")


def test_a_task_record_is_bounded_and_counts_the_missing_lines() -> None:
    record = TaskRecord()
    for number in range(10_000):
        record.write(f"line {number}\n")
    assert len(record.text) <= 32_000
    assert record.lines_left_out + record.text.count("\n") == 10_000
    records = TaskRecords()
    for number in range(600):
        records.write("a session", ObjectId(number), "x")
    assert len(records._of_task) == 500


def test_an_inner_bar_that_closes_disappears_and_the_last_outer_one_stays() -> None:
    record = TaskRecord()
    record.set_bar(1, Bar("outer", 0, 2))
    record.set_bar(2, Bar("inner", 5, 5))
    record.set_bar(2, Bar("inner", 5, 5, "", True))
    assert list(record.bars) == [1]
    record.set_bar(3, Bar("inner", 1, 5))
    assert list(record.bars) == [1, 3]
    record.set_bar(1, Bar("outer", 2, 2, "", True))
    assert record.bars[1].closed


def test_frames_of_libraries_are_folded_behind_those_of_the_user() -> None:
    text = (
        "Traceback (most recent call last):\n"
        "  In [2], line 3, in load\n"
        "    json.loads(text)\n"
        '  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads\n'
        "    return _default_decoder.decode(s)\n"
        "           ^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        '  File "/usr/lib/python3.11/json/decoder.py", line 337, in decode\n'
        "    obj, end = self.raw_decode(s)\n"
        "ValueError: bad"
    )
    own = own_frames(text)
    assert own.splitlines() == [
        "Traceback (most recent call last):",
        "  In [2], line 3, in load",
        "    json.loads(text)",
        "  … 2 frames of libraries …",
        "ValueError: bad",
    ]
    assert own_frames(own) == ""
    html = ref_html(RefView("load#1", "failed", error=text))
    assert html.index("2 frames of libraries") < html.index("decoder.py")


def test_the_reason_of_a_pending_ref_is_asked_for_again(
    screen: Screen, backend: RetryingBackend, updater: ManualUpdater, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.1)
    asked: list[int] = []
    monkeypatch.setattr(backend, "watch", asked.extend)
    backend.update(ref, "ready", 0, "it waits for a free CPU")
    updater.advance(2.5)
    backend.update(ref, "ready", 0, "it waits for a worker")
    updater.advance(2.5)
    assert asked == [ref._id, ref._id]
    backend.end(ref, "done", 1)
    updater.advance(5)
    assert len(asked) == 2
