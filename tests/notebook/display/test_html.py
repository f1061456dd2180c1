"""Views as HTML: every state is named in words, all text is escaped, and every part is bounded."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from ipyremote.notebook.display.html import (
    STATES,
    BoardView,
    ClusterView,
    Preview,
    RefView,
    board_html,
    bytes_text,
    cluster_html,
    ref_html,
    seconds_text,
)

EVIL = '<script>alert("x")</script>&\x1b[31m\x00'


class _Balance(HTMLParser):
    """A parser that raises where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_balanced(text: str) -> None:
    parser = _Balance()
    parser.feed(text)
    assert parser.open == []


def visible(text: str) -> str:
    return text[text.index("</style>") :]


@pytest.mark.parametrize("state", STATES)
def test_a_ref_names_its_state_in_an_attribute_and_in_words(state: str) -> None:
    text = ref_html(RefView("square#3", state))
    assert f'class="ipyremote ipyremote-ref" data-state="{state}" role="group"' in text
    assert f'<span class="ipyremote-word">{state}</span>' in text
    assert f'aria-label="Result of square#3: {state}"' in text
    assert text.endswith("<!--/ipyremote-->")
    assert_balanced(text)


def test_text_from_outside_is_escaped_everywhere() -> None:
    preview = Preview(EVIL, EVIL, EVIL, EVIL, 3)
    views = [
        ref_html(RefView(EVIL, "resolved", 1.0, EVIL, preview)),
        ref_html(RefView(EVIL, "failed", 1.0, EVIL, None, EVIL)),
        ref_html(RefView(EVIL, "pending", None, EVIL)),
        ref_html(RefView("f#1", "resolved", None, "", Preview("", problem=EVIL))),
        board_html(BoardView({"failed": 1}, ((EVIL, EVIL),), None, EVIL)),
        cluster_html(ClusterView("failed", ((EVIL, EVIL),), EVIL)),
    ]
    for text in views:
        assert "<script" not in text
        assert "\x1b" not in text
        assert "\x00" not in text
        assert "&lt;script&gt;" in text
        assert_balanced(text)


def test_a_running_ref_carries_its_seconds_for_the_clock_in_the_browser() -> None:
    text = ref_html(RefView("f#1", "running", 1.25))
    assert '<span class="ipyremote-time" data-seconds="1.250" data-ticking>1.2 s</span>' in text
    assert "data-ticking" not in ref_html(RefView("f#1", "resolved", 1.25))


def test_a_view_without_seconds_shows_no_time() -> None:
    assert 'class="ipyremote-time"' not in ref_html(RefView("f#1", "resolved"))


def test_a_resolved_ref_shows_type_shape_dtype_size_and_repr() -> None:
    text = visible(
        ref_html(
            RefView("f#1", "resolved", None, "", Preview("numpy.ndarray", "array", "(2, 3)", "int64", 48))
        )
    )
    assert "numpy.ndarray · (2, 3) · int64 · 48 bytes" in text
    assert "<pre>array</pre>" in text


def test_a_table_is_shown_instead_of_the_repr() -> None:
    text = visible(
        ref_html(RefView("f#1", "resolved", None, "", Preview("DataFrame", "text", html="<table></table>")))
    )
    assert '<div class="ipyremote-table"><table></table></div>' in text
    assert "<pre>" not in text


def test_a_table_that_is_too_large_is_not_shown() -> None:
    preview = Preview("DataFrame", "text", html="<b>" * 20_000)
    assert "<pre>text</pre>" in ref_html(RefView("f#1", "resolved", None, "", preview))


def test_a_failure_is_unfolded_and_shows_its_last_line_first_and_only_once() -> None:
    text = ref_html(
        RefView("f#1", "failed", None, "ValueError: bad", None, "Traceback\n  x\nValueError: bad")
    )
    assert "<details open><summary>ValueError: bad</summary><pre>Traceback\n  x</pre>" in text


