"""The table and the arguments of `recover()`; tests/cluster/test_keep_alive.py tests `recover` with processes."""

from __future__ import annotations

from typing import Any

import pytest

import ipyremote as ray
from ipyremote.backends import discovery
from ipyremote.session.recovery import Recoverable, RecoverableSession

NAMES = {"model": ("train#1", "running"), "parts": ("8 refs", "5 done, 3 running")}
OURS = RecoverableSession("ab" * 20, NAMES, 588.0, True, "/home/me")
THEIRS = RecoverableSession("cd" * 20, {"<x>": ("put", "done")}, 3661.0, False, "/home/me/other")


def test_the_table_lists_names_with_their_descriptions() -> None:
    table = Recoverable(OURS, [])
    assert {"model": "running", "parts": "5 done, 3 running"} == dict(table)
    assert repr(table) == (
        "2 names are kept for 9 min 48 s more; recover(name) gives one back, recover(all=True) all of them:\n"
        "  model  train#1  running\n"
        "  parts  8 refs   5 done, 3 running"
    )


def test_the_table_says_which_names_another_program_has_left() -> None:
    assert "kept of a program in /home/me/other for 1 h 1 min more" in repr(Recoverable(THEIRS, []))
    assert 'recover(..., session="cdcdcdcd")' in repr(Recoverable(OURS, [THEIRS]))


def test_the_table_in_a_notebook_is_escaped() -> None:
    html = Recoverable(THEIRS, [])._repr_html_()
    assert "&lt;x&gt;" in html
    assert "<x>" not in html


def test_a_table_without_names_says_that_nothing_is_kept() -> None:
    table = Recoverable(None, [])
    assert len(table) == 0
    assert table.seconds == 0.0
    assert repr(table).startswith("Nothing is kept.")
    table.discard()


def test_a_recoverable_session_as_text_is_a_sentence() -> None:
    text = str(OURS)
    assert text == "the last run has left model, parts, kept for 9 min 48 s more: see ipyremote.recover()"
    assert "another program (in /home/me/other)" in str(THEIRS)


@pytest.mark.parametrize("wrong", [[1], 7, [None]])
def test_only_names_can_be_recovered(wrong: Any) -> None:
    with pytest.raises(TypeError):
        ray.recover(wrong)


def test_names_and_all_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        ray.recover("x", all=True)


def test_a_name_is_not_found_if_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", list)
    with pytest.raises(LookupError, match="model: nothing is kept"):
        ray.recover("model")
    assert not ray.recover()
    assert not ray.is_initialized()
