"""Forwarding: tasks that return a deferred ref, and get the value of the ref's object."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Received, Send, StartWorker
from ipyremote.core.lifetimes import lost
from ipyremote.ids import DRIVER
from tests.core.transcript import W2, W3, W4, Transcript, define, done, ident, ready, run, submit, task, value

STORED = m.Stored("seg-3-1", 100, 10)


def forwarded() -> tuple[Transcript, m.TaskSpec]:
    """Return a core where task 1 has returned its child, which runs on the other worker; and the child's spec."""
    t = Transcript()
    child = task(1, client=W3, name="g", number="1", parent=ident(1))
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> submit(child, W3) << define(W2) << run(W2, child, 1)
    t >> done(W3, task(1), m.Forward(ident(1, W3)))
    t >> Received(W3, m.Release((ident(1, W3),)))
    t.quiet()
    return t, child


def test_a_forwarding_object_gets_the_value_of_its_target() -> None:
    t, child = forwarded()
    assert "f#1 has returned g#1, whose value is not there yet." == t.core.explain(ident(1))
    t >> done(W2, child, value("x")) << ready(1, value("x"))
    assert 1 == t.core.status().objects


def test_no_worker_waits_for_the_target_of_a_forwarding_object() -> None:
    t, _ = forwarded()
    t >> submit(task(2)) << run(W3, task(2), 2)


def test_a_forwarding_object_gets_the_failure_of_its_target() -> None:
    t, child = forwarded()
    bad = m.Failure("task_error", "no")
    t >> done(W2, child, bad) << ready(1, bad)


def test_of_two_objects_with_one_forwarded_value_one_owns_the_segment() -> None:
    t, child = forwarded()
    t >> done(W2, child, STORED) << ready(1, STORED)
    assert (2, 100) == (t.core.status().objects, t.core.status().stored_bytes)
    t >> Received(DRIVER, m.Release((ident(1),))) << Send(W2, m.DropSegments(("seg-3-1",)))
    assert 0 == t.core.status().objects


def test_objects_inside_a_forwarded_value_live_as_long_as_the_forwarding_object() -> None:
    t, child = forwarded()
    t >> Received(W2, m.Put(ident(1, W2), value()))
    t >> done(W2, child, value("x"), refs=((ident(1, W2),),)) << ready(1, value("x"))
    t >> Received(W2, m.Release((ident(1, W2),)))
    assert 3 == t.core.status().objects
    t >> Received(DRIVER, m.Release((ident(1),)))
    assert 0 == t.core.status().objects


def test_a_task_that_needs_a_forwarding_object_waits_for_its_target() -> None:
    t, child = forwarded()
    after = task(2, deps=(ident(1),))
    t >> submit(after)
    t >> done(W2, child, value("x"), micros=10_000) << ready(1, value("x")) << run(W2, after, 2, value("x"))


def test_forwarding_to_an_object_that_has_a_value_gives_the_value_at_once() -> None:
    t = Transcript()
    t >> Received(DRIVER, m.Put(ident(1), value("x")))
    after = task(3, deps=(ident(2),))
    t >> submit(task(2, refs=(ident(1),))) << define(W3) << run(W3, task(2, refs=(ident(1),)), 1)
    t >> submit(after)
    t >> done(W3, task(2, refs=(ident(1),)), m.Forward(ident(1)), micros=10_000)
    t << ready(2, value("x")) << run(W3, after, 2, value("x"))


def test_forwarding_to_an_object_that_does_not_exist_fails() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> done(W3, task(1), m.Forward(ident(99))) << ready(1, lost(ident(99)))


def test_forwarding_to_itself_or_in_a_circle_fails() -> None:
    t = Transcript()
    text = "{} returned a deferred ref that leads back to its own result, so it can have no value."
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> done(W3, task(1), m.Forward(ident(1))) << ready(1, m.Failure("system", text.format("f#1")))
    t >> [submit(task(2)), submit(task(3))] << run(W3, task(2), 2) << define(W2) << run(W2, task(3), 1)
    t >> done(W3, task(2), m.Forward(ident(3)))
    circle = m.Failure("system", text.format("f#3"))
    t >> done(W2, task(3), m.Forward(ident(2))) << ready(3, circle) << ready(2, circle)


def test_a_long_chain_of_tail_calls_keeps_only_its_last_object() -> None:
    t = Transcript(cpus=1)
    count = 3000
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    spec = task(1)
    for number in range(1, count):
        child = task(number, client=W2, name="g", number=str(number))
        t.core.handle([submit(child, W2)], 0.0)
        forward = done(W2, spec, m.Forward(child.task_id), micros=10_000)
        t.core.handle([forward, Received(W2, m.Release((child.task_id,)))], 0.0)
        spec = child
    assert count == t.core.status().objects
    t >> done(W2, spec, value("end")) << ready(1, value("end"))
    assert 1 == t.core.status().objects


def test_a_forwarding_object_that_nobody_holds_releases_its_target() -> None:
    t, child = forwarded()
    t >> Received(DRIVER, m.Release((ident(1),)))
    assert 0 == t.core.status().objects
    t >> done(W2, child)
    t.quiet()
    assert StartWorker(W4) not in t.pending
