"""The queue of a worker: a recalled or cancelled run has either started already or never starts."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from ipyremote.ids import NOBODY, ObjectId
from ipyremote.messages import (
    CancelRun,
    Define,
    Exit,
    Failure,
    Inline,
    Recall,
    Returned,
    RunTask,
    Stored,
    TaskDone,
    TaskSpec,
)
from ipyremote.worker.host import Host

#: Ids of objects.
O10 = ObjectId(10)


class Link:
    """Stand-in for the session that records the host's messages."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.prefetched: dict[int, Inline | Stored | Failure] = {}

    def reply(self, message: Any) -> None:
        self.replies.append(message)

    def prefetched_value(self, object_id: int) -> Inline | Stored | Failure | None:
        return self.prefetched.get(object_id)

    def forget_prefetched(self) -> None:
        self.prefetched.clear()


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def host(link: Link) -> Host:
    host = Host()
    host.connect(link)
    return host


def run(number: int, task_id: ObjectId = NOBODY, **more: Any) -> RunTask:
    spec = TaskSpec(task_id or ObjectId(number * 10), b"", "f", str(number), Inline(b""), **more)
    return RunTask(spec, 1, number, (None,) * len(spec.deps))


def taken(host: Host) -> list[int]:
    """Return the numbers of all runs that the main thread would take."""
    runs = []
    while not host.empty:
        host.take()
        assert host.current is not None
        runs.append(host.current.message.run)
    return runs


def test_runs_are_taken_in_the_order_sent(host: Host) -> None:
    assert not host.take()
    for number in (1, 2, 3):
        host.on_message(run(number))
    assert taken(host) == [1, 2, 3]


def test_a_repeated_message_changes_nothing(host: Host, link: Link) -> None:
    for message in (Define(b"d", b"payload"), Define(b"d", b"other"), run(1), run(1), run(2), run(1)):
        host.on_message(message)
    assert taken(host) == [1, 2]
    assert host.payloads == {b"d": b"payload"}
    host.on_message(Recall((O10, ObjectId(20))))
    host.on_message(Recall((O10, ObjectId(20))))
    assert link.replies == [Returned(()), Returned(())]


def test_prefetched_values_are_taken_once(host: Host, link: Link) -> None:
    link.prefetched[5] = Inline(b"five")
    host.on_message(run(1, deps=(5,)))
    host.on_message(run(2, deps=(5,)))
    host.take()
    assert host.current is not None
    assert host.current.values == (Inline(b"five"),)
    host.take()
    assert isinstance(host.current.values[0], Failure)
    assert host.current.values[0].kind == "object_lost"


def test_runs_that_have_not_started_are_recalled_and_other_runs_stay(host: Host, link: Link) -> None:
    for number in (1, 2, 3):
        host.on_message(run(number))
    host.take()
    host.on_message(Recall((O10, ObjectId(30), ObjectId(99))))
    assert link.replies == [Returned((ObjectId(30),))]
    assert taken(host) == [2]


def test_a_waiting_task_hands_back_all_queued_runs_but_an_actor_keeps_its_calls(host: Host) -> None:
    for number in (1, 2):
        host.on_message(run(number))
    assert host.hand_back() == (10, 20)
    assert host.empty
    host.on_message(run(3))
    host.is_actor = True
    assert host.hand_back() == ()
    assert not host.empty


def test_a_queued_run_that_is_cancelled_is_answered_and_never_taken(host: Host, link: Link) -> None:
    host.on_message(run(1, returns=2))
    host.on_message(run(2))
    host.on_message(CancelRun(O10, 1))
    host.on_message(CancelRun(O10, 1))
    assert len(link.replies) == 1
    done = link.replies[0]
    assert isinstance(done, TaskDone)
    assert [value.kind for value in done.values if isinstance(value, Failure)] == ["task_cancelled"] * 2
    assert taken(host) == [2]


def test_a_cancel_of_another_attempt_is_ignored(host: Host, link: Link) -> None:
    host.on_message(run(1))
    host.on_message(CancelRun(O10, 2))
    assert link.replies == []
    host.take()
    host.on_message(CancelRun(O10, 2))
    assert host.current is not None
    assert not host.current.cancelled


def test_a_cancel_signal_interrupts_only_user_code_of_the_cancelled_run(host: Host) -> None:
    host.on_sigint(signal.SIGINT, None)
    host.on_message(run(1))
    host.take()
    host.interruptible = True
    host.on_sigint(signal.SIGINT, None)
    host.interruptible = False
    host.on_message(CancelRun(O10, 1))
    assert host.current is not None
    assert host.current.cancelled
    host.on_sigint(signal.SIGINT, None)
    host.interruptible = True
    with pytest.raises(KeyboardInterrupt):
        host.on_sigint(signal.SIGINT, None)
    # One signal is enough: a second signal must not interrupt the report.
    host.on_sigint(signal.SIGINT, None)
    host.current = None
    host.interruptible = True
    host.on_sigint(signal.SIGINT, None)


def test_a_cancel_from_another_thread_interrupts_the_main_thread(host: Host) -> None:
    waiting = threading.Event()

    def cancel_soon() -> None:
        waiting.wait(0.05)
        host.on_message(CancelRun(O10, 1))

    before = signal.signal(signal.SIGINT, host.on_sigint)
    try:
        host.on_message(run(1))
        host.take()
        host.interruptible = True
        thread = threading.Thread(target=cancel_soon)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(10)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_host_obeys_exit_when_its_queue_is_empty(host: Host) -> None:
    host.on_message(run(1))
    host.on_message(Exit())
    assert host.take()
    assert host.current is not None
    host.current = None
    assert host.take()
    assert host.current is None
