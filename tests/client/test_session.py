"""A session against a fake scheduler: the order of its messages, its waiting, and its end."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ipyremote import messages as m
from ipyremote.backend import DisplayReport, ProgressReport, StateReport, TaskOptions, TextReport, current
from ipyremote.client.session import Session
from ipyremote.exceptions import ClusterLostError, GetTimeoutError, WorkerCrashedError
from ipyremote.ids import ObjectId
from ipyremote.refs import ObjectRef
from tests.client.fake_scheduler import FakeScheduler, scheduler_and_session, value_of
from tests.support import leaks
from tests.support.waiting import until

OPTIONS = TaskOptions()


def function(*args: Any) -> Any:
    """Never called: the scheduler is a fake."""


@pytest.fixture
def trio() -> Iterator[tuple[FakeScheduler, Session, Callable[[], None]]]:
    with leaks.leakless(), scheduler_and_session() as (scheduler, session, end):
        current.install(session)
        try:
            yield scheduler, session, end
        finally:
            current.remove(session)


@pytest.fixture
def scheduler(trio: tuple[FakeScheduler, Session, Callable[[], None]]) -> FakeScheduler:
    return trio[0]


@pytest.fixture
def session(trio: tuple[FakeScheduler, Session, Callable[[], None]]) -> Session:
    return trio[1]


@pytest.fixture
def end(trio: tuple[FakeScheduler, Session, Callable[[], None]]) -> Callable[[], None]:
    return trio[2]


def submit(session: Session, *args: Any) -> ObjectRef[Any]:
    first, label = session.submit(session.define(function, "function"), args, {}, OPTIONS)
    return ObjectRef(first, session, label)


def echo(message: m.FromClient) -> list[m.ToClient]:
    """Reply to each submission with the number of its dependencies as the task's value."""
    if isinstance(message, m.Submit):
        return [m.ObjectReady(message.spec.task_id, value_of(len(message.spec.deps)))]
    return []


def test_a_function_is_defined_once_and_before_its_first_use(
    scheduler: FakeScheduler, session: Session
) -> None:
    refs = [submit(session) for _ in range(3)]
    scheduler.wait_heard(m.Submit, 3)
    assert scheduler.order(m.Define, m.Submit) == ["Define", "Submit", "Submit", "Submit"]
    assert [ref._label for ref in refs] == ["function#1", "function#2", "function#3"]


def test_a_call_is_sent_without_waiting_for_anybody(scheduler: FakeScheduler, session: Session) -> None:
    ref = submit(session, 1)
    assert scheduler.submitted().spec.task_id == ref._id


def test_large_arguments_are_released_only_after_their_submission(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session, np.zeros(1 << 20, dtype=np.uint8))
    spec = scheduler.submitted().spec
    released = scheduler.wait_heard(m.Release)[0]
    put = scheduler.all_of(m.Put)[0]
    assert spec.packed
    assert spec.deps == (put.object_id,)
    assert released.ids == (put.object_id,)
    assert isinstance(put.value, m.Stored)
    assert scheduler.order(m.Put, m.Submit, m.Release) == ["Put", "Submit", "Release"]
    del ref


def test_large_arguments_are_one_object_and_the_last_dependency_of_the_task(
    scheduler: FakeScheduler, session: Session
) -> None:
    first = submit(session)
    submit(session, np.zeros(1 << 20, dtype=np.uint8), first)
    spec = scheduler.submitted(1).spec
    put = scheduler.all_of(m.Put)[0]
    assert (spec.deps, spec.refs, spec.args.data) == ((first._id, put.object_id), (), b"")


def test_a_ref_inside_a_value_is_held_before_the_value_is_released(
    scheduler: FakeScheduler, session: Session
) -> None:
    inner = ObjectId(1 << 41 | 5)
    box = submit(session)
    foreign: ObjectRef[Any] = ObjectRef(inner, session, "foreign#1")
    scheduler.say(m.ObjectReady(box._id, value_of([foreign])))
    (mine,) = session.get([box._id], timeout=10)[0]
    assert mine._id == inner
    foreign._backend = None  # the ref was never counted here, because it stood for the ref of another client
    del box
    gc.collect()
    scheduler.wait_heard(m.Release)
    assert scheduler.order(m.Hold, m.Release) == ["Hold", "Release"]
    assert scheduler.all_of(m.Hold)[0].ids == (inner,)
    # The ref came from elsewhere, so the session asks for its value.
    assert not session.is_ready(inner)
    assert session.wait([inner], 1, timeout=0.05) == []
    assert scheduler.wait_heard(m.Want)[0].ids == (inner,)
    scheduler.say(m.ObjectReady(inner, value_of("here")))
    assert session.get([inner], timeout=10) == ["here"]
    del mine
    assert inner in [any_id for message in scheduler.wait_heard(m.Release, 2) for any_id in message.ids]


