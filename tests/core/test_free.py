"""`free`: the value of an object goes although the object has refs."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientJoined, Event, Received, Send
from ipyremote.ids import DRIVER, ClientId, ObjectId
from tests.core.transcript import (
    W2,
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
    value,
)

OTHER = ClientId(1 << 22)
STORED = m.Stored("seg-1-1", 100, 10)


def free(*numbers: int, sender: ClientId = DRIVER) -> Event:
    return Received(sender, m.Free(tuple(ident(number) for number in numbers)))


def put(number: int, what: m.Inline | m.Stored | None = None, refs: tuple[ObjectId, ...] = ()) -> Event:
    return Received(DRIVER, m.Put(ident(number), what or value(), refs))


def freed(t: Transcript, number: int, to: int = DRIVER) -> None:
    """Assert that the next command tells a client that the value of an object was freed."""
    command = t.pending.pop(0)
    assert isinstance(command, Send)
    assert (to, ident(number)) == (command.to, command.message.object_id)  # type: ignore[union-attr]
    assert "object_freed" == failure_of(command).kind


def test_every_client_that_holds_a_freed_object_is_told() -> None:
    t = Transcript()
    t >> put(1) >> ClientJoined(OTHER) >> Received(OTHER, m.Hold((ident(1),)))
    t >> free(1)
    freed(t, 1)
    freed(t, 1, to=OTHER)
    t >> Received(OTHER, m.Want((ident(1),)))
    freed(t, 1, to=OTHER)
    t >> free(1, 99)
    assert 1 == t.core.status().objects


def test_the_segment_of_a_freed_object_is_removed_and_never_reused() -> None:
    t = Transcript()
    t >> put(1, STORED) >> free(1) << Send(DRIVER, m.Evict(("seg-1-1",)))
    freed(t, 1)
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
    assert 0 == t.core.status().stored_bytes
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()


def test_objects_inside_a_freed_value_are_released() -> None:
    t = Transcript()
    t >> put(1) >> put(2, refs=(ident(1),)) >> Received(DRIVER, m.Release((ident(1),)))
    assert 2 == t.core.status().objects
    t >> free(2)
    freed(t, 2)
    assert 1 == t.core.status().objects


def test_a_value_that_a_task_needs_is_freed_after_the_task() -> None:
    t = Transcript(cpus=1)
    spec = task(2, deps=(ident(1),))
    t >> put(1) >> submit(spec) << define(W2) << run(W2, spec, 1, value())
    t >> free(1)
    t >> done(W2, spec)
    t << ready(2)
    freed(t, 1)


def test_a_promised_object_is_freed_when_its_value_comes() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> free(1)
    t >> done(W2, task(1)) << ready(1)
    freed(t, 1)


def test_an_object_that_is_to_be_freed_later_may_be_dropped_first() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> free(1) >> Received(DRIVER, m.Release((ident(1),)))
    t >> done(W2, task(1))
    assert 0 == t.core.status().objects


def test_a_task_with_a_freed_argument_fails() -> None:
    t = Transcript()
    t >> put(1) >> free(1)
    freed(t, 1)
    t >> submit(task(2, deps=(ident(1),)))
    freed(t, 2)


def test_neither_a_failure_nor_an_actor_is_freed() -> None:
    t = Transcript(cpus=1)
    bad = m.Failure("task_error", "no", b"pickle")
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> done(W2, task(1), bad) << ready(1, bad)
    t >> free(1)
    t.quiet()
    make = task(5, name="A", number="1")
    t >> create(make)
    t.taken()
    t >> done(W2, make) << ready(5)
    t >> free(5)
    t.quiet()
    t >> Received(DRIVER, m.Want((ident(5),))) << ready(5)


def test_a_spilled_object_is_freed_on_disk() -> None:
    t = Transcript(cpus=1)
    t >> put(1, STORED) >> Received(DRIVER, m.NoRoom(1))
    t << Send(W2, m.Trim()) << Send(DRIVER, m.Spill((STORED,)))
    t >> Received(DRIVER, m.Spilled(("seg-1-1",))) << Send(DRIVER, m.Evict(("seg-1-1",)))
    t >> free(1)
    freed(t, 1)
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
    assert 0 == t.core.status().spilled_bytes


def test_an_object_freed_during_its_move_to_disk_is_removed_after_the_move() -> None:
    t = Transcript(cpus=1)
    t >> put(1, STORED) >> Received(DRIVER, m.NoRoom(1))
    t << Send(W2, m.Trim()) << Send(DRIVER, m.Spill((STORED,)))
    t >> free(1)
    freed(t, 1)
    t >> Received(DRIVER, m.Spilled(("seg-1-1",))) << Send(DRIVER, m.Evict(("seg-1-1",)))
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
