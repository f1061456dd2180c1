"""`free`: a value goes although there are refs."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientJoined, Event, Received, Send
from ipyremote.ids import DRIVER
from tests.core.transcript import (
    W2,
    Transcript,
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

OTHER = 1 << 22
STORED = m.Stored("seg-1-1", 100, 10)


def free(*numbers: int, sender: int = DRIVER) -> Event:
    return Received(sender, m.Free(tuple(ident(number) for number in numbers)))


def put(number: int, what: m.Inline | m.Stored | None = None, refs: tuple[int, ...] = ()) -> Event:
    return Received(DRIVER, m.Put(ident(number), what or value(), refs))


def freed(t: Transcript, number: int, to: int = DRIVER) -> None:
    """The next command tells a client that the value is gone."""
    command = t.pending.pop(0)
    assert isinstance(command, Send)
    assert (to, ident(number)) == (command.to, command.message.object_id)  # type: ignore[union-attr]
    assert "object_freed" == failure_of(command).kind


def test_every_client_that_holds_it_is_told() -> None:
    t = Transcript()
    t >> put(1) >> ClientJoined(OTHER) >> Received(OTHER, m.Hold((ident(1),)))
    t >> free(1)
    freed(t, 1)
    freed(t, 1, to=OTHER)
    t >> Received(OTHER, m.Want((ident(1),)))
    freed(t, 1, to=OTHER)
    t >> free(1, 99)
    assert 1 == t.core.status().objects


def test_the_segment_is_removed_and_never_reused() -> None:
    t = Transcript()
    t >> put(1, STORED) >> free(1) << Send(DRIVER, m.Evict(("seg-1-1",)))
    freed(t, 1)
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
    assert 0 == t.core.status().stored_bytes
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()


def test_what_it_refers_to_is_let_go() -> None:
    t = Transcript()
    t >> put(1) >> put(2, refs=(ident(1),)) >> Received(DRIVER, m.Release((ident(1),)))
    assert 2 == t.core.status().objects
    t >> free(2)
    freed(t, 2)
    assert 1 == t.core.status().objects


def test_a_value_that_a_task_needs_is_freed_after_it() -> None:
    t = Transcript(cpus=1)
    spec = task(2, deps=(ident(1),))
    t >> put(1) >> submit(spec) << define(W2) << run(W2, spec, 1, value())
    t >> free(1)
    t >> done(W2, spec)
    t << ready(2)
    freed(t, 1)


def test_a_result_that_is_not_there_yet_is_freed_when_it_comes() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> free(1)
    t >> done(W2, task(1)) << ready(1)
    freed(t, 1)


def test_an_object_that_is_freed_later_may_be_dropped_first() -> None:
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


def test_a_failure_is_not_freed_and_an_actor_neither() -> None:
    t = Transcript(cpus=1)
    bad = m.Failure("task_error", "no", b"pickle")
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> done(W2, task(1), bad) << ready(1, bad)
    t >> free(1)
    t.quiet()


def test_a_spilled_object_is_freed_on_disk_too() -> None:
    t = Transcript(cpus=1)
    t >> put(1, STORED) >> Received(DRIVER, m.NoRoom(1))
    t << Send(W2, m.Trim()) << Send(DRIVER, m.Spill((STORED,)))
    t >> Received(DRIVER, m.Spilled(("seg-1-1",))) << Send(DRIVER, m.Evict(("seg-1-1",)))
    t >> free(1)
    freed(t, 1)
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
    assert 0 == t.core.status().spilled_bytes


def test_an_object_freed_while_it_is_moved_goes_when_the_move_is_over() -> None:
    t = Transcript(cpus=1)
    t >> put(1, STORED) >> Received(DRIVER, m.NoRoom(1))
    t << Send(W2, m.Trim()) << Send(DRIVER, m.Spill((STORED,)))
    t >> free(1)
    freed(t, 1)
    t >> Received(DRIVER, m.Spilled(("seg-1-1",))) << Send(DRIVER, m.Evict(("seg-1-1",)))
    t << Send(DRIVER, m.DropSegments(("seg-1-1",)))
