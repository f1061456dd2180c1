"""Named actors: names and namespaces, detached actors, and actors that end with their owner."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote import messages as m
from ipyremote.core import ClientGone, ClientJoined, Log, Received, Send, StartWorker, StopWorker
from ipyremote.core.actor_names import SLACK
from ipyremote.ids import DRIVER, NO_CLIENT, ClientId
from tests.core.transcript import (
    EXIT_CODE_0,
    W2,
    W3,
    W4,
    W5,
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
    started,
    submit,
    task,
)

MAKE = task(1, name="A", number="1")
HOME = "anonymous-1"
OTHER, NEXT = ClientId(1 << 22), ClientId((1 << 22) + 1)


def make(
    number: int, *, client: ClientId = DRIVER, request: int = 7, driver: int = 0, **fields: Any
) -> Received:
    """Return the event of a client that creates an actor, with a name if `fields` has a name."""
    spec = task(number, client=client, name="A", number=str(number), driver=driver or client)
    return Received(client, m.CreateActor(spec, m.ActorSpec("A", **fields), request))


def named(
    number: int, name: str = "a", namespace: str = HOME, client: ClientId = DRIVER, record: bytes = b""
) -> m.NamedActor:
    return m.NamedActor(name, namespace, ident(number, client), f"A#{number}", record)


def names(*actors: m.NamedActor, to: ClientId = DRIVER, own: str = HOME, request: int = 7) -> Send:
    return Send(to, m.Names(request, own, actors))


def look(
    name: str = "", namespace: str = "", *, who: ClientId = DRIVER, driver: ClientId = NO_CLIENT, **more: Any
) -> Received:
    return Received(who, m.LookUp(8, driver or who, namespace, name, **more))


def found(*actors: m.NamedActor, to: ClientId = DRIVER, own: str = HOME) -> Send:
    return names(*actors, to=to, own=own, request=8)


def home(**fields: Any) -> Transcript:
    """Return a session of two processors in which actor 1 is alive on worker 3; worker 4 has replaced worker 3."""
    t = Transcript(**{key: fields.pop(key) for key in ("keep_alive",) if key in fields})
    t >> make(1, **fields)
    t.taken()
    t >> done(W3, MAKE)
    t.taken()
    t >> started(W4)
    return t


def test_the_creator_of_a_named_actor_is_told_that_the_actor_exists() -> None:
    t = Transcript()
    t >> make(1, name="a", record=b"r")
    t << names(named(1, record=b"r")) << define(W3)
    spec = task(1, name="A", number="1")
    t << run(W3, spec, 1, actor=m.ActorSpec("A", name="a", record=b"r")) << StartWorker(W4)
    t >> look("a") << found(named(1, record=b"r"))


def test_the_creation_of_an_actor_without_a_name_is_not_answered() -> None:
    t = home()
    t >> look() << found()


def test_a_second_actor_with_the_same_name_is_not_made() -> None:
    t = home(name="a")
    t >> make(2, name="a") << names(named(1))
    assert {"alive": 1} == t.core.status().actors
    assert 1 == t.core.status().objects


def test_of_two_creations_with_one_name_in_one_batch_the_first_gets_the_name() -> None:
    t = Transcript()
    t >> [make(1, name="a"), make(2, name="a")] << names(named(1)) << names(named(1))
    t.taken()


@pytest.mark.parametrize("end", ["kill", "leave", "release", "crash"])
def test_the_name_of_a_dead_actor_is_free(end: str) -> None:
    t = home(name="a")
    ends = {
        "kill": Received(DRIVER, m.KillActor(ident(1))),
        "leave": Received(W3, m.KillActor(ident(1))),
        "release": Received(DRIVER, m.Release((ident(1),))),
        "crash": exited(W3, 1, 1),
    }
    t >> ends[end]
    t.taken()
    t >> look("a") << found()
    t >> look() << found()
    t >> make(2, name="a") << names(named(2))
    t.taken()


def test_an_actor_that_restarts_keeps_its_name() -> None:
    t = home(name="a", max_restarts=1)
    t >> exited(W3, 1, 1)
    t.taken()
    t >> look("a") << found(named(1))


def test_a_driver_has_its_own_namespace_unless_it_names_another() -> None:
    t = home(name="a")
    t >> ClientJoined(OTHER) >> look("a", who=OTHER) << found(to=OTHER, own=f"anonymous-{OTHER}")
    t >> look("a", HOME, who=OTHER) << found(named(1), to=OTHER, own=f"anonymous-{OTHER}")
    t >> Received(OTHER, m.UseNamespace(HOME)) >> look("a", who=OTHER) << found(named(1), to=OTHER)


def test_names_are_listed_by_namespace() -> None:
    t = Transcript()
    for number, name, space in ((1, "b", ""), (2, "a", ""), (3, "c", "x")):
        t >> make(number, name=name, namespace=space)
        t.taken()
    t >> look() << found(named(2, "a"), named(1, "b"))
    t >> look(namespace="x") << found(named(3, "c", "x"))
    t >> look(everywhere=True) << found(named(2, "a"), named(1, "b"), named(3, "c", "x"))


def test_a_task_is_in_the_namespace_of_its_driver() -> None:
    t = home(name="a")
    t >> ClientJoined(OTHER)
    t >> look("a", who=W2, driver=DRIVER) << found(named(1), to=W2)
    t >> look("a", who=W2, driver=OTHER) << found(to=W2, own=f"anonymous-{OTHER}")


def test_an_actor_is_in_the_namespace_of_its_own_driver_whoever_calls_it() -> None:
    t = home(name="a")
    t >> ClientJoined(OTHER)
    t >> look("a", who=W3, driver=OTHER) << found(named(1), to=W3)
    t >> make(1, client=W3, driver=OTHER, name="child") << names(named(1, "child", client=W3), to=W3)
    t.taken()


# ---- detached


def test_a_detached_actor_lives_without_handles() -> None:
    t = home(name="a", detached=True)
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()
    t >> submit(call(2, 1)) << run(W3, call(2, 1), 2)


def test_a_detached_actor_lives_without_its_driver() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER) >> make(1, client=OTHER, name="a", namespace="x", detached=True)
    t.taken()
    t >> done(W3, task(1, client=OTHER))
    t.taken()
    t >> ClientGone(OTHER)
    t.quiet()
    t >> look("a", "x") << found(named(1, namespace="x", client=OTHER))


def test_an_actor_that_is_not_detached_ends_with_its_driver() -> None:
    t = Transcript()
    t >> ClientJoined(OTHER) >> make(1, client=OTHER)
    t.taken()
    t >> done(W3, task(1, client=OTHER))
    t.taken()
    t >> Received(DRIVER, m.Hold((ident(1, OTHER),)))
    t >> ClientGone(OTHER) << StopWorker(W3, "kill")
    spec = m.TaskSpec(ident(5), b"", "A.m", "5", m.Inline(b""), actor_id=ident(1, OTHER), method="m")
    t >> submit(spec)
    assert "the driver that it belonged to has left" in failure_of(t.taken()[0]).text


def test_the_cause_of_a_detached_actors_death_is_known_for_a_while() -> None:
    t = home(name="a", detached=True)
    t >> Received(DRIVER, m.Release((ident(1),)))
    t >> Received(DRIVER, m.KillActor(ident(1))) << StopWorker(W3, "kill")
    t >> submit(call(2, 1)) << ready(2, m.Failure("actor_died", "A was killed by kill()."))
    for number in range(10, 11 + SLACK):
        t.core.handle([make(number, detached=True)], 0.0)
        t.core.audit()
    t >> submit(call(3, 1))
    assert "the actor is dead" in failure_of(t.taken()[0]).text
    assert ident(1) not in t.core._ledger.objects


def test_names_of_actors_that_are_gone_do_not_pile_up() -> None:
    t = Transcript(max_workers=2)
    for number in range(1, 10 * SLACK):
        t.core.handle([make(number, name=f"n{number}")], 0.0)
        t.core.handle([Received(DRIVER, m.Release((ident(number),)))], 0.0)
    assert len(t.core._names._ids) <= 2 * len(t.core._ledger.actors) + SLACK + 1


# ---- owners


def creator(t: Transcript, **fields: Any) -> None:
    """Let task 9 run on worker 3 and create an actor, which is alive on worker 2; the driver holds both."""
    t >> submit(task(9)) << define(W3) << run(W3, task(9), 1)
    t >> make(1, client=W3, driver=DRIVER, request=0, **fields)
    t.taken()
    t >> done(W2, task(1, client=W3))
    t.taken()
    t >> Received(DRIVER, m.Hold((ident(1, W3),)))
    t >> started(W4)


def child_call(number: int, owner: ClientId = W3) -> m.TaskSpec:
    return m.TaskSpec(
        ident(number), b"", "A.m", str(number), m.Inline(b""), actor_id=ident(1, owner), method="m"
    )


def test_an_actor_dies_with_the_worker_whose_task_created_it() -> None:
    t = Transcript()
    creator(t)
    t >> done(W3, task(9)) << ready(9)
    t >> exited(W3, 1, 1) << StopWorker(W2, "kill") << StartWorker(W5)
    t >> submit(child_call(5))
    text = (
        "A has died with its owner: the process that had created it (pid 103) has ended: signal 9 (SIGKILL)"
    )
    t << ready(5, m.Failure("actor_died", text))


def test_a_detached_actor_does_not_die_with_the_worker_whose_task_created_it() -> None:
    t = Transcript()
    creator(t, detached=True)
    t >> exited(W3, 1, 1)
    t.taken()
    t >> submit(child_call(5)) << run(W2, child_call(5), 2)


def test_an_actor_does_not_die_with_a_worker_that_was_idle_for_too_long() -> None:
    t = Transcript()
    creator(t)
    t >> done(W3, task(9)) << ready(9)
    # The pool stops spare workers that have nothing to do in this way.
    t.core._pool.stop(t.core._ledger.workers[W3], kill=False)
    t >> exited(W3, 1, 1, EXIT_CODE_0) << StartWorker(W5)
    t >> submit(child_call(5)) << run(W2, child_call(5), 2)


def test_an_actor_dies_with_the_actor_that_created_it_however_the_creator_ends() -> None:
    t = home(max_restarts=-1)
    t >> make(1, client=W3, driver=DRIVER, request=0)
    t.taken()
    spec = task(1, client=W3)
    t >> done(W4, spec)
    t.taken()
    t >> Received(W3, m.KillActor(ident(1)))
    t.taken()
    assert {"dead": 1, "alive": 1} == t.core.status().actors
    t >> exited(W3, 1, 1, EXIT_CODE_0) << StopWorker(W4, "kill")


# ---- keep_alive


def test_named_actors_survive_their_driver_and_the_next_driver_is_in_its_namespace() -> None:
    t = home(keep_alive=60, name="a", record=b"r")
    t >> ClientGone(DRIVER) << Log("the driver is gone; 1 of its names are kept 60 s")
    t >> ClientJoined(NEXT) >> look("a", who=NEXT) << found(to=NEXT, own=f"anonymous-{NEXT}")
    t >> Received(NEXT, m.Kept(1, claim=True))
    saved = m.Saved(m.Bound("a", (ident(1),), b"r"), "A#1", "alive")
    t << Send(NEXT, m.KeptReply(1, False, (saved,), 60.0))
    t >> look("a", who=NEXT) << found(named(1, record=b"r"), to=NEXT)
    t >> Received(NEXT, m.Taken(("a",))) << StopWorker(W3, "exit")


def test_a_detached_actor_is_kept_until_the_session_ends() -> None:
    t = home(keep_alive=60, name="a", detached=True)
    t >> Received(DRIVER, m.Release((ident(1),)))
    t >> ClientGone(DRIVER) << Log("the driver is gone; 1 of its names are kept 60 s")
    t >> ClientJoined(NEXT) >> Received(NEXT, m.Kept(1, claim=True))
    t.taken()
    t.later(61.0).quiet()
    t >> look("a", who=NEXT) << found(named(1), to=NEXT)


def test_a_named_actor_that_the_driver_has_released_is_not_kept() -> None:
    t = home(keep_alive=60, name="a")
    t >> submit(call(2, 1)) << run(W3, call(2, 1), 2)
    t >> Received(DRIVER, m.Release((ident(1),)))
    t >> ClientGone(DRIVER)
    assert "Quit()" == repr(t.taken()[0])


# ---- titles


def test_the_output_of_an_actor_with_a_title_is_shown_under_the_title() -> None:
    t = home()
    t >> Received(W3, m.Titled("A(3)"))
    t >> submit(call(2, 1)) << run(W3, call(2, 1), 2)
    (
        t
        >> Received(W3, m.Output(ident(2), 1, "hi\n"))
        << Send(DRIVER, m.OutputText(0, "A(3)", 1, "hi\n", ident(2)))
    )
    t >> Received(W2, m.Titled("no actor"))
    t >> submit(task(3))
    t.taken()


# ---- calls


def test_all_calls_of_an_actor_with_concurrency_groups_are_sent() -> None:
    t = home(groups=(("io", 2),))
    t >> [submit(call(n, 1, group="io")) for n in range(2, 1500)]
    assert 1498 == len(t.taken())
    assert {"running": 3, "sent": 1495, "done": 1} == t.core.status().tasks


def test_a_waiting_call_of_an_unordered_actor_holds_up_no_other_call() -> None:
    t = home(unordered=True)
    t >> submit(task(9)) << define(W4) << run(W4, task(9), 1)
    t >> submit(call(2, 1, deps=(ident(9),)))
    t >> submit(call(3, 1)) << run(W3, call(3, 1), 2)


def test_an_actor_without_a_name_is_not_in_the_table() -> None:
    t = Transcript()
    t >> create(MAKE)
    t.taken()
    assert not t.core._names._ids
