"""The bookkeeping of a client: waiters, and counts of refs."""

from __future__ import annotations

from collections import deque

from ipyremote.client.objects import Objects
from ipyremote.client.waiting import Waiter
from ipyremote.ids import ObjectId
from ipyremote.messages import Failure, Inline

#: Ids of objects.
O1, O2, O3, O5 = ObjectId(1), ObjectId(2), ObjectId(3), ObjectId(5)


# ---- waiters


def test_a_waiter_is_done_when_few_enough_are_missing() -> None:
    waiter = Waiter([O1, O2, O3], target=1)
    for object_id, done in ((O1, False), (O1, False), (ObjectId(9), False), (O2, True)):
        waiter.resolve(object_id, False)
        assert waiter.done is done


def test_a_strict_waiter_is_done_at_the_first_failure_and_names_it() -> None:
    waiter = Waiter([O1, O2, O3], strict=True)
    waiter.resolve(O2, True)
    waiter.resolve(O3, True)
    assert (waiter.done, waiter.failed) == (True, 2)
    patient = Waiter([O1, O2], target=1)
    patient.resolve(ObjectId(9), True)
    assert not patient.done
    patient.resolve(O1, True)
    assert patient.done


def test_a_waiter_for_objects_that_are_ready_is_done_at_once() -> None:
    objects = Objects()
    objects.expect(O1, 1)
    objects.expect(O2, 1)
    objects.resolve(O1, Inline(b""))
    objects.resolve(O2, Failure("system", ""))
    waiter = Waiter((), strict=True)
    objects.wait_for(waiter, [O1, O2])
    assert (waiter.done, waiter.failed) == (True, 2)
    assert objects.waiters == [waiter]


def test_an_object_that_is_released_as_often_as_it_was_held_is_gone() -> None:
    objects = Objects()
    objects.expect(O5, 3)
    assert (objects.hold(O5), objects.hold(ObjectId(99))) == (False, True)
    assert objects.borrowed == {99}
    assert objects.count_down(deque([O5, ObjectId(6), ObjectId(1234)])) == [6]
    assert objects.count_down(deque([O5, ObjectId(99), ObjectId(7)])) == [5, 99, 7]
    assert objects.counts == {}
    assert objects.borrowed == set()
    objects.resolve(O5, Inline(b"late"))
    assert objects.ready == {}
