"""What a client keeps for itself: waiters, labels, counts, and arguments on their way."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest

from ipyremote.client import failures
from ipyremote.client.call_context import Running, concurrent, concurrently
from ipyremote.client.failures import exception_of, failure_of
from ipyremote.client.objects import Objects
from ipyremote.client.values import fill_slots, pack_arguments
from ipyremote.client.waiting import Waiter
from ipyremote.exceptions import TaskError, WorkerCrashedError
from ipyremote.messages import Failure, Inline, encode_frame
from ipyremote.refs import ObjectRef
from ipyremote.serialization.pickling import Slot, loads, loads_inline


def ref(number: int) -> ObjectRef[Any]:
    return ObjectRef(number, None, f"f#{number}")


def number_of(ref: ObjectRef[Any]) -> int:
    return ref._id


# ---- waiters


def test_a_waiter_is_done_when_few_enough_are_missing() -> None:
    waiter = Waiter([1, 2, 3], target=1)
    for object_id, done in ((1, False), (1, False), (9, False), (2, True)):
        waiter.resolve(object_id, False)
        assert waiter.done is done


def test_a_strict_waiter_is_done_at_the_first_failure_and_names_it() -> None:
    waiter = Waiter([1, 2, 3], strict=True)
    waiter.resolve(2, True)
    waiter.resolve(3, True)
    assert (waiter.done, waiter.failed) == (True, 2)
    patient = Waiter([1, 2], target=1)
    patient.resolve(9, True)
    assert not patient.done
    patient.resolve(1, True)
    assert patient.done


def test_a_waiter_for_what_is_there_already_is_done() -> None:
    objects = Objects()
    objects.expect(1, 1)
    objects.expect(2, 1)
    objects.resolve(1, Inline(b""))
    objects.resolve(2, Failure("system", ""))
    waiter = Waiter((), strict=True)
    objects.wait_for(waiter, [1, 2])
    assert (waiter.done, waiter.failed) == (True, 2)
    assert objects.waiters == [waiter]


def test_what_is_released_as_often_as_it_was_held_is_gone() -> None:
    objects = Objects()
    objects.expect(5, 3)
    assert (objects.hold(5), objects.hold(99)) == (False, True)
    assert objects.borrowed == {99}
    assert objects.count_down(deque([5, 6, 1234])) == [6]
    assert objects.count_down(deque([5, 99, 7])) == [5, 99, 7]
    assert objects.counts == {}
    assert objects.borrowed == set()
    objects.resolve(5, Inline(b"late"))
    assert objects.ready == {}


# ---- labels


def test_labels_count_by_name_inside_the_submitter() -> None:
    driver = Running(driver=1)
    assert [driver.label_of(name) for name in ("f", "g", "f")] == ["f#1", "g#1", "f#2"]
    task = Running(driver=1, task_id=7, label="f#2")
    assert [task.label_of(name) for name in ("f", "f")] == ["f#2.1", "f#2.2"]
    assert Running(driver=1, task_id=8, label="f#2.1").label_of("g") == "g#2.1.1"


def test_a_task_runs_on_the_thread_that_began_it() -> None:
    running = Running(driver=1, task_id=7)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(running.on_this_thread()))
    thread.start()
    thread.join()
    assert (running.on_this_thread(), found) == (True, [False])


def test_calls_that_run_at_a_time_are_told_apart() -> None:
    running = Running(driver=1, task_id=7)
    with concurrently(running):
        assert concurrent.get() is running
    assert concurrent.get() is None


# ---- arguments


def test_refs_become_slots_and_nested_ones_stay_refs() -> None:
    packed = pack_arguments((1, ref(11), ref(12)), {"a": ref(11), "b": "x"}, number_of)
    assert packed.deps == (11, 12, 11)
    args, kwargs = fill_slots(loads_inline(packed.inline), ["one", "two", "three"])
    assert (args, kwargs) == ((1, "one", "two"), {"a": "three", "b": "x"})


def test_no_arguments_cost_nothing() -> None:
    packed = pack_arguments((), {}, number_of)
    assert (packed.deps, packed.refs, packed.inline.data, packed.large) == ((), (), b"", None)


def test_large_arguments_are_left_to_the_session() -> None:
    packed = pack_arguments((bytes(300_000), ref(11)), {}, number_of)
    assert packed.large is not None
    moved = packed.moved_to(77)
    assert (moved.deps, moved.refs, moved.object_id, moved.inline.data) == ((11, 77), (), 77, b"")
    args, _ = loads(packed.large.head, packed.large.buffers)
    assert isinstance(args[1], Slot)


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match="lock"):
        pack_arguments((), {"key": threading.Lock()}, number_of)


def test_a_ref_that_is_refused_stops_the_call() -> None:
    def refuse(ref: ObjectRef[Any]) -> int:
        raise ValueError("of another session")

    for args, kwargs in (((ref(1),), {}), ((), {"a": ref(1)})):
        with pytest.raises(ValueError, match="another session"):
            pack_arguments(args, kwargs, refuse)


# ---- failures


def captured(cause: Exception) -> TaskError:
    try:
        raise cause
    except Exception as error:
        return TaskError.capture(error, label="f#1", pid=1, hide="", display_names={})


def test_a_failure_without_data_is_its_kind_and_text() -> None:
    error = exception_of(Failure("worker_crashed", "killed"))
    assert isinstance(error, WorkerCrashedError)
    assert "killed" in str(error)


def test_an_error_whose_text_is_no_utf8_can_be_sent() -> None:
    failure = failure_of(captured(ValueError("name \udc80")))
    assert encode_frame(1, [])
    assert "name ?" in failure.text
    assert isinstance(exception_of(failure), ValueError)


def test_an_exception_that_is_too_large_travels_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "EXCEPTION_BYTES", 1 << 20)
    cause = ValueError("bad")
    cause.evidence = bytes(3 << 20)  # type: ignore[attr-defined]
    failure = failure_of(captured(cause))
    assert len(failure.data) < 1 << 20
    assert "its pickle has 3 MiB, and at most 1 MiB travel" in failure.text
    error = exception_of(failure)
    assert isinstance(error, TaskError)
    assert error.cause is None
    assert "ValueError: bad" in str(error)
    assert "its pickle has 3 MiB" in str(error)


def test_a_message_of_megabytes_is_shown_without_its_middle() -> None:
    failure = failure_of(captured(ValueError("begin " + "x" * (5 << 20) + " end")))
    assert failure.text.startswith("begin xxx")
    assert failure.text.rstrip().endswith("xxx end")
    assert "characters are left out here" in failure.text
    assert len(failure.text) < 1 << 20
    error = exception_of(failure)
    assert isinstance(error, ValueError)
    assert len(error.args[0].args[0]) > 5 << 20, "the exception itself has all of it"
