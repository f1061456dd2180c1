"""Objects that a process keeps: holders, values, waiting, watching."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ipyremote.backend import StateReport
from ipyremote.engine_kit.console_listener import PlainListener
from ipyremote.engine_kit.failures import PickledFailure
from ipyremote.engine_kit.object_table import ObjectTable
from ipyremote.engine_kit.outcomes import Deferred, PickledValue, value_of
from ipyremote.exceptions import (
    GetTimeoutError,
    IPyRemoteSystemError,
    ObjectLostError,
    WorkerCrashedError,
)
from ipyremote.ids import ObjectId

#: Ids of objects.
O1, O2, O3, O9 = ObjectId(1), ObjectId(2), ObjectId(3), ObjectId(9)


CRASHED = PickledFailure("worker_crashed", "it is gone")


class Updates(PlainListener):
    """A listener that records the reports of states."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[tuple[int, str, str]] = []

    def on_update(self, update: StateReport) -> None:
        self.states.append((update.object_id, update.state, update.detail))


@pytest.fixture
def table() -> ObjectTable:
    """A table with the objects 1, 2 and 3 of a task."""
    table = ObjectTable()
    table.expect(O1, "f#1", 3)
    return table


def test_each_get_of_a_value_gives_a_fresh_copy(table: ObjectTable) -> None:
    table.settle(O1, value_of([1]))
    one, two = table.get([O1]), table.get([O1])
    assert one == two == [[1]]
    assert one[0] is not two[0]


def test_a_second_outcome_changes_nothing(table: ObjectTable) -> None:
    table.settle(O1, value_of("first"))
    table.settle(O1, CRASHED)
    assert table.get([O1]) == ["first"]


def test_get_raises_the_first_failure_without_waiting_for_the_others(table: ObjectTable) -> None:
    table.settle(O2, CRASHED)
    with pytest.raises(WorkerCrashedError, match="it is gone"):
        table.get([O1, O2])


def test_the_timeout_error_of_get_has_the_number_of_missing_objects(table: ObjectTable) -> None:
    table.settle(O1, value_of(1))
    with pytest.raises(GetTimeoutError, match=r"2 of 3 objects not ready after 0\.01 s"):
        table.get([O1, O2, O3], 0.01)


def test_wait_gives_the_ready_objects_in_the_given_order(table: ObjectTable) -> None:
    assert table.wait([O3, O1], 1, 0) == []
    table.settle(O1, CRASHED)
    table.settle(O3, value_of(3))
    assert table.wait([O3, O2, O1], 2, 5) == [3, 1]
    assert table.wait([O1, O3], 1, 5) == [1]
    assert table.wait([O2, O1], 2, 0.01) == [1]


def test_waiting_threads_are_woken_by_an_outcome(table: ObjectTable) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(table.get([O1, O2], 20)))
    thread.start()
    called: list[int] = []
    table.on_ready(O1, called.append)
    for object_id in (O1, O2):
        table.settle(object_id, value_of(object_id))
    thread.join()
    table.on_ready(O2, called.append)
    assert (found, called) == ([1, 2], [1, 2])
    assert [table.is_ready(ObjectId(object_id)) for object_id in (1, 2, 3, 99)] == [True, True, False, False]


def test_a_deferred_object_has_the_outcome_of_the_other_object(table: ObjectTable) -> None:
    for object_id, target in ((O1, O2), (O2, O3)):
        table.hold(target)
        table.settle(object_id, Deferred(target))
    assert not table.is_ready(O1)
    table.settle(O3, value_of("late"))
    assert table.get([O1, O2, O3]) == ["late"] * 3


def test_an_object_is_dropped_with_its_last_holder_and_releases_the_refs_in_its_value() -> None:
    dropped: list[int] = []
    table = ObjectTable(dropped.append)
    table.put(O1, "put#1", "inner")
    table.expect(O2, "f#1")
    table.hold(O1)
    table.settle(O2, PickledValue(b"", (), (O1,)))
    table.release(O1)
    assert len(table) == 2
    table.hold(O2)
    table.release(O2)
    assert len(table) == 2
    table.release(O2)
    assert (len(table), dropped) == (0, [2, 1])
    with pytest.raises(ObjectLostError):
        table.get([O1])


def test_an_outcome_that_comes_too_late_holds_nothing(table: ObjectTable) -> None:
    table.put(O9, "put#1", "inner")
    table.release(O1)
    assert len(table) == 3
    table.hold(O9)
    table.settle(O1, PickledValue(b"", (), (O9,)))
    table.release(O9)
    assert len(table) == 2


def test_watched_objects_are_reported_at_once_and_at_each_change(table: ObjectTable) -> None:
    updates = Updates()
    table.listen(updates)
    table.watch([O1, ObjectId(99)])
    table.start(O1)
    table.settle(O1, CRASHED)
    table.settle(O2, value_of(1))
    assert updates.states == [(1, "ready", ""), (1, "running", ""), (1, "failed", "it is gone")]
    table.watch([O3])
    table.unwatch([O3])
    table.settle(O3, PickledFailure("task_cancelled", "enough"))
    table.watch([O3])
    assert updates.states[3:] == [(3, "ready", ""), (3, "cancelled", "enough")]


def test_a_sentence_tells_why_a_task_does_not_run(table: ObjectTable) -> None:
    table.expect(ObjectId(4), "g#1", state="waiting")
    table.start(O1)
    table.settle(O3, value_of(3))
    sentences = [table.explain(ObjectId(object_id)) for object_id in (4, 2, 1, 3, 99)]
    assert sentences == [
        "g#1 waits for the values of its arguments.",
        "f#1 waits for its turn.",
        "f#1 is running.",
        "f#1 has ended.",
        "No such object is in this session.",
    ]


def test_closing_wakes_waiting_threads_and_refuses_later_calls(table: ObjectTable) -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            table.get([O1])
        except IPyRemoteSystemError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    table.close("it was shut down")
    thread.join()
    assert "it was shut down" in str(caught[0])
    for refused in (
        lambda: table.get([O1]),
        lambda: table.expect(O9, "f#9"),
        lambda: table.on_ready(O1, print),
    ):
        with pytest.raises(IPyRemoteSystemError, match="it was shut down"):
            refused()
