"""The widget's Python side. Its JavaScript is tested under Node (`tests/javascript`) and in a browser."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import ipywidgets
import pytest

from ipyremote.notebook.display import widgets as module
from ipyremote.notebook.display.html import seconds_text
from ipyremote.notebook.display.widgets import WIDGET_MIME, LiveWidget


def instances() -> dict[str, ipywidgets.Widget]:
    return dict(ipywidgets.widgets.widget._instances)


def test_a_discarded_widget_leaves_no_comm_and_no_registration() -> None:
    before = instances()
    widget = LiveWidget("<b>1</b>", "pending", lambda kind, place: None)
    assert len(instances()) == len(before) + 2
    gone = weakref.ref(widget)
    widget.discard()
    del widget
    gc.collect()
    assert instances() == before
    assert gone() is None


def test_an_update_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = LiveWidget("<b>1</b>", "pending", lambda kind, place: None)
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(widget, "_send", lambda message, buffers=None: sent.append(message))
    widget.update("<b>2</b>", "running")
    widget.discard()
    assert [message["state"] for message in sent] == [{"html": "<b>2</b>", "state": "running"}]


def test_messages_of_the_front_end_are_handed_on_and_invalid_ones_dropped() -> None:
    seen: list[tuple[str, int]] = []
    widget = LiveWidget("", "pending", lambda kind, place: seen.append((kind, place)))
    for content in (
        {"kind": "cancel"},
        {"kind": "open", "place": 7},
        {"kind": "open", "place": "x"},
        {"kind": 3},
        {},
        "text",
        None,
    ):
        widget._handle_custom_msg(content, [])
    assert seen == [("cancel", -1), ("open", 7), ("open", -1)]
    widget.discard()


def test_an_error_of_a_click_handler_does_not_reach_the_kernel() -> None:
    def broken(kind: str, place: int) -> None:
        raise OSError

    widget = LiveWidget("", "pending", broken)
    widget._handle_custom_msg({"kind": "cancel"}, [])
    widget.discard()


def test_the_bundle_refers_to_the_widget_and_its_repr_is_always_the_same() -> None:
    widget = LiveWidget("", "pending", lambda kind, place: None)
    bundle = widget.bundle({"text/plain": "x"})
    assert bundle["text/plain"] == "x"
    assert bundle[WIDGET_MIME]["model_id"] == widget.model_id
    assert repr(widget) == "LiveWidget()"
    json.dumps(bundle)
    widget.discard()


def test_the_front_end_needs_nothing_from_the_network() -> None:
    static = Path(module.__file__).parents[1] / "static"
    for name in ("remote.js", "remote.css"):
        text = (static / name).read_text(encoding="utf-8")
        assert "http" not in text
        assert "import " not in text
        assert "@import" not in text
        assert "eval" not in text


def test_python_and_javascript_know_the_same_durations() -> None:
    text = (Path(module.__file__).parents[1] / "static" / "remote.js").read_text(encoding="utf-8")
    for limit in ("0.9995", "59.95", "3600"):
        assert limit in text
    assert seconds_text(59.95) == "0 min 59 s"