def test_an_object_is_released_with_the_last_of_several_refs(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session)
    session.hold(ref._id)
    other: ObjectRef[Any] = ObjectRef(ref._id, session, "again")
    object_id = ref._id
    del ref
    until(lambda: not session.released, "the session has counted the first ref down")
    assert scheduler.all_of(m.Release) == []
    del other
    assert scheduler.wait_heard(m.Release)[0].ids == (object_id,)


def test_a_dropped_ref_is_released_although_nothing_else_happens(
    scheduler: FakeScheduler, session: Session
) -> None:
    # Nobody replies to a put, so only the put itself can wake the io thread, which looks for released ids.
    until(lambda: session.channel._io_thread.endless, "the io thread sleeps")
    object_id, label = session.put(1)
    ref: ObjectRef[Any] = ObjectRef(object_id, session, label)
    del ref
    assert scheduler.wait_heard(m.Release)[0].ids == (object_id,)


def test_get_returns_values_in_the_order_of_its_ids(scheduler: FakeScheduler, session: Session) -> None:
    scheduler.answer = echo
    dependency = session.put(1)[0]
    ref: ObjectRef[Any] = ObjectRef(dependency, session, "put#1")
    refs = [submit(session, *[ref] * count) for count in (0, 2, 1)]
    assert session.get([r._id for r in refs], timeout=10) == [0, 2, 1]


def test_get_raises_at_the_first_failure_and_wait_counts_the_failure_as_ready(
    scheduler: FakeScheduler, session: Session
) -> None:
    slow, bad = submit(session), submit(session)
    scheduler.say(m.ObjectReady(bad._id, m.Failure("worker_crashed", "it was killed")))
    with pytest.raises(WorkerCrashedError, match="it was killed"):
        session.get([slow._id, bad._id], timeout=10)
    assert session.wait([slow._id, bad._id], 1, timeout=10) == [bad._id]


def test_timeouts_are_kept_and_a_timeout_of_zero_looks_once(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session)
    for timeout in (0, 0.05):
        began = time.monotonic()
        with pytest.raises(GetTimeoutError, match="1 of 1"):
            session.get([ref._id], timeout=timeout)
        assert timeout <= time.monotonic() - began < timeout + 1
    assert session.wait([ref._id], 1, timeout=0) == []


def test_a_callback_is_called_once_and_a_failing_callback_stops_no_other(
    scheduler: FakeScheduler, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[int] = []

    def fail(any_id: int) -> None:
        raise RuntimeError("a bad callback")

    first, second = submit(session), submit(session)
    session.on_ready(first._id, fail)
    session.on_ready(second._id, called.append)
    scheduler.say(m.ObjectReady(first._id, value_of(1)))
    until(lambda: session.is_ready(first._id), "the first object has its value")
    scheduler.say(m.ObjectReady(second._id, value_of(2)), m.ObjectReady(second._id, value_of(2)))
    until(lambda: called == [second._id], "the second callback is called")
    session.on_ready(second._id, called.append)
    assert called == [second._id] * 2
    assert "a bad callback" in capsys.readouterr().err


def test_a_lost_scheduler_ends_every_wait_and_calls_every_callback(
    scheduler: FakeScheduler, session: Session, end: Callable[[], None]
) -> None:
    ref, ready = submit(session), submit(session)
    scheduler.say(m.ObjectReady(ready._id, value_of("kept")))
    assert session.get([ready._id], timeout=10) == ["kept"]
    called: list[int] = []
    session.on_ready(ref._id, called.append)
    timer = threading.Timer(0.1, end)
    timer.start()
    with pytest.raises(ClusterLostError, match="faked"):
        session.get([ref._id], timeout=10)
    until(lambda: called == [ref._id], "the callback is called")
    assert session.get([ready._id]) == ["kept"]
    for call in (
        lambda: submit(session),
        lambda: session.put(1),
        lambda: session.hold(ObjectId(5)),
        session.insight.status,
    ):
        with pytest.raises(ClusterLostError):
            call()
    timer.join()


def test_a_thread_that_waits_in_long_slices_is_woken_at_once(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session)
    got: list[float] = []

    def wait() -> None:
        session.get([ref._id], timeout=30)
        got.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: session.channel.dozing_thread != 0, "the thread waits in long slices")
    scheduler.say(m.ObjectReady(ref._id, value_of(1)))
    began = time.monotonic()
    thread.join()
    assert got[0] - began < 0.3


