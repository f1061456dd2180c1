"""Lifetimes of objects, delivery of their values, and recycling of their segments."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientGone, ClientJoined, DropSegment, Event, Received, Send, StartWorker
from ipyremote.core.lifetimes import lost
from ipyremote.ids import DRIVER, ClientId, ObjectId
from tests.core.transcript import (
    W2,
    W3,
    Transcript,
    call,
    create,
    define,
    done,
    exited,
    failure_of,
    ident,
    ready,
    run,
    submit,
    task,
    value,
)

OTHER = ClientId(1 << 22)
STORED = m.Stored("seg-2-1", 100, 10)


def release(*numbers: int, sender: ClientId = DRIVER, client: ClientId = DRIVER) -> Event:
    return Received(sender, m.Release(tuple(ident(number, client) for number in numbers)))


def hold(*numbers: int, sender: ClientId = DRIVER, client: ClientId = DRIVER) -> Event:
    return Received(sender, m.Hold(tuple(ident(number, client) for number in numbers)))


def put(
    number: int,
    refs: tuple[ObjectId, ...] = (),
    sender: ClientId = DRIVER,
    what: m.Inline | m.Stored | None = None,
) -> Event:
    return Received(sender, m.Put(ident(number, sender), what or value(), refs))


def objects(t: Transcript) -> int:
    return t.core.status().objects


def test_an_object_dies_with_its_last_holder() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER) >> put(1) >> hold(1, sender=OTHER)
    t >> release(1)
    assert 1 == objects(t)
    t >> release(1, sender=OTHER)
    assert 0 == objects(t)


def test_holding_and_releasing_twice_is_harmless() -> None:
    t = Transcript()
    t >> put(1) >> put(1) >> hold(1, 1, 99) >> hold(1)
    t >> release(1, 1, 99)
    assert 0 == objects(t)
    t >> release(1)


def test_a_task_holds_its_arguments_until_it_has_ended() -> None:
    t = Transcript()
    t >> put(1) >> put(2)
    spec = task(3, deps=(ident(1),), refs=(ident(2),))
    t >> submit(spec) << define(W3) << run(W3, spec, 1, value())
    t >> release(1, 2)
    assert 3 == objects(t)
    t >> done(W3, spec) << ready(3)
    assert 1 == objects(t)


def test_objects_inside_a_value_live_as_long_as_the_value() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> put(1, sender=W3) >> put(2, (ident(1, W3),), sender=W3)
    t >> done(W3, task(1), value("x"), refs=((ident(2, W3),),)) << ready(1, value("x"))
    t >> release(1, 2, sender=W3, client=W3)
    assert 3 == objects(t)
    t >> release(1)
    assert 0 == objects(t)


def test_a_long_chain_of_references_is_dropped_without_recursion() -> None:
    t = Transcript()
    count = 5000
    t.core.handle([put(1)], 0.0)
    t.core.handle([put(n, (ident(n - 1),)) for n in range(2, count + 1)], 0.0)
    t.core.handle([release(*range(1, count))], 0.0)
    assert count == objects(t)
    t >> release(count)
    assert 0 == objects(t)


def test_a_dropped_segment_goes_back_to_its_creator() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> done(W3, task(1), STORED) << ready(1, STORED)
    assert 100 == t.core.status().stored_bytes
    assert {"seg-2-1"} == t.core.segments(W3)
    t >> release(1) << Send(W3, m.DropSegments(("seg-2-1",)))
    assert 0 == t.core.status().stored_bytes
    assert set() == t.core.segments(W3)


def test_a_segment_outlives_its_creator() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> done(W2, task(1), STORED) << ready(1, STORED)
    t >> exited(W2, 1, 1) << StartWorker(W3)
    t >> Received(DRIVER, m.Want((ident(1),))) << ready(1, STORED)
    t >> release(1) << DropSegment(("seg-2-1",))


def test_a_value_of_a_run_that_nobody_holds_is_discarded() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> release(1)
    assert 0 == objects(t)
    t >> done(W3, task(1), STORED) << Send(W3, m.DropSegments(("seg-2-1",)))
    assert {"done": 1} == t.core.status().tasks


def test_a_task_runs_although_nobody_holds_its_return_objects() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> submit(task(2)) >> release(2)
    t >> done(W2, task(1), micros=10_000) << ready(1) << run(W2, task(2), 2)
    t >> done(W2, task(2))
    t.quiet()


def test_the_end_of_a_task_without_returns_is_not_reported() -> None:
    t = Transcript()
    spec = task(1, returns=0)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> done(W3, spec)
    t.quiet()
    assert 0 == objects(t)


def test_each_return_object_of_a_task_has_its_own_lifetime() -> None:
    t = Transcript()
    spec = task(1, returns=3)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> release(2)
    t >> done(W3, spec, value("a"), value("b"), value("c")) << ready(1, value("a")) << ready(3, value("c"))
    assert 2 == objects(t)


def test_a_run_with_too_few_values_fails_its_task() -> None:
    t = Transcript()
    spec = task(1, returns=2)
    failure = m.Failure("system", "f#1 returned 1 of 2 values.")
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    (
        t
        >> done(W3, spec, STORED)
        << ready(1, failure)
        << ready(2, failure)
        << Send(W3, m.DropSegments(("seg-2-1",)))
    )


def test_a_client_that_wants_a_value_gets_it_once_and_as_soon_as_possible() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> Received(OTHER, m.Want((ident(1),))) >> Received(OTHER, m.Want((ident(1),)))
    t >> Received(DRIVER, m.Want((ident(1),)))
    t >> done(W3, task(1)) << ready(1) << ready(1, to=OTHER)
    t >> Received(OTHER, m.Want((ident(1),))) << ready(1, to=OTHER)


def test_a_client_that_wants_an_unknown_object_is_told_that_it_is_lost() -> None:
    t = Transcript()
    t >> Received(DRIVER, m.Want((ident(1),))) << ready(1, lost(ident(1)))
    t >> submit(task(2, deps=(ident(1),))) << ready(2, lost(ident(1)))


def test_a_task_with_a_failed_argument_fails_without_running() -> None:
    t = Transcript()
    bad = m.Failure("task_error", "no", b"pickle")
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> submit(task(2, deps=(ident(1),))) >> submit(task(3, deps=(ident(2),), returns=2))
    t >> done(W3, task(1), bad)
    t << ready(1, bad) << ready(2, bad) << ready(3, bad) << ready(4, bad)
    t >> submit(task(5, deps=(ident(2), ident(1)))) << ready(5, bad)


def test_objects_inside_an_exported_function_stay() -> None:
    t = Transcript()
    t >> put(1) >> Received(DRIVER, m.Define(b"closure", b"code", (ident(1),)))
    t >> release(1)
    assert 1 == objects(t)


def test_a_client_that_is_gone_holds_nothing_and_its_tasks_are_cancelled() -> None:
    t = Transcript(cpus=1)
    t >> ClientJoined(OTHER) >> put(1)
    t >> submit(task(1, client=OTHER), OTHER) << define(W2) << run(W2, task(1, client=OTHER), 1)
    t >> submit(task(2, client=OTHER), OTHER) >> submit(task(3, client=OTHER, deps=(ident(2, OTHER),)), OTHER)
    t >> hold(1, sender=OTHER) >> Received(OTHER, m.Want((ident(1, OTHER),)))
    t >> ClientGone(OTHER) << Send(W2, m.CancelRun(ident(1, OTHER), 0))
    t.quiet()
    assert {"cancelling": 1, "cancelled": 2} == t.core.status().tasks
    t >> done(W2, task(1, client=OTHER))
    t >> release(1)
    assert 0 == objects(t)


def test_the_objects_that_a_lost_worker_held_are_released() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> put(1, sender=W2) >> submit(task(2, client=W2, name="child", number="1"), W2)
    t >> exited(W2, 1)
    t.taken()
    assert 1 == objects(t)
    assert {"failed": 1, "ready": 1} == t.core.status().tasks


def test_a_client_without_room_makes_the_other_clients_give_memory_back() -> None:
    t = Transcript()
    t >> Received(W2, m.NoRoom()) << Send(DRIVER, m.Trim()) << Send(W3, m.Trim())


def test_a_failure_holds_the_objects_inside_its_exception_as_the_value_of_any_object() -> None:
    t = Transcript(cpus=1)
    bad = m.Failure("task_error", "no", b"pickle", (ident(1, W2),))
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> submit(task(2, deps=(ident(1),)))
    t >> [put(1, sender=W2), done(W2, task(1), bad), release(1, sender=W2, client=W2)]
    t << ready(1, bad) << ready(2, bad)
    t >> release(1)
    assert ident(1, W2) in t.core._ledger.objects
    t >> release(2)
    assert ident(1, W2) not in t.core._ledger.objects


def test_a_dead_actor_holds_the_objects_inside_the_exception_of_its_init() -> None:
    t = Transcript(cpus=1)
    bad = m.Failure("task_error", "no", b"pickle", (ident(1, W2),))
    make = task(1, name="A", number="1")
    t >> create(make)
    t.taken()
    t >> [put(1, sender=W2), done(W2, make, bad), release(1, sender=W2, client=W2)]
    t.taken()
    assert ident(1, W2) in t.core._ledger.objects
    t >> submit(call(2, 1))
    (command,) = t.taken()
    assert failure_of(command).refs == bad.refs
    t >> release(1)
    assert ident(1, W2) in t.core._ledger.objects, "the call's value has it, too"
    t >> release(2)
    assert ident(1, W2) not in t.core._ledger.objects
