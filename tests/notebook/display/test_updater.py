"""The updater's thread and the token bucket."""

from __future__ import annotations

import contextvars
import threading

import pytest

from ipyremote.notebook.display import updater as module
from ipyremote.notebook.display.updater import TokenBucket, Updater
from tests.support.waiting import until


def test_functions_run_in_order_on_one_thread_with_an_empty_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("of the cell")
    updater = Updater()
    seen: list[tuple[int, int, str]] = []
    for number in range(100):
        updater.call(lambda number=number: seen.append((number, threading.get_ident(), variable.get())))
    updater.close()
    assert [number for number, _, _ in seen] == list(range(100))
    assert len({thread for _, thread, _ in seen}) == 1
    assert {value for _, _, value in seen} == {"unset"}


def test_later_functions_run_in_the_order_of_their_times() -> None:
    updater = Updater()
    done = threading.Event()
    seen: list[str] = []
    updater.call_later(0.04, done.set)
    updater.call_later(0.02, seen.append, "second")
    updater.call_later(0.01, seen.append, "first")
    assert done.wait(5)
    updater.close()
    assert seen == ["first", "second"]


def test_a_function_that_raises_does_not_stop_the_other_functions() -> None:
    updater = Updater()
    done = threading.Event()
    updater.call(lambda: 1 / 0)
    updater.call(done.set)
    assert done.wait(5)
    updater.close()


def test_the_thread_ends_when_nothing_is_left_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER", 0.01)
    updater = Updater()
    for _ in range(3):
        done = threading.Event()
        updater.call(done.set)
        assert done.wait(5)
        until(lambda: updater._thread is None, "the thread has ended", 5)
    updater.close()


def test_close_of_the_updater_drops_later_functions_and_refuses_new_ones() -> None:
    updater = Updater()
    seen: list[int] = []
    updater.call_later(60, seen.append, 1)
    updater.close()
    updater.call(seen.append, 2)
    assert seen == []
    assert not any(thread.name == "ipyremote-updater" for thread in threading.enumerate())


def test_a_token_bucket_allows_a_burst_and_then_a_rate() -> None:
    budget = TokenBucket(burst=5, rate=10)
    assert [budget.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.wait(0.0) == pytest.approx(0.1)
    assert budget.take(0.1)
    assert not budget.take(0.1)
    assert [budget.take(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_cost_above_the_burst_takes_all_tokens_of_the_bucket() -> None:
    budget = TokenBucket(burst=2, rate=1)
    assert budget.take(0.0, 3)
    assert not budget.take(0.5, 3)
    assert budget.wait(0.5, 3) == pytest.approx(2.5)