def test_a_message_that_another_thread_reads_wakes_the_waiting_thread(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session)
    thread = threading.Thread(target=lambda: session.get([ref._id], timeout=30))
    thread.start()
    until(lambda: session.channel.dozing_thread != 0, "the thread waits in long slices")
    began = time.monotonic()
    scheduler.say(m.ObjectReady(ref._id, value_of(1)))
    while thread.is_alive():
        # Each call of `watch` reads the socket, too.
        session.watch([ref._id])
        assert time.monotonic() - began < 5
    assert time.monotonic() - began < 0.4


def test_a_submission_is_sent_at_once_while_another_thread_waits(
    scheduler: FakeScheduler, session: Session
) -> None:
    ref = submit(session)
    thread = threading.Thread(target=lambda: session.wait([ref._id], 1, timeout=3))
    thread.start()
    until(lambda: session.channel.dozing_thread != 0, "the thread waits in long slices")
    began = time.monotonic()
    refs = [submit(session) for _ in range(5)]
    scheduler.wait_heard(m.Submit, 6)
    assert time.monotonic() - began < 0.3
    scheduler.say(m.ObjectReady(ref._id, value_of(1)))
    thread.join()
    assert len(refs) == 5


def test_threads_that_wait_at_the_same_time_each_get_their_own_value(
    scheduler: FakeScheduler, session: Session
) -> None:
    scheduler.answer = echo
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(50):
            ref = submit(session)
            if session.get([ref._id], timeout=10) != [0]:
                wrong.append(ref)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert session._objects.waiters == []


def test_a_shutdown_ends_the_wait_of_another_thread(scheduler: FakeScheduler, session: Session) -> None:
    ref = submit(session)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            session.get([ref._id], timeout=20)
        except ClusterLostError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: bool(session._objects.waiters), "the thread waits")
    session.shutdown()
    session.shutdown()
    thread.join()
    assert "shut down" in str(raised[0])
    assert scheduler.wait_heard(m.Bye) == [m.Bye()]


@pytest.mark.processes
def test_a_session_refuses_a_forked_child_at_once(scheduler: FakeScheduler, session: Session) -> None:
    ref = submit(session)
    scheduler.submitted()
    heard = len(scheduler.heard)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session.get([ref._id], timeout=5)
        except ClusterLostError as error:
            os.write(write, str(error).encode())
        finally:
            session.shutdown()
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert b"was forked" in pipe.read()
    os.waitpid(child, 0)
    assert len(scheduler.heard) == heard
    scheduler.say(m.ObjectReady(ref._id, value_of(3)))
    assert session.get([ref._id], timeout=10) == [3]


class _Gate:
    """A listener that blocks at the first text until `open` is set."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.shown: list[str] = []

    def on_output(self, output: TextReport) -> None:
        self.entered.set()
        self.open.wait(10)
        self.shown.append(output.text)

    def on_display(self, display: DisplayReport) -> None:
        """Nothing is displayed."""

    def on_progress(self, progress: ProgressReport) -> None:
        """There are no bars."""

    def on_update(self, update: StateReport) -> None:
        """Nothing is watched."""

    def on_notice(self, cell: int, text: str) -> None:
        """There are no notices."""

    def flush(self) -> None:
        """Nothing is kept back."""

    def on_lost(self, reason: str) -> None:
        """The session is not lost."""


def test_the_text_of_a_task_is_out_before_get_returns_its_value(
    scheduler: FakeScheduler, session: Session
) -> None:
    gate = _Gate()
    session.listen(gate)
    ref = submit(session)
    scheduler.say(m.OutputText(0, "f#1", 1, "text"), m.ObjectReady(ref._id, value_of(1)))
    assert gate.entered.wait(10)
    assert session.is_ready(ref._id)
    shown_at_get: list[list[str]] = []

    def get() -> None:
        session.get([ref._id], timeout=10)
        shown_at_get.append(list(gate.shown))

    thread = threading.Thread(target=get)
    thread.start()
    thread.join(0.05)
    gate.open.set()
    thread.join()
    assert shown_at_get == [["text"]]


def test_a_future_fails_when_the_session_is_shut_down(session: Session) -> None:
    ref = submit(session)
    future = ref.future()
    session.shutdown()
    with pytest.raises(ClusterLostError, match="shut down"):
        future.result(timeout=5)
