"""What user code displays in a worker: which messages come of it, and when."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import pytest

from ipyremote.messages import decode_content
from ipyremote.remote_cells import display as module
from ipyremote.remote_cells.display import Displays
from tests.remote_cells.capture import Clock, Recorder


@pytest.fixture
def displays(recorder: Recorder) -> Displays:
    def send(task_id: int, content: bytes) -> None:
        recorder.sent.append((task_id, decode_content(content)))

    return Displays(recorder.owner, recorder.capture, send, recorder.wake)


def shown(recorder: Recorder) -> list[Any]:
    """Kind and text of what was displayed since the last call."""
    return [(content["kind"], content["data"].get("text/plain")) for _, content in recorder.taken()]


class Rich:
    def _repr_html_(self) -> str:
        return "<i>rich</i>"

    def __repr__(self) -> str:
        return "rich"


class Silent:
    def _ipython_display_(self) -> None:
        """It shows itself, or not."""


def test_a_value_goes_out_with_all_its_looks(displays: Displays, recorder: Recorder) -> None:
    displays.display(Rich(), metadata={"a": 1})
    data = {"text/plain": "rich", "text/html": "<i>rich</i>"}
    content = {"kind": "display_data", "data": data, "metadata": {"a": 1}, "transient": {}}
    assert recorder.sent == [(7, content)]
    displays.display(Rich(), include=["text/plain"])
    assert recorder.sent[-1][1]["data"] == {"text/plain": "rich"}


def test_several_values_are_several_displays(displays: Displays, recorder: Recorder) -> None:
    displays.display(1, Silent(), [2])
    assert shown(recorder) == [("display_data", "1"), ("display_data", "[2]")]


def test_text_that_was_printed_before_comes_before(displays: Displays, recorder: Recorder) -> None:
    recorder.out.write("unfinished")
    displays.display(1)
    assert recorder.sent[0] == (7, 1, "unfinished")
    assert recorder.sent[1][1]["data"] == {"text/plain": "1"}


def test_a_raw_bundle_goes_out_as_it_is(displays: Displays, recorder: Recorder) -> None:
    displays.display({"image/png": b"abc", "text/plain": "x\udcff"}, raw=True)
    assert recorder.sent[0][1]["data"] == {"image/png": "YWJj", "text/plain": "x?"}


def test_clearing_precedes_what_replaces_it(displays: Displays, recorder: Recorder) -> None:
    displays.display(1, clear=True)
    first, second = recorder.sent
    assert (first[1]["kind"], first[1]["wait"], second[1]["kind"]) == ("clear_output", True, "display_data")


def test_updates_go_out_ten_times_a_second_and_the_last_one_always(
    displays: Displays, recorder: Recorder, clock: Clock
) -> None:
    handle = displays.display(0, display_id=True)
    assert shown(recorder) == [("display_data", "0")]
    for number in (1, 2):
        displays.display(number, display_id=handle.display_id, update=True)
    assert (shown(recorder), recorder.wakes) == ([], 1)
    assert displays.send_late()
    clock.now += 0.11
    assert not displays.send_late()
    assert shown(recorder) == [("update_display_data", "2")]
    displays.display(3, display_id=handle.display_id, update=True)
    assert (shown(recorder), recorder.capture.waiting) == ([], True)
    recorder.capture.finish(7)
    assert shown(recorder) == [("update_display_data", "3")]
    assert not recorder.capture.waiting


def test_an_update_needs_to_know_of_what(displays: Displays) -> None:
    with pytest.raises(TypeError, match="display_id required"):
        displays.display(1, update=True)


def test_what_is_far_too_large_is_not_sent(
    displays: Displays, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 1000)
    displays.display("x" * 2000)
    assert shown(recorder) == [("display_data", "(not shown: 0 MB are too much to display)")]


def test_ipythons_own_functions_publish_here(displays: Displays, recorder: Recorder) -> None:
    functions = ModuleType("functions")
    displays._adapt(functions)
    functions.publish_display_data({"text/plain": "x"}, transient={"display_id": "a"})
    functions.clear_output(True)
    assert [content["kind"] for _, content in recorder.sent] == ["display_data", "clear_output"]


def test_without_ipython_it_prints(
    displays: Displays, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_imported", lambda: None)
    assert displays.display(Rich(), 1) is None
    assert capsys.readouterr().out == "rich\n1\n"


def test_a_process_that_user_code_forked_prints(
    displays: Displays,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = os.getpid()
    monkeypatch.setattr(module.os, "getpid", lambda: here + 1)
    displays.display(Rich())
    assert (recorder.sent, capsys.readouterr().out) == ([], "rich\n")
