"""Bars of tqdm in a worker: the contents and the rate of reports, and the bars that are not reported."""

from __future__ import annotations

import gc
import importlib.util
import io
import os
from typing import Any

import pytest
import tqdm.std

from ipyremote.backend.reporter import BarState
from ipyremote.remote_cells.changes import Changes
from ipyremote.remote_cells.progress_bars import Bars
from tests.remote_cells.capture import Clock, Recorder


@pytest.fixture
def bars(recorder: Recorder) -> Bars[int]:
    return Bars(recorder, recorder.owner, recorder.capture, recorder.wake)


@pytest.fixture
def bar(bars: Bars[int], recorder: Recorder) -> Any:
    """An adapted copy of tqdm, which draws at each step, on the worker's stderr unless a test says otherwise."""
    spec = importlib.util.spec_from_file_location("tqdm.adapted", tqdm.std.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    bars._adapt(module, Changes())
    module.tqdm.monitor_interval = 0

    def make(*args: Any, **options: Any) -> Any:
        return module.tqdm(*args, **{"file": recorder.err, "mininterval": 0, "miniters": 1, **options})

    return make


def states(recorder: Recorder) -> list[tuple[int, float, bool]]:
    """Return number, amount and end of the bars reported since the last call; check that there was no text."""
    recorder.capture.send_late()
    sent = recorder.taken()
    assert all(isinstance(state, BarState) for _, state in sent)
    return [(state.number, state.done, state.closed) for _, state in sent]


def test_the_report_of_a_bar_has_description_amount_total_and_unit(bar: Any, recorder: Recorder) -> None:
    loop = bar(total=4, desc="load", unit="file")
    loop.set_postfix(loss=0.5)
    loop.update(4)
    loop.close()
    recorder.capture.send_late()
    first, last = recorder.taken()
    assert first == (7, BarState(1, "load", 0.0, 4.0, "file", False))
    assert last == (7, BarState(1, "load, loss=0.5", 4.0, 4.0, "file", True))


def test_a_bar_need_not_know_its_total_and_may_have_a_scale(bar: Any, recorder: Recorder) -> None:
    for _ in bar(iter("ab"), unit="B", unit_scale=0.5):
        pass
    recorder.capture.send_late()
    assert recorder.sent[-1] == (7, BarState(1, "", 1.0, None, "B", True))


def test_states_are_reported_ten_times_a_second_and_the_last_one_always(
    bar: Any, bars: Bars[int], recorder: Recorder, clock: Clock
) -> None:
    loop = bar(total=9)
    loop.update()
    loop.update()
    assert (states(recorder), recorder.wakes) == ([(1, 0.0, False)], 1)
    clock.now += 0.11
    assert not recorder.capture.send_late()
    assert states(recorder) == [(1, 2.0, False)]
    loop.update()
    loop.close()
    assert states(recorder) == [(1, 3.0, True)]
    recorder.capture.finish(7)
    assert states(recorder) == []


def test_outer_bars_have_smaller_numbers(bar: Any, recorder: Recorder) -> None:
    outer = bar(total=1)
    inner = bar(total=1)
    assert states(recorder) == [(1, 0.0, False), (2, 0.0, False)]
    inner.close()
    outer.close()
    assert states(recorder) == [(2, 0.0, True), (1, 0.0, True)]


def test_short_inner_bars_replace_one_another(bar: Any, recorder: Recorder) -> None:
    outer = bar(total=100)
    for _ in range(100):
        for _ in bar(range(2), leave=False):
            pass
    outer.close()
    recorder.capture.finish(7)
    assert states(recorder) == [
        (1, 0.0, False),
        (2, 0.0, False),
        (2, 2.0, True),
        (1, 0.0, True),
        (101, 2.0, True),
    ]


def test_bars_that_a_task_leaves_open_are_closed_as_they_are(bar: Any, recorder: Recorder) -> None:
    loop = bar(total=9, miniters=5)
    loop.update(3)
    assert recorder.capture.waiting
    recorder.capture.finish(7)
    assert states(recorder) == [(1, 0.0, False), (1, 3.0, True)]
    assert not recorder.capture.waiting


def test_a_bar_that_goes_on_in_another_task_is_a_new_bar(bar: Any, recorder: Recorder) -> None:
    loop = bar(total=9)
    recorder.capture.finish(7)
    recorder.task = 8
    loop.update(2)
    recorder.capture.finish(8)
    assert [(task, state.number, state.closed) for task, state in recorder.taken()] == [
        (7, 1, False),
        (7, 1, True),
        (8, 1, False),
        (8, 1, True),
    ]


def test_a_bar_that_is_collected_is_closed_later(bar: Any, recorder: Recorder) -> None:
    loop = bar(total=9)
    loop.n = 4
    recorder.taken()
    del loop
    gc.collect()
    assert recorder.sent == []
    assert states(recorder) == [(1, 4.0, True)]


def test_a_disabled_bar_is_not_reported(bar: Any, recorder: Recorder) -> None:
    assert list(bar(range(3), disable=True)) == [0, 1, 2]
    assert states(recorder) == []
    assert not recorder.capture.waiting


def test_a_bar_on_a_file_is_drawn_there(bar: Any, recorder: Recorder) -> None:
    file = io.StringIO()
    list(bar(range(3), file=file))
    assert "3/3" in file.getvalue()
    assert states(recorder) == []


def test_text_written_between_bars_is_text(bar: Any, recorder: Recorder) -> None:
    loop = bar(total=1)
    recorder.taken()
    loop.write("hello", file=recorder.out)
    recorder.capture.send_all()
    assert "".join(item[2] for item in recorder.taken() if len(item) == 3) == "hello\n"


def test_bars_are_drawn_in_a_process_that_user_code_forked(
    bar: Any, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    list(bar(range(3)))
    recorder.capture.send_all()
    assert "3/3" in "".join(text for _, _, text in recorder.taken())
