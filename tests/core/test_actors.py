"""Actors: creation, resources, the order of calls, killing, leaving, scope."""

from __future__ import annotations

import pytest

from ipyremote import messages as m
from ipyremote.core import ClientJoined, Received, Send, StartWorker, StopWorker
from ipyremote.core.actors import IN_FLIGHT
from ipyremote.core.lifetimes import lost
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    CPU,
    EXIT_CODE_0,
    W2,
    W3,
    W4,
    Transcript,
    call,
    create,
    define,
    done,
    exited,
    ident,
    ready,
    run,
    started,
    submit,
    task,
    value,
)

MAKE = task(1, name="A", number="1")
ONE_CPU = (("CPU", CPU),)


def alive(*, cpus: int = 1, spec: m.TaskSpec = MAKE, **fields: object) -> Transcript:
    """Return a session in which actor 1 is alive on worker `1 + cpus`, after run 1; worker `2 + cpus` is idle."""
    t = Transcript(cpus=cpus)
    home = ClientId(W2 + cpus - 1)
    t >> create(spec, **fields) << define(home)
    t << run(home, spec, 1, actor=m.ActorSpec("A", **fields)) << StartWorker(W2 + cpus)  # type: ignore[arg-type]
    t >> done(home, spec) << ready(1)
    return t >> started(ClientId(W2 + cpus))


def test_the_object_of_an_actor_is_ready_when_the_actor_is_alive() -> None:
    t = alive()
    assert {"alive": 1} == t.core.status().actors
    assert m.WorkerStatus(W2, 102, "actor", "A") == t.core.status().workers[0]


def test_the_snapshot_tells_which_call_an_actor_runs() -> None:
    t = alive()
    t >> submit(call(2, 1))
    t.taken()
    assert m.WorkerStatus(W2, 102, "actor", "A.m#2", runs=True) == t.core.status().workers[0]


def test_a_living_actor_holds_no_resources_unless_asked_to() -> None:
    assert ONE_CPU == alive().core.status().available
    assert () == alive(resources=ONE_CPU).core.status().available


def test_an_actor_starts_only_when_all_resources_that_it_will_hold_are_free() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(9)) << define(W3) << run(W3, task(9), 1)
    t >> create(MAKE, resources=(("CPU", 2 * CPU),))
    (
        t
        >> done(W3, task(9), micros=10_000)
        << ready(9)
        << run(W3, MAKE, 2, actor=m.ActorSpec("A", (("CPU", 2 * CPU),)))
        << StartWorker(W4)
    )


def test_calls_wait_for_the_creation_and_go_out_together() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE)
    t.taken()
    t >> [submit(call(2, 1)), submit(call(3, 1))]
    assert (
        "A.m#2 waits for its actor, which is starting. A#1 runs on worker 102 for 0.0 s."
        == t.core.explain(ident(2))
    )
    t >> done(W2, MAKE) << ready(1) << run(W2, call(2, 1), 2) << run(W2, call(3, 1), 3)
    assert {"running": 1, "sent": 1, "done": 1} == t.core.status().tasks
    t >> done(W2, call(2, 1)) << ready(2)
    t >> done(W2, call(3, 1)) << ready(3)


def test_a_call_that_waits_holds_up_its_caller_only() -> None:
    t = alive()
    other = ClientId(1 << 22)
    t >> ClientJoined(other) >> Received(other, m.Hold((ident(1),)))
    t >> submit(task(9)) << define(W3) << run(W3, task(9), 1)
    waits = call(2, 1, deps=(ident(9),))
    t >> submit(waits) >> submit(call(3, 1))
    theirs = call(1, 1, client=other)
    t >> submit(theirs, other) << run(W2, theirs, 2)
    t >> done(W3, task(9)) << ready(9) << run(W2, waits, 3, value()) << run(W2, call(3, 1), 4)


def test_a_call_whose_argument_fails_holds_up_no_other_call() -> None:
    t = alive()
    t >> submit(task(9)) << define(W3) << run(W3, task(9), 1)
    t >> submit(call(2, 1, deps=(ident(9),))) >> submit(call(3, 1))
    bad = m.Failure("task_error", "no")
    t >> done(W3, task(9), bad) << ready(9, bad) << ready(2, bad) << run(W2, call(3, 1), 2)
    t >> submit(call(4, 1, deps=(ident(99),))) << ready(4, lost(ident(99)))


