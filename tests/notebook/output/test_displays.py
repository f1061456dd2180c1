"""Displays of tasks appear under the cell that started the task, behind text that was printed before."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote.backend import DisplayReport, TextReport
from ipyremote.ids import ObjectId
from ipyremote.notebook.output.cell_output import CellOutput, CellRuns
from ipyremote.notebook.output.frontend import KernelFrontend, TerminalFrontend
from tests.notebook.fakes import Clock, FakeFrontend, ManualUpdater

SHOWN: dict[str, Any] = {
    "kind": "display_data",
    "data": {"text/plain": "1", "text/html": "<b>1</b>"},
    "metadata": {"a": 1},
    "transient": {"display_id": "x"},
}


class FakeKernel:
    """A kernel that is its own session and remembers messages."""

    def __init__(self) -> None:
        self.kernel = self.session = self
        self.iopub_socket = None
        #: (message type, content, parent, topic)
        self.messages: list[tuple[str, dict[str, Any], dict[str, Any], str]] = []

    def _topic(self, name: str) -> str:
        return name

    def send(
        self, socket: None, kind: str, content: dict[str, Any], *, parent: dict[str, Any], ident: str
    ) -> None:
        self.messages.append((kind, content, parent, ident))


def test_collected_text_is_sent_before_a_display(
    frontend: FakeFrontend, updater: ManualUpdater, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = CellRuns()
    cells.begin({"cell": 1}, 1)
    output = CellOutput(frontend, cells, updater, clock)
    cells.begin({"cell": 2}, 2)
    for _ in range(300):
        output.on_output(TextReport(1, "f#1", 1, "x\n"))
    before = len(frontend.text())
    assert before < 300 * len("(f#1) x\n"), "a flood is collected"
    output.on_display(DisplayReport(1, "f#1", ObjectId(1), SHOWN))
    assert len(frontend.text()) == 300 * len("(f#1) x\n")
    assert frontend.contents == [(SHOWN, {"cell": 1})]


def test_a_kernel_sends_displays_of_tasks_with_the_parent_of_their_cell() -> None:
    kernel = FakeKernel()
    frontend = KernelFrontend(kernel)
    frontend.content({"cell": 1}, SHOWN)
    frontend.content({"cell": 1}, {**SHOWN, "kind": "update_display_data"})
    frontend.content({"cell": 1}, {"kind": "clear_output", "wait": True})
    content = {name: SHOWN[name] for name in ("data", "metadata", "transient")}
    assert kernel.messages == [
        ("display_data", content, {"cell": 1}, "display_data"),
        ("update_display_data", content, {"cell": 1}, "display_data"),
        ("clear_output", {"wait": True}, {"cell": 1}, "clear_output"),
    ]


def test_a_terminal_prints_the_text_and_no_updates(capsys: pytest.CaptureFixture[str]) -> None:
    frontend = TerminalFrontend()
    frontend.content({}, SHOWN)
    frontend.content({}, {**SHOWN, "kind": "update_display_data"})
    frontend.content({}, {"kind": "clear_output"})
    assert capsys.readouterr().out == "1\n"
