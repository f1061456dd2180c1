"""Displays of user code in a worker: the contents and the times of reports."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ipyremote.messages import decode_content
from ipyremote.remote_cells import display as module
from ipyremote.remote_cells.changes import Changes
from ipyremote.remote_cells.display import Displays
from tests.remote_cells.capture import Clock, Recorder


@pytest.fixture
def displays(recorder: Recorder) -> Displays[int]:
    return Displays(recorder, recorder.owner, recorder.capture, recorder.wake)


def shown(recorder: Recorder) -> list[Any]:
    """Return the kind and the text of each display since the last call."""
    return [(content["kind"], content["data"].get("text/plain")) for _, content in recorder.taken()]


class Rich:
    def _repr_html_(self) -> str:
        return "<i>rich</i>"

    def __repr__(self) -> str:
        return "rich"


class Silent:
    def _ipython_display_(self) -> None:
        """Display nothing, as an object that displays itself by other means."""


def test_a_value_is_reported_with_all_its_representations(
    displays: Displays[int], recorder: Recorder
) -> None:
    displays.display(Rich(), metadata={"a": 1})
    data = {"text/plain": "rich", "text/html": "<i>rich</i>"}
    content = {"kind": "display_data", "data": data, "metadata": {"a": 1}, "transient": {}}
    assert recorder.sent == [(7, content)]
    displays.display(Rich(), include=["text/plain"])
    assert recorder.sent[-1][1]["data"] == {"text/plain": "rich"}


def test_several_values_are_several_displays(displays: Displays[int], recorder: Recorder) -> None:
    displays.display(1, Silent(), [2])
    assert shown(recorder) == [("display_data", "1"), ("display_data", "[2]")]


def test_text_that_was_printed_before_a_display_is_reported_before_the_display(
    displays: Displays[int], recorder: Recorder
) -> None:
    recorder.out.write("unfinished")
    displays.display(1)
    assert recorder.sent[0] == (7, 1, "unfinished")
    assert recorder.sent[1][1]["data"] == {"text/plain": "1"}


def test_a_raw_bundle_is_reported_unchanged(displays: Displays[int], recorder: Recorder) -> None:
    displays.display({"image/png": b"abc", "text/plain": "x\udcff"}, raw=True)
    assert recorder.sent[0][1]["data"] == {"image/png": "YWJj", "text/plain": "x?"}


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (np.arange(2), [0, 1]),
        (np.float32(1.5), 1.5),
        (float("nan"), None),
        ({1: {2}}, {"1": [2]}),
        (memoryview(b"abc"), "YWJj"),
        (datetime.date(2024, 5, 6), "2024-05-06"),
        (Point(3), {"x": 3}),
        ({"a": (float("inf"), "\udcff", None, True)}, {"a": [None, "?", None, True]}),
        (Path("/a"), "/a"),
    ],
)
def test_values_that_json_cannot_write_become_similar_values(
    displays: Displays[int], recorder: Recorder, value: Any, meaning: Any
) -> None:
    displays.display({"application/json": value}, raw=True)
    assert recorder.sent[0][1]["data"] == {"application/json": meaning}


def test_clearing_is_reported_before_the_next_display(displays: Displays[int], recorder: Recorder) -> None:
    displays.display(1, clear=True)
    first, second = recorder.sent
    assert (first[1]["kind"], first[1]["wait"], second[1]["kind"]) == ("clear_output", True, "display_data")


def test_updates_are_reported_ten_times_a_second_and_the_last_one_always(
    displays: Displays[int], recorder: Recorder, clock: Clock
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


def test_an_update_needs_a_display_id(displays: Displays[int]) -> None:
    with pytest.raises(TypeError, match="display_id required"):
        displays.display(1, update=True)


def test_a_display_that_is_too_large_is_replaced_by_a_note(
    displays: Displays[int], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISPLAY_LIMIT", 1000)
    displays.display("x" * 2000)
    assert shown(recorder) == [("display_data", "(not shown: 0 MB are too much to display)")]


def test_ipythons_own_functions_publish_to_the_displays(displays: Displays[int], recorder: Recorder) -> None:
    functions = ModuleType("functions")
    original = functions.clear_output = lambda wait: None  # type: ignore[attr-defined]  # a module of our own
    changes = Changes()
    displays._adapt(functions, changes)
    functions.publish_display_data({"text/plain": "x"}, transient={"display_id": "a"})
    functions.clear_output(True)
    assert [content["kind"] for _, content in recorder.sent] == ["display_data", "clear_output"]
    changes.undo()
    assert functions.clear_output is original
    assert not hasattr(functions, "display")


def test_display_prints_if_ipython_is_not_installed(
    displays: Displays[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_imported", lambda: None)
    assert displays.display(Rich(), 1) is None
    assert capsys.readouterr().out == "rich\n1\n"


def test_display_prints_in_a_process_that_user_code_forked(
    displays: Displays[int],
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    displays.display(Rich())
    assert (recorder.sent, capsys.readouterr().out) == ([], "rich\n")


def test_the_content_of_a_display_survives_encoding() -> None:
    content = {
        "kind": "display_data",
        "data": {"image/png": b"\x89PNG", "text/plain": "größe", "n": {1: float("nan")}},
        "transient": {"display_id": "a"},
    }
    assert decode_content(module._encoded(content)) == {
        "kind": "display_data",
        "data": {"image/png": "iVBORw==", "text/plain": "größe", "n": {"1": None}},
        "transient": {"display_id": "a"},
    }
