"""A wakeup ends the poll of another thread, on systems with and without eventfd."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from ipyremote.backend import TaskOptions
from ipyremote.client.wakeup import Wakeup
from ipyremote.messages import ObjectReady, Release, Submit
from ipyremote.refs import ObjectRef
from tests.client.fake_scheduler import scheduler_and_session, value_of
from tests.support import leaks
from tests.support.waiting import until


@pytest.fixture(params=["eventfd", "pipe"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system with eventfd, and a system without. No test leaks a descriptor."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    with leaks.leakless():
        yield


def is_readable(wakeup: Wakeup) -> bool:
    poll = select.poll()
    poll.register(wakeup.fd, select.POLLIN)
    return bool(poll.poll(0))


def test_a_wakeup_is_readable_from_its_setting_to_its_clearing() -> None:
    wakeup = Wakeup()
    assert not is_readable(wakeup)
    wakeup.clear()
    for _ in range(3):
        wakeup.set()
        assert is_readable(wakeup)
    wakeup.clear()
    assert not is_readable(wakeup)
    wakeup.close()


def test_a_wakeup_can_be_set_any_number_of_times_before_anybody_looks() -> None:
    wakeup = Wakeup()
    for _ in range(20_000):
        wakeup.set()
    assert is_readable(wakeup)
    wakeup.close()


def test_a_closed_wakeup_can_be_set_and_closed_again() -> None:
    wakeup = Wakeup()
    wakeup.close()
    wakeup.close()
    wakeup.set()


def test_a_session_sends_and_gets_through_its_io_thread() -> None:
    def function() -> None:
        """Never called: the scheduler is a fake."""

    with scheduler_and_session() as (scheduler, session, _):
        until(lambda: session.channel._io_thread.endless, "the io thread sleeps until it is woken")
        first, label = session.submit(session.define(function, "function"), (), {}, TaskOptions())
        ref: ObjectRef[object] = ObjectRef(first, session, label)
        scheduler.wait_heard(Submit)
        scheduler.say(ObjectReady(first, value_of("here")))
        assert session.get([first], timeout=10) == ["here"]
        del ref
        assert scheduler.wait_heard(Release)[0].ids == (first,)