def test_calls_of_a_concurrent_actor_do_not_wait_for_one_another() -> None:
    t = alive(max_concurrency=2)
    t >> submit(task(9)) << define(W3) << run(W3, task(9), 1)
    waits = call(2, 1, deps=(ident(9),))
    t >> submit(waits)
    for number in (3, 4, 5):
        t >> submit(call(number, 1)) << run(W2, call(number, 1), number - 1)
    assert {"running": 3, "sent": 1, "waiting": 1, "done": 1} == t.core.status().tasks
    t >> done(W2, call(4, 1)) << ready(4)
    assert {"running": 3, "waiting": 1, "done": 2} == t.core.status().tasks
    t >> done(W3, task(9)) << ready(9) << run(W2, waits, 5, value())


def test_calls_in_flight_are_bounded() -> None:
    t = alive()
    t >> [submit(call(n, 1)) for n in range(2, IN_FLIGHT + 12)]
    assert IN_FLIGHT == len(t.taken())
    t >> done(W2, call(2, 1)) << ready(2) << run(W2, call(IN_FLIGHT + 2, 1), IN_FLIGHT + 2)


def test_a_creation_that_raises_ends_the_actor() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE)
    t.taken()
    t >> submit(call(2, 1))
    bad = m.Failure("task_error", "ValueError: no", b"pickle")
    t >> done(W2, MAKE, bad) << StopWorker(W2, "exit")
    t << ready(1, m.Failure("actor_died", "A could not be created: ValueError: no", b"pickle"))
    t << ready(
        2, m.Failure("actor_died", "A.m#2 had not started: A could not be created: ValueError: no", b"pickle")
    )
    (
        t
        >> submit(call(3, 1))
        << ready(3, m.Failure("actor_died", "A could not be created: ValueError: no", b"pickle"))
    )
    t >> [started(W3), exited(W2)]
    assert ONE_CPU == t.core.status().available


def test_a_creation_whose_argument_fails_ends_the_actor() -> None:
    t = Transcript(cpus=1)
    died = m.Failure("actor_died", f"A could not be created: {lost(ident(99)).text}")
    t >> create(task(1, name="A", number="1", deps=(ident(99),))) << ready(1, died)
    assert {"dead": 1} == t.core.status().actors


def test_a_creation_waits_for_its_arguments() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1", deps=(ident(9),))
    t >> submit(task(9)) << define(W2) << run(W2, task(9), 1)
    t >> create(make)
    assert {"waiting": 1} == t.core.status().actors
    t >> done(W2, task(9)) << ready(9) << run(W2, make, 2, value(), actor=m.ActorSpec("A")) << StartWorker(W3)
    assert {"starting": 1} == t.core.status().actors


def test_kill_ends_an_actor_at_once() -> None:
    t = alive()
    t >> submit(call(2, 1)) << run(W2, call(2, 1), 2)
    t >> submit(call(3, 1)) << run(W2, call(3, 1), 3)
    killed = "A was killed by kill()."
    t >> Received(DRIVER, m.KillActor(ident(1))) << StopWorker(W2, "kill")
    t << ready(2, m.Failure("actor_died", killed))
    t << ready(3, m.Failure("actor_died", f"A.m#3 had not started: {killed}"))
    t >> submit(call(4, 1)) << ready(4, m.Failure("actor_died", killed))
    t >> exited(W2, 2, 1)
    t >> Received(DRIVER, m.KillActor(ident(1)))
    t.quiet()


def test_kill_ends_an_actor_that_was_not_placed() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(9)) << define(W2) << run(W2, task(9), 1)
    t >> create(MAKE)
    t >> Received(DRIVER, m.KillActor(ident(1), no_restart=False))
    (
        t
        >> Received(DRIVER, m.KillActor(ident(1)))
        << ready(1, m.Failure("actor_died", "A was killed by kill()."))
    )
    t >> done(W2, task(9)) << ready(9)


