"""The end of a driver, which ends the session or, with `keep_alive`, all that no name of the driver stood for."""

from __future__ import annotations

from typing import Any

from ipyremote import messages as m
from ipyremote.core import ClientGone, ClientJoined, Log, Quit, Received, Send, StopWorker
from ipyremote.ids import DRIVER, NOBODY, ClientId
from tests.core.transcript import (
    W2,
    W3,
    Transcript,
    call,
    create,
    define,
    done,
    ident,
    ready,
    run,
    submit,
    task,
    value,
)

NEXT, LATER = ClientId(1 << 22), ClientId((1 << 22) + 1)
STORED = m.Stored("seg-3-1", 100, 10)


def bound(name: str, *numbers: int) -> m.Bound:
    return m.Bound(name, tuple(map(ident, numbers)), name.encode())


def bind(*names: m.Bound, unbound: tuple[str, ...] = ()) -> Received:
    return Received(DRIVER, m.Bind(names, unbound))


def kept(names: int, seconds: int = 60) -> Log:
    return Log(f"the driver is gone; {names} of its names are kept {seconds} s")


def reply(*saved: m.Saved, to: ClientId = NEXT, seconds: float = 60.0, is_taken: bool = False) -> Send:
    return Send(to, m.KeptReply(1, is_taken, saved, seconds))


def ask(client: ClientId = NEXT, claim: bool = False) -> Received:
    return Received(client, m.Kept(1, claim))


def abandoned(**options: Any) -> Transcript:
    """Return a session whose driver is gone; task 1 runs under the name "model", task 2 under no name."""
    t = Transcript(keep_alive=60, **options)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> submit(task(2)) << define(W2) << run(W2, task(2), 1)
    t >> bind(bound("model", 1)) >> ClientGone(DRIVER)
    return t << kept(1) << Send(W2, m.CancelRun(ident(2), 0))


def test_without_keep_alive_the_session_ends_with_its_driver() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> bind(bound("model", 1)) >> ClientGone(DRIVER) << Quit()


def test_without_bound_names_the_session_ends_with_its_driver() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), value())) >> ClientGone(DRIVER) << Quit()


def test_a_name_whose_object_was_released_keeps_nothing() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), value())) >> bind(bound("x", 1))
    t >> Received(DRIVER, m.Release((ident(1),)))
    assert 0 == t.core.status().objects
    t >> ClientGone(DRIVER) << Quit()


def test_a_name_that_was_unbound_keeps_nothing() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), value())) >> bind(bound("x", 1)) >> bind(unbound=("x", "y"))
    t >> ClientGone(DRIVER) << Quit()


def test_a_goodbye_ends_the_session_at_once() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), value())) >> bind(bound("x", 1))
    t >> Received(DRIVER, m.Bye()) << Quit()


def test_a_task_under_a_name_goes_on_and_the_others_are_cancelled() -> None:
    t = abandoned()
    assert DRIVER != t.core.owner
    cancelled = m.Failure("task_cancelled", "cancelled")
    t >> done(W2, task(2), cancelled)
    t >> done(W3, task(1), value("fit"))
    assert 1 == t.core.status().objects
    t >> ClientJoined(NEXT) >> ask() << reply(m.Saved(bound("model", 1), "f#1", "done"))


def test_a_queued_task_stays_if_a_name_needs_it_directly_or_indirectly() -> None:
    t = Transcript(cpus=1, keep_alive=60)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    needed = task(3, deps=(ident(2),))
    also = task(5, deps=(ident(4),))
    t >> [submit(task(2)), submit(needed), submit(task(4)), submit(also)]
    released = Received(DRIVER, m.Release(tuple(map(ident, (2, 4)))))
    t >> bind(bound("result", 3)) >> released >> ClientGone(DRIVER)
    t << kept(1) << Send(W2, m.CancelRun(ident(1), 0))
    assert {"waiting": 1, "ready": 1, "cancelling": 1, "cancelled": 2} == t.core.status().tasks
    t >> done(W2, task(1), m.Failure("task_cancelled", "")) << run(W2, task(2), 2)
    t >> done(W2, task(2), micros=10_000) << run(W2, needed, 3, value())
    t >> done(W2, needed, value("end"))
    assert 1 == t.core.status().objects


def test_an_actor_with_a_name_lives_on_and_runs_the_calls_that_were_made() -> None:
    t = Transcript(keep_alive=60)
    t >> create(task(1)) << define(W3) << run(W3, task(1), 1, actor=m.ActorSpec("A"))
    t.taken()
    t >> done(W3, task(1)) << ready(1)
    t >> submit(call(2, 1)) << run(W3, call(2, 1), 2)
    t >> bind(bound("counter", 1)) >> ClientGone(DRIVER) << kept(1)
    t >> done(W3, call(2, 1))
    t >> ClientJoined(NEXT) >> ask() << reply(m.Saved(bound("counter", 1), "f#1", "alive"))


def test_an_actor_without_a_name_is_stopped() -> None:
    t = Transcript(keep_alive=60)
    t >> create(task(1)) << define(W3) << run(W3, task(1), 1, actor=m.ActorSpec("A"))
    t.taken()
    t >> done(W3, task(1)) << ready(1)
    t >> Received(DRIVER, m.Put(ident(2), value())) >> bind(bound("x", 2))
    t >> ClientGone(DRIVER) << kept(1) << StopWorker(W3, "exit")


