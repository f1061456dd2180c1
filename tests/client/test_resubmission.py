"""Calls that are submitted again, and the errors about calls that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ipyremote import messages as m
from ipyremote.backend import TaskOptions, current
from ipyremote.client import resubmission
from ipyremote.client.session import Session
from ipyremote.refs import ObjectRef
from tests.client.fake_scheduler import FakeScheduler, scheduler_and_session, value_of
from tests.support import leaks
from tests.support.waiting import until


def function(*args: Any) -> Any:
    """Never called: the scheduler is a fake."""


@pytest.fixture
def pair() -> Iterator[tuple[FakeScheduler, Session]]:
    with leaks.leakless(), scheduler_and_session() as (scheduler, session, _):
        current.install(session)
        try:
            yield scheduler, session
        finally:
            current.remove(session)


@pytest.fixture
def scheduler(pair: tuple[FakeScheduler, Session]) -> FakeScheduler:
    return pair[0]


@pytest.fixture
def session(pair: tuple[FakeScheduler, Session]) -> Session:
    pair[1].history.remember_calls()
    return pair[1]


def submit(session: Session, *args: Any, **options: Any) -> ObjectRef[Any]:
    exported = session.define(function, "function")
    first, label = session.submit(exported, args, {}, TaskOptions(**options))
    return ObjectRef(first, session, label)


def test_a_repeated_call_is_the_same_call_with_a_new_id(scheduler: FakeScheduler, session: Session) -> None:
    ref = submit(session, "argument", returns=2)
    scheduler.say(m.ObjectReady(ref._id, m.Failure("worker_crashed", "killed")))
    until(lambda: session.is_ready(ref._id), "the task has failed")
    new: ObjectRef[Any] = ObjectRef(session.history.retry(ref._id), session, "again")
    old, again = (message.spec for message in scheduler.wait_heard(m.Submit, 2))
    assert again == m.replace(old, task_id=new._id)
    assert scheduler.wait_heard(m.Release)[0].ids == (new._id + 1,)


def test_a_call_without_a_ref_or_with_a_value_is_forgotten_by_a_sweep(
    scheduler: FakeScheduler, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resubmission, "_SWEEP_CALLS", 4)
    done, failed, dropped = (submit(session) for _ in range(3))
    dropped_id = dropped._id
    scheduler.say(
        m.ObjectReady(done._id, value_of(1)), m.ObjectReady(failed._id, m.Failure("worker_crashed", ""))
    )
    until(lambda: session.is_ready(done._id) and session.is_ready(failed._id), "both tasks have ended")
    del dropped
    until(lambda: not session.history.has_ref(dropped_id), "the dropped ref is released")
    running = submit(session)
    for any_id in (done._id, dropped_id):
        with pytest.raises(ValueError, match="not remembered any more"):
            session.history.retry(any_id)
    again: list[ObjectRef[Any]] = [
        ObjectRef(session.history.retry(ref._id), session, "again") for ref in (failed, running)
    ]
    assert len(scheduler.wait_heard(m.Submit, 6)) == 4 + len(again)


def test_a_sweep_keeps_the_latest_calls(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resubmission, "_SWEEP_CALLS", 3)
    monkeypatch.setattr(resubmission, "_LIMIT", 2)
    refs = [submit(session) for _ in range(3)]
    with pytest.raises(ValueError, match="Only the latest 2 calls"):
        session.history.retry(refs[0]._id)
    assert session.history.retry(refs[1]._id) > refs[2]._id


def test_a_call_that_cannot_be_repeated_says_why(session: Session) -> None:
    large = submit(session, np.zeros(1 << 20, dtype=np.uint8))
    argument = submit(session)
    needs_ref = submit(session, argument)
    del argument
    until(lambda: not session.released, "the argument's ref is released")
    stream = submit(session, stream=-1)
    for ref, reason in (
        (large, "arguments were too large"),
        (needs_ref, "a ref among the arguments exists no more"),
        (stream, "a generator cannot start again"),
    ):
        with pytest.raises(ValueError, match=reason):
            session.history.retry(ref._id)


def test_a_session_that_remembers_no_calls_says_so(pair: tuple[FakeScheduler, Session]) -> None:
    session = pair[1]
    ref = submit(session)
    with pytest.raises(ValueError, match="only after %load_ext ipyremote"):
        session.history.retry(ref._id)
