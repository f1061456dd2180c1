"""`install(shared=True)`: in a process that other code shares, only the output of tasks is reported."""

from __future__ import annotations

import builtins
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import IPython.core.display_functions as functions
import pytest
from tqdm import std

from ipyremote.remote_cells import Installation, install
from tests.remote_cells.capture import Recorder


@contextmanager
def shared(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Installation[int], io.StringIO]]:
    """The installation, and the stdout that the process had before."""
    # Not a fixture, because pytest replaces the streams between the phases of a test.
    former = io.StringIO()
    monkeypatch.setattr(sys, "stdout", former)
    monkeypatch.setattr(sys, "stderr", former)
    installation = install(recorder, shared=True)
    try:
        yield installation, former
    finally:
        installation.undo()
        assert sys.stdout is former


def test_text_of_tasks_is_reported_and_other_text_goes_to_the_former_stream(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(recorder, monkeypatch) as (installation, former):
        print("before")
        with installation.running(7):
            print("inside")
            assert not sys.stdout.isatty()
        print("after", flush=True)
    assert former.getvalue() == "before\nafter\n"
    assert recorder.taken() == [(7, "started"), (7, 1, "inside\n"), (7, "finished")]


def test_text_of_another_thread_belongs_to_no_task_while_a_task_runs(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(recorder, monkeypatch) as (installation, former), installation.running(7):
        other = threading.Thread(target=print, args=("of the program",))
        other.start()
        other.join()
        print("of the task")
    assert former.getvalue() == "of the program\n"
    assert (7, 1, "of the task\n") in recorder.taken()


def test_attributes_of_the_former_stream_can_be_read(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(recorder, monkeypatch) as (_, former):
        former.parent_header = {"of": "a kernel"}  # type: ignore[attr-defined]
        assert sys.stdout.parent_header == {"of": "a kernel"}  # type: ignore[union-attr]


def test_displays_of_tasks_are_reported_and_other_displays_are_as_before(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(builtins, "display", shown.append, raising=False)
    monkeypatch.setattr(functions, "publish_display_data", shown.append)
    with shared(recorder, monkeypatch) as (installation, _):
        builtins.display("of the program")  # type: ignore[attr-defined]
        functions.publish_display_data({"text/plain": "published"})
        assert shown == ["of the program", {"text/plain": "published"}]
        with installation.running(7):
            builtins.display("of the task")  # type: ignore[attr-defined]
            functions.publish_display_data({"text/plain": "of the task, too"})
    assert len(shown) == 2
    contents = [
        content["data"]["text/plain"] for _, content, *_ in recorder.taken() if isinstance(content, dict)
    ]
    assert contents == ["'of the task'", "of the task, too"]


def test_bars_of_tasks_are_reported_and_other_bars_are_drawn(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(recorder, monkeypatch) as (installation, former):
        for _ in std.tqdm(range(2), desc="program"):
            pass
        with installation.running(7):
            for _ in std.tqdm(range(2), desc="task"):
                pass
    assert "program: 100%" in former.getvalue()
    assert "task" not in former.getvalue()
    bars = [found[1] for found in recorder.taken() if len(found) == 2 and not isinstance(found[1], str)]
    assert [(bars[-1].description, bars[-1].done, bars[-1].closed)] == [("task", 2.0, True)]


@pytest.mark.parametrize("other", [{"redirect": True}, {"log": 1}])
def test_a_shared_process_cannot_follow_a_log(recorder: Recorder, other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only one of them"):
        install(recorder, shared=True, **other)