def test_a_driver_that_claims_the_session_holds_the_objects_that_it_takes() -> None:
    t = abandoned()
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t << reply(m.Saved(bound("model", 1), "f#1", "running"))
    assert NEXT == t.core.owner
    t >> Received(NEXT, m.Hold((ident(1),))) >> Received(NEXT, m.Want((ident(1),)))
    t >> Received(NEXT, m.Taken(("model",)))
    t >> done(W3, task(1), value("fit")) << ready(1, value("fit"), to=NEXT)
    t >> Received(NEXT, m.Release((ident(1),)))
    assert 0 == t.core.status().objects
    assert t.core.deadline() is None or t.core.deadline() != 60.0


def test_a_second_claim_is_refused_and_sees_no_names() -> None:
    t = abandoned()
    t >> [ClientJoined(NEXT), ClientJoined(LATER)] >> ask(claim=True)
    t.taken()
    t >> ask(LATER, claim=True) << reply(to=LATER, is_taken=True)
    assert NEXT == t.core.owner


def test_a_driver_that_asks_without_a_claim_takes_nothing() -> None:
    t = abandoned()
    t >> [ClientJoined(NEXT), ClientJoined(LATER)] >> ask()
    t.taken()
    t >> ClientGone(NEXT)
    t >> ask(LATER, claim=True) << reply(m.Saved(bound("model", 1), "f#1", "running"), to=LATER)


def test_a_driver_that_owns_nothing_cannot_bind_or_take() -> None:
    t = abandoned()
    t >> [ClientJoined(NEXT), ClientJoined(LATER)] >> ask(claim=True)
    t.taken()
    t >> Received(LATER, m.Bind((bound("mine", 1),))) >> Received(LATER, m.Taken(("model",)))
    t >> ask() << reply(m.Saved(bound("model", 1), "f#1", "running"))


def test_the_session_ends_when_the_time_is_over_and_no_driver_came() -> None:
    t = abandoned()
    assert 60.0 == t.core.deadline()
    t.later(59.9).quiet()
    t.later(0.1) << Log("no driver claimed the saved names in time; the session ends") << Quit()


def test_objects_that_were_not_taken_are_released_when_the_time_is_over() -> None:
    t = Transcript(keep_alive=60)
    for number in (1, 2, 3):
        t >> Received(DRIVER, m.Put(ident(number), value()))
    t >> bind(bound("a", 1), bound("both", 1, 2), bound("c", 3)) >> ClientGone(DRIVER) << kept(3)
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    t >> Received(NEXT, m.Hold((ident(1),))) >> Received(NEXT, m.Taken(("a",)))
    assert 3 == t.core.status().objects
    t.later(60.0).quiet()
    assert 1 == t.core.status().objects
    t >> ask() << reply(seconds=0.0)


def test_the_end_of_the_next_owner_starts_the_time_again() -> None:
    t = abandoned()
    t >> done(W3, task(1)) >> done(W2, task(2), m.Failure("task_cancelled", ""))
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    t.later(30.0)
    mine = m.Bound("mine", (ident(1, NEXT),), b"")
    t >> Received(NEXT, m.Put(ident(1, NEXT), value())) >> Received(NEXT, m.Bind((mine,)))
    t >> ClientGone(NEXT) << kept(2)
    t >> ClientJoined(LATER) >> ask(LATER)
    t << reply(m.Saved(bound("model", 1), "f#1", "done"), m.Saved(mine, "", "done"), to=LATER)
    assert 90.0 == t.core.deadline()


def test_a_name_that_is_bound_again_releases_its_former_object() -> None:
    t = abandoned()
    t >> done(W3, task(1)) >> done(W2, task(2), m.Failure("task_cancelled", ""))
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    again = m.Bound("model", (ident(1, NEXT),), b"")
    t >> Received(NEXT, m.Put(ident(1, NEXT), value())) >> Received(NEXT, m.Bind((again,)))
    t >> ClientGone(NEXT) << kept(1)
    assert 1 == t.core.status().objects


def test_the_next_owners_goodbye_ends_the_session() -> None:
    t = abandoned()
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    t >> Received(NEXT, m.Bye()) << Quit()


def test_output_is_lost_without_an_owner_and_then_goes_to_the_next_owner() -> None:
    t = abandoned()
    t >> Received(W3, m.Output(ident(1), 1, "epoch 1\n"))
    t.quiet()
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    t >> Received(W3, m.Output(ident(1), 1, "epoch 2\n"))
    t << Send(NEXT, m.OutputText(0, "f#1", 1, "epoch 2\n", ident(1)))
    t >> Received(W3, m.Output(NOBODY, 1, "outside\n")) << Send(NEXT, m.OutputText(0, "", 1, "outside\n"))


def test_several_objects_under_one_name_are_counted_by_state() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), value()))
    t >> submit(task(2)) << define(W3) << run(W3, task(2), 1)
    t >> bind(bound("parts", 1, 2, 7)) >> ClientGone(DRIVER) << kept(1)
    t >> ClientJoined(NEXT) >> ask()
    t << reply(m.Saved(bound("parts", 1, 2, 7), "3", "1 done, 1 running, 1 lost"))


def test_segments_of_a_driver_that_is_gone_are_removed_when_their_objects_are_released() -> None:
    t = Transcript(keep_alive=60)
    t >> Received(DRIVER, m.Put(ident(1), STORED)) >> Received(DRIVER, m.Put(ident(2), value()))
    t >> bind(bound("big", 1), bound("small", 2)) >> ClientGone(DRIVER) << kept(2)
    assert {"seg-3-1"} == t.core.segments(DRIVER)
    t >> ClientJoined(NEXT) >> ask(claim=True)
    t.taken()
    t >> Received(NEXT, m.Hold((ident(1),))) >> Received(NEXT, m.Taken(("big",)))
    t >> Received(NEXT, m.Release((ident(1),)))
    assert ("seg-3-1",) == t.taken()[0].segments  # type: ignore[union-attr]  # it is a DropSegment
