"""Spilling: the choice of objects to move to disk, and events during a move."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import (
    ClientGone,
    ClientJoined,
    Command,
    DropSegment,
    Event,
    Log,
    Received,
    Send,
    StartWorker,
)
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import W2, W3, Transcript, define, done, exited, ident, ready, run, submit, task

OTHER = ClientId(1 << 22)


def stored(number: int, size: int = 100, client: int = DRIVER) -> m.Stored:
    return m.Stored(f"seg-{client}-{number}", size, 10)


def put(number: int, size: int = 100, client: ClientId = DRIVER) -> Event:
    return Received(client, m.Put(ident(number, client), stored(number, size, client)))


def no_room(needed: int, client: ClientId = DRIVER) -> Event:
    return Received(client, m.NoRoom(needed))


def spill(*numbers: int, to: ClientId = DRIVER, size: int = 100) -> Command:
    return Send(to, m.Spill(tuple(stored(number, size) for number in numbers)))


def spilled(*numbers: int, failed: tuple[int, ...] = (), client: ClientId = DRIVER) -> Event:
    names = tuple(f"seg-{DRIVER}-{number}" for number in numbers)
    return Received(client, m.Spilled(names, tuple(f"seg-{DRIVER}-{number}" for number in failed)))


def evict(*numbers: int) -> Command:
    return Send(DRIVER, m.Evict(tuple(f"seg-{DRIVER}-{number}" for number in numbers)))


def drop(*numbers: int) -> Command:
    return Send(DRIVER, m.DropSegments(tuple(f"seg-{DRIVER}-{number}" for number in numbers)))


def release(*numbers: int, sender: ClientId = DRIVER) -> Event:
    return Received(sender, m.Release(tuple(ident(number) for number in numbers)))


def places(t: Transcript) -> tuple[int, int]:
    """Return the number of bytes in memory and on disk."""
    status = t.core.status()
    return status.stored_bytes, status.spilled_bytes


def with_objects(count: int) -> Transcript:
    """Return a core whose driver has put this many objects of 100 bytes."""
    t = Transcript(cpus=1)
    for number in range(1, count + 1):
        t >> put(number)
    return t


def trims(t: Transcript, *clients: int) -> Transcript:
    for client in clients:
        t << Send(ClientId(client), m.Trim())
    return t


def test_the_coldest_objects_are_chosen_until_there_is_enough() -> None:
    t = with_objects(4)
    trims(t >> no_room(150), W2) << spill(1, 2)
    assert (400, 0) == places(t)
    t >> spilled(1, 2) << evict(1, 2)
    assert (200, 200) == places(t)
    trims(t >> no_room(1000), W2) << spill(3, 4)


def test_an_object_that_was_sent_to_a_task_is_warm() -> None:
    t = with_objects(3)
    spec = task(9, deps=(ident(1),))
    t >> submit(spec) << define(W2) << run(W2, spec, 1, stored(1))
    t >> done(W2, spec) << ready(9)
    trims(t >> no_room(200), W2) << spill(2, 3)


def test_an_object_that_was_asked_for_is_warm() -> None:
    t = with_objects(2)
    t >> ClientJoined(OTHER) >> Received(OTHER, m.Want((ident(1),))) << ready(1, stored(1), to=OTHER)
    trims(t >> no_room(1), W2, OTHER) << spill(2)


def test_a_client_without_room_gets_an_empty_answer_when_no_object_can_be_moved() -> None:
    t = with_objects(0)
    trims(t >> no_room(1), W2) << spill()


def test_a_client_that_cannot_move_objects_gets_no_order() -> None:
    t = with_objects(1)
    trims(t >> no_room(0), W2)
    t.quiet()


def test_two_clients_never_move_the_same_object() -> None:
    t = with_objects(3)
    trims(t >> no_room(100), W2) << spill(1)
    trims(t >> no_room(200, W2), DRIVER) << spill(2, 3, to=W2)
    trims(t >> no_room(100), W2) << spill()
    t >> spilled(2, 3, client=W2) << evict(2, 3)
    t >> spilled(1) << evict(1)
    assert (0, 300) == places(t)


def test_an_object_that_could_not_be_moved_stays_and_becomes_the_warmest() -> None:
    t = with_objects(3)
    trims(t >> no_room(150), W2) << spill(1, 2)
    t >> spilled(2, failed=(1,)) << evict(2)
    assert (200, 100) == places(t)
    trims(t >> no_room(100), W2) << spill(3)


def test_a_report_of_a_move_that_nobody_ordered_is_ignored() -> None:
    t = with_objects(1)
    t >> spilled(1)
    trims(t >> no_room(1), W2) << spill(1)
    t >> spilled(1, client=W2)
    t >> spilled(1) << evict(1)
    t >> spilled(1)
    assert (0, 100) == places(t)


def test_a_spilled_object_is_dropped_by_its_creator() -> None:
    t = with_objects(1)
    trims(t >> no_room(1), W2) << spill(1)
    t >> spilled(1) << evict(1)
    t >> release(1) << drop(1)
    assert (0, 0) == places(t)


def test_the_segment_of_an_object_dropped_during_its_move_is_not_reused_before_the_move_is_over() -> None:
    t = with_objects(2)
    trims(t >> no_room(200), W2) << spill(1, 2)
    t >> release(1, 2)
    assert (0, 0) == places(t)
    # The original is evicted, and then the copy is dropped.
    t >> spilled(1, failed=(2,)) << evict(1, 2) << drop(1)
    t.quiet()


def test_an_object_created_on_disk_is_never_moved() -> None:
    t = with_objects(0)
    there = m.Stored("disk-1-1", 100, 10)
    t >> Received(DRIVER, m.Put(ident(1), there))
    assert (0, 100) == places(t)
    trims(t >> no_room(1), W2) << spill()
    t >> release(1) << Send(DRIVER, m.DropSegments(("disk-1-1",)))
    assert (0, 0) == places(t)


def test_a_move_ends_with_the_worker_that_made_it() -> None:
    t = with_objects(3)
    trims(t >> no_room(300, W2), DRIVER) << spill(1, 2, 3, to=W2)
    t >> release(2)
    t >> exited(W2) << evict(2) << DropSegment(("seg-1-1", "seg-1-2", "seg-1-3"), "disk")
    t << Log("a worker could not be started (1 in a row): signal 9 (SIGKILL)") << StartWorker(W3)
    assert (200, 0) == places(t)
    assert {"seg-1-1", "seg-1-3"} == t.core.segments(DRIVER)
    trims(t >> no_room(100)) << spill(1)


def test_a_move_ends_with_the_driver_that_made_it() -> None:
    t = with_objects(1)
    t >> ClientJoined(OTHER)
    trims(t >> no_room(1, OTHER), DRIVER, W2) << spill(1, to=OTHER)
    t >> ClientGone(OTHER) << DropSegment(("seg-1-1",), "disk")
    trims(t >> no_room(1), W2) << spill(1)


def test_the_original_of_a_creator_that_is_gone_is_removed_by_the_shell() -> None:
    t = Transcript(cpus=1)
    spec = task(1)
    result = m.Stored("seg-2-1", 100, 10)
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> done(W2, spec, result) << ready(1, result)
    t >> no_room(1) << Send(W2, m.Trim()) << Send(DRIVER, m.Spill((result,)))
    t >> exited(W2, 1, 1) << StartWorker(W3)
    assert {"seg-2-1"} == t.core.segments(W2)
    assert {"seg-2-1"} == t.core.spilled(W2)
    t >> Received(DRIVER, m.Spilled(("seg-2-1",))) << DropSegment(("seg-2-1",), "memory")
    assert set() == t.core.segments(W2)
    assert {"seg-2-1"} == t.core.spilled(W2)
    t >> release(1) << DropSegment(("seg-2-1",))
    assert set() == t.core.spilled(W2)
