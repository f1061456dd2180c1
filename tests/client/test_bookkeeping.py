"""The bookkeeping of a client: waiters, and counts of refs."""

from __future__ import annotations

from collections import deque

from ipyremote.client.objects import Objects
from ipyremote.client.waiting import Waiter
from ipyremote.messages import Failure, Inline

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


def test_a_waiter_for_objects_that_are_ready_is_done_at_once() -> None:
    objects = Objects()
    objects.expect(1, 1)
    objects.expect(2, 1)
    objects.resolve(1, Inline(b""))
    objects.resolve(2, Failure("system", ""))
    waiter = Waiter((), strict=True)
    objects.wait_for(waiter, [1, 2])
    assert (waiter.done, waiter.failed) == (True, 2)
    assert objects.waiters == [waiter]


def test_an_object_that_is_released_as_often_as_it_was_held_is_gone() -> None:
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
