"""Output of tasks: the cell below which it appears, labels of lines, order, floods, and text that is held back."""

from __future__ import annotations

import pytest

from ipyremote.backend import TextReport
from ipyremote.notebook.output.cell_output import CellOutput, CellRuns
from tests.notebook.fakes import Clock, FakeFrontend, ManualUpdater


@pytest.fixture
def cells() -> CellRuns:
    return CellRuns()


@pytest.fixture
def output(frontend: FakeFrontend, cells: CellRuns, updater: ManualUpdater, clock: Clock) -> CellOutput:
    cells.begin({"cell": 1}, 1)
    return CellOutput(frontend, cells, updater, clock)


def test_text_goes_to_the_cell_that_asked_although_another_one_runs(
    output: CellOutput, cells: CellRuns, frontend: FakeFrontend
) -> None:
    cells.begin({"cell": 2}, 2)
    output.on_output(TextReport(1, "f#1", 1, "one\n"))
    output.on_output(TextReport(2, "g#1", 2, "two\n"))
    assert frontend.streams == [
        ("stdout", "(f#1) one\n", {"cell": 1}),
        ("stderr", "(g#1) two\n", {"cell": 2}),
    ]


def test_text_of_a_forgotten_cell_appears_under_the_latest_cell(
    output: CellOutput, cells: CellRuns, frontend: FakeFrontend
) -> None:
    for number in range(2, 1_500):
        cells.begin({"cell": number}, number)
    output.on_output(TextReport(1, "f#1", 1, "late\n"))
    assert frontend.streams[0][2] == {"cell": 1_499}


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([("f#1", "a\nb\n")], "(f#1) a\n(f#1) b\n"),
        ([("f#1", "a"), ("f#1", "b\n"), ("f#1", "c\n")], "(f#1) ab\n(f#1) c\n"),
        ([("f#1", "a"), ("g#1", "b\n")], "(f#1) a\n(g#1) b\n"),
        ([("f#1", "a"), ("g#1", "b"), ("f#1", "c")], "(f#1) a\n(g#1) b\n(f#1) c"),
        ([("f#1", "a\n\nb\n")], "(f#1) a\n\n(f#1) b\n"),
        ([("f#1", "\nb\n")], "\n(f#1) b\n"),
        ([("f#1", "10%\r20%\r\n")], "(f#1) 10%\r(f#1) 20%\r\n"),
        ([("f#1", "\r10%"), ("f#1", "\r20%")], "\r(f#1) 10%\r(f#1) 20%"),
        ([("f#1", "10%\r"), ("f#1", "20%\r")], "(f#1) 10%\r(f#1) 20%\r"),
        ([("%%remote#1", "a\nb\n"), ("f#1", "c\n")], "a\nb\n(f#1) c\n"),
        ([("%%remote x#1", "a"), ("f#1", "c\n")], "a\n(f#1) c\n"),
        ([("", "a\n")], "a\n"),
        ([("f#1", "")], ""),
    ],
)
def test_lines_begin_with_the_label_of_their_task(
    output: CellOutput, frontend: FakeFrontend, chunks: list[tuple[str, str]], shown: str
) -> None:
    for label, text in chunks:
        output.on_output(TextReport(1, label, 1, text))
    assert frontend.text() == shown


def test_text_is_shown_before_on_output_returns(output: CellOutput, frontend: FakeFrontend) -> None:
    for number in range(200):
        output.on_output(TextReport(1, "f#1", 1, f"{number}\n"))
        assert frontend.streams[-1][1] == f"(f#1) {number}\n"


def test_a_flood_of_text_is_collected_without_loss_and_in_order(
    output: CellOutput, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    for number in range(5_000):
        output.on_output(TextReport(1, "%%remote#1", 1, f"{number}\n"))
        if number % 100 == 0:
            updater.advance(0.01)
    updater.advance(0.2)
    assert len(frontend.streams) < 300
    assert frontend.text() == "".join(f"{number}\n" for number in range(5_000))
    assert updater.idle


def test_flush_sends_collected_text(output: CellOutput, frontend: FakeFrontend) -> None:
    for _ in range(300):
        output.on_output(TextReport(1, "%%remote#1", 1, "x"))
    assert len(frontend.text()) < 300
    output.flush()
    assert frontend.text() == "x" * 300


def test_text_above_the_limit_of_a_cell_is_held_back_and_counted_in_a_note(
    output: CellOutput, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    line = "x" * 999 + "\n"
    for _ in range(1_500):
        output.on_output(TextReport(1, "%%remote#1", 1, line))
    output.on_output(TextReport(2, "%%remote#2", 1, "another cell\n"))
    updater.advance(2.0)
    assert len(frontend.text()) == 1_000_000 + len("another cell\n")
    assert len(frontend.displays) == 1
    note = frontend.updates[-1][1]["text/plain"]
    assert "500 lines, 500,000 characters" in note
    assert updater.idle


def test_a_notice_is_shown_once_under_its_cell(output: CellOutput, frontend: FakeFrontend) -> None:
    output.on_notice(1, "f#1 needs 4 GPUs")
    output.on_notice(1, "f#1 needs 4 GPUs")
    assert frontend.streams == [("stderr", "ipyremote: f#1 needs 4 GPUs\n", {"cell": 1})]
