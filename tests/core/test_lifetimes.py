"""How long objects live, who is told their values, and where their segments go."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientGone, ClientJoined, DropSegment, Event, Received, Send, StartWorker
from ipyremote.core.lifetimes import lost
from ipyremote.ids import DRIVER
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

OTHER = 1 << 22
STORED = m.Stored("seg-2-1", 100, 10)


def release(*numbers: int, sender: int = DRIVER, client: int = DRIVER) -> Event:
    return Received(sender, m.Release(tuple(ident(number, client) for number in numbers)))


def hold(*numbers: int, sender: int = DRIVER, client: int = DRIVER) -> Event:
    return Received(sender, m.Hold(tuple(ident(number, client) for number in numbers)))


def put(
    number: int, refs: tuple[int, ...] = (), sender: int = DRIVER, what: m.Inline | m.Stored | None = None
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


def test_what_a_value_refers_to_lives_as_long_as_the_value() -> None:
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


def test_a_value_that_nobody_holds_any_more_is_thrown_away() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> release(1)
    assert 0 == objects(t)
    t >> done(W3, task(1), STORED) << Send(W3, m.DropSegments(("seg-2-1",)))
    assert {"done": 1} == t.core.status().tasks


def test_a_task_runs_although_nobody_holds_its_returns() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> submit(task(2)) >> release(2)
    t >> done(W2, task(1), micros=10_000) << ready(1) << run(W2, task(2), 2)
    t >> done(W2, task(2))
    t.quiet()


def test_a_task_without_returns_is_never_heard_of() -> None:
    t = Transcript()
    spec = task(1, returns=0)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> done(W3, spec)
    t.quiet()
    assert 0 == objects(t)


def test_several_returns_have_lives_of_their_own() -> None:
    t = Transcript()
    spec = task(1, returns=3)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> release(2)
    t >> done(W3, spec, value("a"), value("b"), value("c")) << ready(1, value("a")) << ready(3, value("c"))
    assert 2 == objects(t)


def test_too_few_values_fail_the_task() -> None:
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


def test_who_wants_a_value_gets_it_once_it_is_there_or_at_once() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> Received(OTHER, m.Want((ident(1),))) >> Received(OTHER, m.Want((ident(1),)))
    t >> Received(DRIVER, m.Want((ident(1),)))
    t >> done(W3, task(1)) << ready(1) << ready(1, to=OTHER)
    t >> Received(OTHER, m.Want((ident(1),))) << ready(1, to=OTHER)


def test_who_wants_what_is_not_there_is_told_so() -> None:
    t = Transcript()
    t >> Received(DRIVER, m.Want((ident(1),))) << ready(1, lost(ident(1)))
    t >> submit(task(2, deps=(ident(1),))) << ready(2, lost(ident(1)))


def test_a_failed_argument_fails_the_task_without_running_it() -> None:
    t = Transcript()
    bad = m.Failure("task_error", "no", b"pickle")
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> submit(task(2, deps=(ident(1),))) >> submit(task(3, deps=(ident(2),), returns=2))
    t >> done(W3, task(1), bad)
    t << ready(1, bad) << ready(2, bad) << ready(3, bad) << ready(4, bad)
    t >> submit(task(5, deps=(ident(2), ident(1)))) << ready(5, bad)


def test_what_an_exported_function_refers_to_stays() -> None:
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


def test_what_a_lost_worker_held_is_released() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> put(1, sender=W2) >> submit(task(2, client=W2, name="child", number="1"), W2)
    t >> exited(W2, 1)
    t.taken()
    assert 1 == objects(t)
    assert {"failed": 1, "ready": 1} == t.core.status().tasks


def test_when_one_has_no_room_the_others_are_asked_to_give_some_back() -> None:
    t = Transcript()
    t >> Received(W2, m.NoRoom()) << Send(DRIVER, m.Trim()) << Send(W3, m.Trim())


def test_a_failure_holds_what_its_exception_refers_to_wherever_it_is_the_value() -> None:
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


def test_a_dead_actor_holds_what_the_exception_of_its_init_refers_to() -> None:
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
