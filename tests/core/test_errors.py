"""Errors inside the core: the task that met the error fails, with its story, and everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote import messages as m
from ipyremote.core import ClientGone, CoreError, Log, Quit, Received, StopWorker
from ipyremote.core import placement as placement_module
from ipyremote.core import reports as reports_module
from ipyremote.core.dispatch import send
from ipyremote.core.tasks import finish
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    W2,
    W3,
    Transcript,
    create,
    define,
    done,
    failure_of,
    ident,
    ready,
    run,
    submit,
    task,
)


def broken_for(number: int, working: Any) -> Any:
    """Return a function of the core with a bug that only one task meets."""

    def function(*args: Any) -> Any:
        for arg in args:
            if getattr(getattr(arg, "spec", None), "task_id", 0) == ident(number):
                raise KeyError("a bug")
        return working(*args)

    return function


def test_an_error_with_one_report_fails_only_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Transcript()
    (
        t
        >> [submit(task(1)), submit(task(2))]
        << define(W3)
        << run(W3, task(1), 1)
        << define(W2)
        << run(W2, task(2), 1)
    )
    monkeypatch.setattr(reports_module, "finish", broken_for(1, finish))
    t >> [done(W3, task(1)), done(W2, task(2))]
    log, failed, other = t.taken()
    assert isinstance(log, Log)
    assert "internal error" in log.text
    failure = failure_of(failed)
    assert "system" == failure.kind
    assert failure.text.startswith("an error inside the scheduler hit f#1: KeyError('a bug')")
    assert "submitted by client 1" in failure.text
    assert ready(2) == other
    t >> submit(task(3)) << run(W2, task(3), 2)


def test_an_error_in_placing_a_task_fails_only_this_task(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Transcript()
    monkeypatch.setattr(placement_module, "send", broken_for(1, send))
    t >> [submit(task(1)), submit(task(2))]
    log, failed, *rest = t.taken()
    assert isinstance(log, Log)
    assert "system" == failure_of(failed).kind
    assert [define(W3), run(W3, task(2), 1)] == rest


def test_an_error_in_placing_an_actor_ends_the_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Transcript()
    monkeypatch.setattr(placement_module, "send", broken_for(1, send))
    t >> create(task(1, name="A", number="1"))
    _, stop, failed, _ = t.taken()
    assert StopWorker(W3, "kill") == stop
    assert "actor_died" == failure_of(failed).kind


def test_an_error_that_is_about_no_task_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Transcript()
    monkeypatch.setattr(t.core._placement, "_recall", lambda: 1 // 0)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    (log,) = t.taken()
    assert isinstance(log, Log)
    assert "ZeroDivisionError" in log.text


def test_an_audit_finds_a_wrong_count_of_free_resources() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t.core._ledger.free["CPU"] += 1
    with pytest.raises(CoreError, match="CPU"):
        t.core.audit()


def test_messages_of_unknown_clients_are_ignored() -> None:
    t = Transcript()
    t >> Received(ClientId(77), m.Submit(task(1)))
    t >> Received(ClientId(77), m.Want((ident(1),)))
    t >> ClientGone(ClientId(77))
    t.quiet()


def test_the_session_ends_with_its_owners_goodbye_or_process() -> None:
    t = Transcript()
    t >> Received(W2, m.Bye())
    t >> Received(DRIVER, m.Bye()) << Quit()
    t >> ClientGone(DRIVER) << Quit()