def test_an_actor_that_leaves_runs_no_more_calls() -> None:
    t = alive(max_restarts=-1)
    t >> submit(call(2, 1)) << run(W2, call(2, 1), 2)
    t >> submit(call(3, 1)) << run(W2, call(3, 1), 3)
    left = "A has left by exit_actor()."
    t >> Received(W2, m.KillActor(ident(1))) << Send(W2, m.CancelRun(ident(3), 0)) << StopWorker(W2, "exit")
    t << ready(2, m.Failure("actor_died", left))
    t << ready(3, m.Failure("actor_died", f"A.m#3 had not started: {left}"))
    t >> exited(W2, 2, 2, EXIT_CODE_0)
    t.quiet()


def test_an_actor_ends_when_its_last_handle_is_released() -> None:
    t = alive()
    t >> Received(DRIVER, m.Release((ident(1),))) << StopWorker(W2, "exit")
    assert 0 == t.core.status().objects
    t >> exited(W2)
    text = "A.m#2: the actor is dead. Its last handle was released before this call."
    t >> submit(call(2, 1)) << ready(2, m.Failure("actor_died", text))


def test_an_actor_without_handles_finishes_its_pending_calls_first() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE)
    t.taken()
    t >> [submit(call(2, 1)), Received(DRIVER, m.Release((ident(1),)))]
    t >> done(W2, MAKE) << run(W2, call(2, 1), 2)
    t >> done(W2, call(2, 1)) << ready(2) << StopWorker(W2, "exit")


def test_an_actor_without_handles_finishes_its_creation_first() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE)
    t.taken()
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()
    t >> done(W2, MAKE) << StopWorker(W2, "exit")


def test_an_actor_without_handles_is_never_placed() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(9)) << define(W2) << run(W2, task(9), 1)
    t >> create(MAKE) >> Received(DRIVER, m.Release((ident(1),)))
    t >> done(W2, task(9)) << ready(9)
    assert {} == t.core.status().actors


def test_a_handle_inside_a_value_or_an_argument_keeps_the_actor_alive() -> None:
    t = alive()
    t >> Received(DRIVER, m.Put(ident(5), value(), (ident(1),)))
    t >> submit(task(6, refs=(ident(1),))) << define(W3) << run(W3, task(6, refs=(ident(1),)), 1)
    t >> Received(DRIVER, m.Release((ident(1), ident(5))))
    t >> Received(W3, m.Hold((ident(1),)))
    t >> done(W3, task(6)) << ready(6)
    t >> Received(W3, m.Release((ident(1),))) << StopWorker(W2, "exit")


def test_a_blocked_call_lends_the_cpus_that_its_actor_holds() -> None:
    t = alive(resources=ONE_CPU)
    t >> submit(call(2, 1)) << run(W2, call(2, 1), 2)
    t >> submit(task(1, client=W2, name="g", number="1"), W2)
    (
        t
        >> Received(W2, m.Blocked(ident(2)))
        << define(W3)
        << run(W3, task(1, client=W2, name="g", number="1"), 1)
    )
    t >> done(W3, task(1, client=W2, name="g", number="1")) << ready(1, to=W2, client=W2)
    t >> Received(W2, m.Unblocked(ident(2)))
    assert () == t.core.status().available


def test_a_call_that_is_retried_after_an_exception_runs_before_later_calls() -> None:
    t = alive()
    spec = call(2, 1, max_retries=1, retry_on=b"*")
    t >> submit(spec) << run(W2, spec, 2)
    t >> Received(W2, m.TaskFailed(ident(2), 0, m.Failure("task_error", "no"))) << run(W2, spec, 3, attempt=1)


@pytest.mark.parametrize("count", [10, 60])
def test_more_actors_than_processors_live_at_a_time(count: int) -> None:
    t = Transcript(cpus=2)
    t.core.handle([create(task(n, name="A", number=str(n))) for n in range(1, count + 1)], 0.0)
    for _ in range(count):
        for worker in list(t.core._ledger.workers.values()):
            if worker.state == "starting":
                t.core.handle([started(worker.id)], 0.0)
            elif worker.tasks:
                t.core.handle([done(worker.id, worker.tasks[0].spec)], 0.0)
            t.core.audit()
    assert {"alive": count} == t.core.status().actors
    assert (("CPU", 2 * CPU),) == t.core.status().available