def test_a_failure_of_one_line_is_shown_as_that_line() -> None:
    text = visible(ref_html(RefView("f#1", "failed", None, "gone", None, "WorkerCrashedError: gone")))
    assert text.count("gone") == 1
    assert '<div class="ipyremote-detail">WorkerCrashedError: gone</div>' in text


def test_every_part_of_a_view_is_bounded() -> None:
    long = "x" * 1_000_000
    assert len(ref_html(RefView(long, "resolved", 1.0, long, Preview(long, long, long, long, 1)))) < 8_000
    assert len(ref_html(RefView(long, "failed", 1.0, long, None, long))) < 26_000
    many = tuple((f"f#{number}", long) for number in range(1_000))
    assert len(board_html(BoardView({"failed": 1_000}, many))) < 16_000


def test_a_long_traceback_keeps_both_ends() -> None:
    text = ref_html(RefView("f#1", "failed", None, "", None, "first" + "x" * 100_000 + "last"))
    assert "first" in text
    assert "last" in text
    assert "characters left out" in text


def test_a_board_counts_lists_failures_and_draws_a_bar() -> None:
    text = board_html(BoardView({"pending": 2, "running": 1, "resolved": 6, "failed": 1}, (("f#3", "bad"),)))
    assert "10 refs" in text
    assert "2 pending, 1 running, 6 resolved, 1 failed" in text
    assert 'role="progressbar" aria-valuemin="0" aria-valuemax="10" aria-valuenow="7"' in text
    failure = '<div role="listitem" data-state="failed" class="ipyremote-wide"><span class="ipyremote-label">f#3</span>'
    assert failure + '<span class="ipyremote-word">failed</span>' in text
    assert '<span class="ipyremote-detail">bad</span></div>' in text
    assert_balanced(text)


def test_a_board_lists_ten_failures_and_counts_the_others() -> None:
    failures = tuple((f"f#{number}", "bad") for number in range(10))
    text = board_html(BoardView({"failed": 25}, failures))
    assert text.count('role="listitem"') == 11
    assert "and 15 more failed" in text


def test_a_board_lists_its_other_refs_with_their_states_after_the_failures() -> None:
    others = (("f#1", "resolved"), ("f#3", "running"))
    view = BoardView({"failed": 1, "resolved": 1, "running": 1}, (("f#2", "bad"),), others=others)
    text = board_html(view)
    places = [text.index(f">{label}<") for label in ("f#2", "f#1", "f#3")]
    assert sorted(places) == places
    assert '<div role="listitem" data-state="resolved"><span class="ipyremote-label">f#1</span>' in text
    assert 'data-state="running">' in text
    assert_balanced(text)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"pending": 3}, "pending"),
        ({"pending": 2, "resolved": 1}, "running"),
        ({"running": 1, "failed": 1}, "running"),
        ({"resolved": 3}, "resolved"),
        ({"resolved": 3, "failed": 1}, "failed"),
        ({"resolved": 3, "cancelled": 1}, "cancelled"),
        ({"cancelled": 1, "failed": 1}, "failed"),
        ({"cancelled": 1, "lost": 1}, "lost"),
        ({}, "resolved"),
    ],
)
def test_the_state_of_a_board_is_running_or_the_worst_state_of_its_refs(
    counts: dict[str, int], state: str
) -> None:
    assert BoardView(counts).state == state


def test_a_cluster_card_shows_resources_or_the_reason_of_failure() -> None:
    ready = cluster_html(ClusterView("ready", (("CPUs", "4"), ("store", "3.0 GiB"))))
    assert 'data-state="ready"' in ready
    assert "CPUs 4" in ready
    assert "no room" in cluster_html(ClusterView("failed", (), "no room"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0042, "4 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (65, "1 min 05 s"),
        (7440, "2 h 04 min"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**30 * 200, "200 GiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert bytes_text(count) == text
