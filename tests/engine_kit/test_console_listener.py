"""The displays and progress bars of tasks in a plain program."""

from __future__ import annotations

import json

import pytest

from ipyremote import messages as m
from ipyremote.client.listener_dispatch import deliver
from ipyremote.engine_kit.console_listener import PlainListener
from ipyremote.ids import ObjectId


def displayed(kind: str, **data: str) -> m.DisplayContent:
    bundle = {name.replace("_", "/"): text for name, text in data.items()}
    return m.DisplayContent(1, "f#1", ObjectId(7), json.dumps({"kind": kind, "data": bundle}).encode())


def bar(number: int, done: float, total: float = 3.0, *, closed: bool = True) -> m.ProgressUpdate:
    return m.ProgressUpdate(1, "f#1", ObjectId(7), number, f"bar {number}", done, total, "it", closed)


def test_the_text_of_a_display_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    listener = PlainListener()
    deliver(m.OutputText(1, "f#1", 1, "before\n", ObjectId(7)), listener)
    deliver(displayed("display_data", text_plain="[1,\n 2]", text_html="<b>1</b>"), listener)
    deliver(displayed("display_data", image_png="abc"), listener)
    deliver(displayed("update_display_data", text_plain="later"), listener)
    deliver(displayed("clear_output"), listener)
    assert capsys.readouterr().out == "(f#1) before\n(f#1) [1,\n(f#1)  2]\n"


def test_an_outermost_bar_is_printed_as_one_line_when_closed(capsys: pytest.CaptureFixture[str]) -> None:
    listener = PlainListener()
    for update in (
        bar(1, 0.0, closed=False),
        bar(2, 0.0, closed=False),
        bar(2, 3.0),
        bar(3, 3.0),
        bar(1, 2.0),
        bar(4, 5.0, total=-1.0),
    ):
        deliver(update, listener)
    captured = capsys.readouterr()
    assert captured.err == "(f#1) bar 1: 2/3\n(f#1) bar 4: 5\n"
    assert captured.out == ""
    assert listener._bars == {}
