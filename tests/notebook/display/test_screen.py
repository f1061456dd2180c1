"""Live displays, with a backend that runs nothing and a clock that the tests set."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from ipyremote.exceptions import TaskError
from ipyremote.ids import ObjectId
from ipyremote.notebook.display.html import ClusterView
from ipyremote.notebook.display.screen import Screen
from ipyremote.refs import ObjectRef
from tests.notebook.fakes import Clock, FakeBackend, FakeFrontend, FakeWidget, ManualUpdater, Reports


@pytest.fixture
def plain(frontend: FakeFrontend, updater: ManualUpdater, clock: Clock, backend: FakeBackend) -> Screen:
    """A screen without widgets."""
    screen = Screen(frontend, updater, lambda: {"cell": "latest"}, clock=clock)
    backend.listen(Reports(backend, screen))
    return screen


def state_of(html: str) -> str:
    return html.split('data-state="')[1].split('"')[0]


def test_a_ref_goes_from_pending_over_running_to_static_html(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    ((display_id, first),) = frontend.displays
    assert first["text/plain"] == "ObjectRef(square#1)"
    assert state_of(first["text/html"]) == "pending"
    assert "widget" in first
    updater.advance(0.1)
    backend.update(ref, "ready", 0, "it waits for a free CPU")
    updater.advance(0.2)
    assert "it waits for a free CPU" in widgets[0].html
    backend.update(ref, "running")
    updater.advance(0.2)
    assert widgets[0].state == "running"
    backend.end(ref, "done", [1, 2], 1.5)
    updater.advance(0.2)
    final_id, final, parent = frontend.updates[-1]
    assert final_id == display_id
    assert parent == {"cell": "latest"}
    assert final.keys() == {"text/plain", "text/html"}
    assert state_of(final["text/html"]) == "resolved"
    assert "<pre>[1, 2]</pre>" in final["text/html"]
    assert "1.5 s" in final["text/html"]
    assert widgets[0].discarded
    assert screen.count == 0


def test_a_preview_is_a_task_without_cpu_or_retries_and_is_released(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    backend.end(ref, "done", 9)
    updater.advance()
    ((object_id, label, _, args, options),) = backend.submitted
    assert label == "_preview#1"
    assert args == (ref,)
    assert (options.resources, options.max_retries) == ((), 0)
    assert list(backend.released) == [object_id]


def test_a_ref_that_has_ended_is_static_at_once(frontend: FakeFrontend, backend: FakeBackend) -> None:
    from ipyremote.notebook.display.updater import Updater

    updater = Updater()
    screen = Screen(frontend, updater, dict)
    backend.listen(Reports(backend, screen))
    ref = backend.new_ref()
    backend.end(ref, "done", 9)
    screen.show_ref(ref)
    updater.close()
    ((display_id, bundle),) = frontend.displays
    assert display_id is None
    assert state_of(bundle["text/html"]) == "resolved"
    assert "<pre>9</pre>" in bundle["text/html"]
    assert frontend.updates == []
    assert screen.count == 0


def test_html_that_a_value_has_of_itself_is_sanitised_before_it_is_shown(
    plain: Screen, frontend: FakeFrontend, updater: ManualUpdater, backend: FakeBackend
) -> None:
    class Hostile(pd.DataFrame):
        def _repr_html_(self) -> str:
            return (
                "<script>alert(1)</script><style>body{display:none}</style>"
                '<b onclick="alert(2)">bold</b><a href="javascript:alert(3)">link</a><img src=x onerror="alert(4)">'
            )

    ref = backend.new_ref()
    plain.show_ref(ref)
    updater.advance(0.1)
    backend.end(ref, "done", Hostile({"a": [1]}))
    updater.advance(1)
    html = frontend.updates[-1][1]["text/html"]
    assert '<div class="ipyremote-table"><b>bold</b>link<img></div>' in html
    assert "alert" not in html
    assert "display:none" not in html


def test_a_failure_shows_its_traceback(
    screen: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    trace = "Traceback (most recent call last):\n  In [3]\nValueError: <bad>\n"
    backend.end(ref, "failed", TaskError("square#1", ValueError("<bad>"), trace))
    updater.advance(0.2)
    html = frontend.updates[-1][1]["text/html"]
    assert state_of(html) == "failed"
    assert "<summary>ValueError: &lt;bad&gt;</summary>" in html
    assert "In [3]</pre>" in html
    assert html.count("bad") == 1
    assert backend.submitted == []


def test_a_cancelled_ref_shows_that_it_was_cancelled(
    screen: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    backend.end(ref, "cancelled", RuntimeError("square#1 was cancelled"))
    updater.advance(0.2)
    html = frontend.updates[-1][1]["text/html"]
    assert state_of(html) == "cancelled"
    assert "square#1 was cancelled" in html


def test_a_click_on_cancel_is_carried_out_by_the_updater_only(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    widgets[0].on_message("cancel")
    assert backend.cancelled == []
    updater.advance()
    assert backend.cancelled == [ref._id]


def test_a_display_sends_at_most_ten_updates_a_second_and_always_the_last_one(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    widgets[0].on_message("shown")
    for number in range(1_000):
        backend.update(ref, "running", 0, f"step {number}")
        updater.advance(0.001)
    assert len(widgets[0].updates) <= 12
    updater.advance(0.2)
    assert "step 999" in widgets[0].html
    assert updater.idle


def test_an_end_is_sent_at_once_even_right_after_another_update(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(0.001)
    backend.update(ref, "running")
    updater.advance(0.001)
    assert "running" == widgets[0].state
    backend.end(ref, "done", 9)
    updater.advance(0.001)
    assert "resolved" == state_of(frontend.updates[-1][1]["text/html"])


def test_data_for_a_page_counts_towards_the_rate_of_its_display(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(1)
    (shown,) = screen._publisher.live
    screen.send_data(shown, {"kind": "spans", "spans": ["x" * 100_000]})
    updater.advance(0.01)
    backend.update(ref, "running")
    updater.advance(0.9)
    assert "pending" == widgets[0].state
    updater.advance(0.2)
    assert "running" == widgets[0].state


def test_until_a_front_end_answers_the_html_is_updated_beside_the_widget(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance(1.1)
    backend.update(ref, "running")
    updater.advance(0.2)
    assert state_of(frontend.updates[-1][1]["text/html"]) == "running"
    assert "widget" in frontend.updates[-1][1]
    widgets[0].on_message("shown")
    before = len(frontend.updates)
    updater.advance(2)
    backend.update(ref, "running", 2, "more")
    updater.advance(0.2)
    assert len(frontend.updates) == before


def test_without_widgets_the_html_itself_is_updated(
    plain: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    plain.show_ref(ref)
    updater.advance(0.2)
    backend.update(ref, "running")
    updater.advance(0.2)
    backend.end(ref, "done", 1)
    updater.advance(0.2)
    states = [state_of(bundle["text/html"]) for _, bundle, _ in frontend.updates]
    assert [states[-2], states[-1]] == ["running", "resolved"]
    assert {display_id for display_id, _, _ in frontend.updates} == {frontend.displays[0][0]}


def test_ten_thousand_displayed_refs_leave_no_records(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    refs = [backend.new_ref() for _ in range(10_000)]
    last = weakref.ref(refs[-1])
    for ref in refs:
        screen.show_ref(ref)
    updater.advance()
    assert len(widgets) == 50
    for ref in refs:
        backend.end(ref, "done", 1)
    del refs, ref
    start = updater.clock.now
    while not updater.idle:
        updater.advance(1.0)
        sent = len(frontend.updates) + len([widget for widget in widgets if widget.discarded])
        assert sent <= 100 + 200 * (updater.clock.now - start) + 1
    final = {display_id: bundle for display_id, bundle, _ in frontend.updates}
    assert len(final) == 10_000
    assert all(state_of(bundle["text/html"]) == "resolved" for bundle in final.values())
    assert all(widget.discarded for widget in widgets)
    assert screen.count == 0
    backend.submitted.clear()
    gc.collect()
    assert last() is None
    assert len(backend.released) == 20_000
    assert (
        screen._subscriptions._of,
        screen._publisher._sender.dirty,
        screen._widgets.count,
        screen._previewer._open,
    ) == (
        {},
        {},
        0,
        {},
    )


def test_a_list_is_one_board_with_failures_first(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    refs = [backend.new_ref() for _ in range(30)]
    screen.show_board([*refs, refs[0]])
    updater.advance()
    assert len(frontend.displays) == len(widgets) == 1
    assert frontend.displays[0][1]["text/plain"].startswith("[ObjectRef(square#1), ObjectRef(square#2)")
    assert frontend.displays[0][1]["text/plain"].endswith("and 11 more]")
    for ref in refs[:10]:
        backend.update(ref, "running")
    backend.end(refs[3], "failed", ValueError("bad"))
    updater.advance(0.2)
    assert "20 pending, 9 running, 1 failed" in widgets[0].html
    assert re.search(r"square#4</span>.*failed.*bad", widgets[0].html)
    for ref in refs:
        if ref is not refs[3]:
            backend.end(ref, "done", 1)
    updater.advance(0.2)
    assert state_of(frontend.updates[-1][1]["text/html"]) == "failed"
    assert "29 resolved, 1 failed" in frontend.updates[-1][1]["text/html"]
    assert backend.submitted == []
    assert screen.count == 0


def test_the_same_ref_may_be_shown_twice(
    screen: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    screen.show_ref(ref)
    updater.advance()
    backend.end(ref, "done", 1)
    updater.advance(0.2)
    finals = [bundle for _, bundle, _ in frontend.updates if state_of(bundle["text/html"]) == "resolved"]
    assert len(finals) == 2


def test_the_end_of_the_session_ends_its_displays(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    screen.show_ref(backend.new_ref())
    screen.show_board([backend.new_ref(), backend.new_ref()])
    updater.advance()
    screen.on_ended(backend, "the session was shut down")
    updater.advance(0.2)
    finals = [bundle["text/html"] for _, bundle, _ in frontend.updates[-2:]]
    assert [state_of(html) for html in finals] == ["lost", "lost"]
    assert all("the session was shut down" in html for html in finals)
    assert all(widget.discarded for widget in widgets)
    assert screen.count == 0


def test_a_ref_of_an_ended_session_is_shown_as_such(
    screen: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    ref = backend.new_ref()
    backend.shutdown()
    screen._updater = _Eager(updater)  # The cell waits for the preview, so the updater has to run here.
    screen.show_ref(ref)
    assert state_of(frontend.displays[0][1]["text/html"]) == "lost"
    assert screen.count == 0


def test_a_nil_ref_can_be_shown(screen: Screen, frontend: FakeFrontend, updater: ManualUpdater) -> None:
    screen._updater = _Eager(updater)
    screen.show_ref(ObjectRef.nil())
    assert state_of(frontend.displays[0][1]["text/html"]) == "lost"


def test_a_preview_that_never_comes_does_not_hold_up_the_end(
    screen: Screen, backend: FakeBackend, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    backend.previews = False
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    backend.end(ref, "done", 1)
    updater.advance(5)
    assert screen.count == 1
    updater.advance(40)
    assert "no preview: it took too long" in frontend.updates[-1][1]["text/html"]
    assert screen.count == 0
    backend._settle(ObjectId(backend.submitted[0][0]), "done", {"type": "int"})
    updater.advance(1)
    assert list(backend.released) == [backend.submitted[0][0]]
    assert updater.idle


def test_in_static_mode_a_display_waits_and_shows_no_times(
    frontend: FakeFrontend, backend: FakeBackend
) -> None:
    from ipyremote.notebook.display.updater import Updater

    updater = Updater()
    screen = Screen(frontend, updater, dict, static=lambda: True)
    backend.listen(Reports(backend, screen))
    ref = backend.new_ref()
    updater.call_later(0.05, backend.update, ref, "running")
    updater.call_later(0.1, backend.end, ref, "done", 9, 3.2)
    screen.show_ref(ref)
    updater.close()
    ((display_id, bundle),) = frontend.displays
    assert display_id is None
    assert state_of(bundle["text/html"]) == "resolved"
    assert "3.2 s" not in bundle["text/html"]
    assert frontend.updates == []


def test_an_interrupt_while_a_display_waits_leaves_nothing(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(screen._frontend, "display", interrupted)
    with pytest.raises(KeyboardInterrupt):
        screen.show_ref(backend.new_ref())
    updater.advance()
    assert screen.count == 0
    assert backend.watched == set()


def test_the_cluster_card_turns_ready(plain: Screen, frontend: FakeFrontend, updater: ManualUpdater) -> None:
    card = plain.new_cluster_card()
    plain.show_cluster(card)
    assert state_of(frontend.displays[0][1]["text/html"]) == "starting"
    updater.advance()
    plain.set_cluster(card, ClusterView("ready", (("CPUs", "4"),)))
    updater.advance(0.2)
    assert state_of(frontend.updates[-1][1]["text/html"]) == "ready"
    assert "CPUs 4" in frontend.updates[-1][1]["text/html"]
    assert plain.count == 0


def test_clear_makes_every_display_final_at_once(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    for _ in range(300):
        screen.show_ref(backend.new_ref())
    updater.advance()
    screen.clear("unloaded")
    updater.advance()
    assert screen.count == 0
    assert all(widget.discarded for widget in widgets)
    assert len(frontend.updates) >= 300


class _Eager:
    """An updater that runs functions at once."""

    def __init__(self, updater: ManualUpdater) -> None:
        self._updater = updater

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        fn(*args)

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> None:
        self._updater.call_later(seconds, fn, *args)


def test_a_card_tells_of_the_end_of_its_cluster_and_of_the_next_one(
    screen: Screen, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    card = screen.new_cluster_card()
    screen.show_cluster(card)
    screen.set_cluster(card, ClusterView("ready"))
    updater.advance(0.2)
    assert screen.count == 0
    for state in ("stopped", "starting", "ready", "lost"):
        screen.set_cluster(card, ClusterView(state))
        updater.advance(0.2)
        assert state_of(frontend.updates[-1][1]["text/html"]) == state
    assert {display_id for display_id, _, _ in frontend.updates} == {frontend.displays[0][0]}


def test_a_card_that_is_ready_before_it_is_shown_is_final(
    screen: Screen, frontend: FakeFrontend, updater: ManualUpdater
) -> None:
    card = screen.new_cluster_card()
    screen.set_cluster(card, ClusterView("ready"))
    updater.advance(0.2)
    screen.show_cluster(card)
    updater.advance(0.2)
    assert screen.count == 0


def test_a_small_board_lists_its_refs_with_their_states(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    refs = [backend.new_ref() for _ in range(3)]
    screen.show_board(refs)
    updater.advance()
    backend.update(refs[0], "running")
    backend.end(refs[2], "failed", ValueError("bad"))
    updater.advance(0.2)
    found = re.findall(r'"listitem" data-state="(\w+)".*?ipyremote-label">([^<>]*)</span>', widgets[0].html)
    assert found == [("failed", "square#3"), ("running", "square#1"), ("pending", "square#2")]


def test_a_widget_is_kept_with_the_final_state_until_no_page_shows_it(
    screen: Screen,
    backend: FakeBackend,
    frontend: FakeFrontend,
    updater: ManualUpdater,
    widgets: list[FakeWidget],
) -> None:
    ref = backend.new_ref()
    screen.show_ref(ref)
    updater.advance()
    (widget,) = widgets
    widget.on_message("shown")
    widget.on_message("shown")
    backend.end(ref, "done", 1)
    updater.advance(0.5)
    assert state_of(widget.html) == state_of(frontend.updates[-1][1]["text/html"]) == "resolved"
    assert set(frontend.updates[-1][1]) == {"text/plain", "text/html"}
    widget.on_message("gone")
    updater.advance()
    assert not widget.discarded
    widget.on_message("gone")
    updater.advance()
    assert widget.discarded
    assert (screen.count, screen._widgets.count) == (0, 0)


def test_widgets_that_are_kept_for_pages_are_bounded(
    screen: Screen, backend: FakeBackend, updater: ManualUpdater, widgets: list[FakeWidget]
) -> None:
    for _ in range(300):
        ref = backend.new_ref()
        screen.show_ref(ref)
        updater.advance()
        widgets[-1].on_message("shown")
        backend.end(ref, "done", 1)
        updater.advance(1)
    assert [widget.discarded for widget in widgets] == [True] * 100 + [False] * 200
    screen.clear("ipyremote was unloaded")
    updater.advance()
    assert all(widget.discarded for widget in widgets)
