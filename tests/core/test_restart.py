"""Restarts of actors whose worker is lost."""

from __future__ import annotations

from typing import Any

from ipyremote import messages as m
from ipyremote.core import Received, Send, StartWorker, StopWorker
from ipyremote.core.events import SIGNALLED, WorkerEnd
from ipyremote.ids import DRIVER
from tests.core.test_actors import MAKE, ONE_CPU, alive
from tests.core.transcript import (
    W2,
    W3,
    W4,
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
    value,
)


def busy(**fields: Any) -> Transcript:
    """Return a core whose actor's worker has calls 2 (which has started), 3 and 4, as its runs 2, 3 and 4."""
    retries = fields.pop("max_retries", 0)
    t = alive(max_restarts=fields.pop("max_restarts", 0), **fields)
    for number in (2, 3, 4):
        spec = call(number, 1, max_retries=retries)
        t >> submit(spec) << run(W2, spec, number)
    return t


def again(**fields: int) -> m.ActorSpec:
    return m.ActorSpec("A", **fields)  # type: ignore[arg-type]


def test_without_restarts_all_calls_fail_and_unstarted_calls_say_so() -> None:
    t = busy()
    t >> exited(W2, 2, 1)
    running, three, four = map(failure_of, t.taken())
    reason = "A is dead: its worker (pid 102) was lost, and no restart is left (max_restarts=0): signal 9 (SIGKILL)"
    assert running == m.Failure(
        "actor_died",
        "A.m#2 was running when the worker of its actor (pid 102) was lost. The actor is dead; max_restarts would "
        "start it again. The reason: signal 9 (SIGKILL)",
    )
    assert three == m.Failure("actor_died", f"A.m#3 had not started: {reason}")
    assert four == m.Failure("actor_died", f"A.m#4 had not started: {reason}")
    t >> submit(call(5, 1)) << ready(5, m.Failure("actor_died", reason))
    assert {"dead": 1} == t.core.status().actors


def test_unstarted_calls_run_in_order_after_the_restart() -> None:
    t = busy(max_restarts=1)
    t >> exited(W2, 2, 1)
    lost, *rest = t.taken()
    assert failure_of(lost) == m.Failure(
        "actor_unavailable",
        "A.m#2 was running when the worker of its actor (pid 102) was lost. The actor is restarted; "
        "max_task_retries would run such a call again. The reason: signal 9 (SIGKILL)",
    )
    made = again(max_restarts=1)
    assert rest == [define(W3), run(W3, MAKE, 1, attempt=1, actor=made), StartWorker(W4)]
    assert {"restarting": 1} == t.core.status().actors
    patient = call(5, 1, max_retries=1)
    t >> submit(patient)
    t >> submit(call(6, 1))
    assert "actor_unavailable" == failure_of(t.taken()[0]).kind
    t >> done(W3, MAKE, attempt=1)
    t << run(W3, call(3, 1), 2) << run(W3, call(4, 1), 3) << run(W3, patient, 4)
    t >> exited(W3, 1, 1)
    assert ["actor_died"] * 3 == [failure_of(command).kind for command in t.taken()]


def test_a_lost_call_with_retries_runs_first_after_the_restart() -> None:
    t = busy(max_restarts=-1, max_retries=1)
    t >> exited(W2, 2, 1) << define(W3)
    t << run(W3, MAKE, 1, attempt=1, actor=again(max_restarts=-1)) << StartWorker(W4)
    t >> done(W3, MAKE, attempt=1) << run(W3, call(2, 1, max_retries=1), 2, attempt=1)
    t << run(W3, call(3, 1, max_retries=1), 3) << run(W3, call(4, 1, max_retries=1), 4)
    assert {"running": 1, "sent": 2, "done": 2} == t.core.status().tasks


def test_a_call_whose_result_was_not_delivered_says_so() -> None:
    t = busy(max_restarts=1)
    t >> exited(W2, 3, 2)
    assert "A.m#2 had completed, but its result was not delivered when" in failure_of(t.pending[0]).text
    assert "A.m#3 was running when" in failure_of(t.pending[1]).text
    t.taken()


def test_a_creation_that_had_not_started_is_not_charged() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE)
    t.taken()
    t >> exited(W2, 0, 0)
    t >> started(W3) << define(W3) << run(W3, MAKE, 1, actor=again()) << StartWorker(W4)


def test_a_crash_in_the_creation_is_charged() -> None:
    t = Transcript(cpus=1)
    t >> create(MAKE, max_restarts=1)
    t.taken()
    t >> exited(W2, 1, 0)
    (
        t
        >> started(W3)
        << define(W3)
        << run(W3, MAKE, 1, attempt=1, actor=again(max_restarts=1))
        << StartWorker(W4)
    )
    t >> exited(W3, 1, 0)
    text = "A is dead: its worker (pid 103) was lost, and no restart is left (max_restarts=1): signal 9 (SIGKILL)"
    t << ready(1, m.Failure("actor_died", text))


def test_kill_with_restart_counts_as_a_crash() -> None:
    t = busy(max_restarts=1)
    t >> Received(DRIVER, m.KillActor(ident(1), no_restart=False)) << StopWorker(W2, "kill")
    t >> submit(call(5, 1))
    t.quiet()
    t >> exited(W2, 2, 1, WorkerEnd(SIGNALLED, 9, "signal 9 (SIGKILL) by the scheduler"))
    assert "actor_unavailable" == failure_of(t.taken()[0]).kind
    t >> done(W3, MAKE, attempt=1)
    for number in (3, 4, 5):
        t << run(W3, call(number, 1), number - 1)


def test_the_arguments_of_the_creation_are_kept_for_restarts() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1", deps=(ident(9),))
    t >> Received(DRIVER, m.Put(ident(9), value("x")))
    t >> create(make, max_restarts=1)
    t.taken()
    t >> done(W2, make) << ready(1)
    t >> Received(DRIVER, m.Release((ident(9),)))
    t >> exited(W2, 1, 1)
    t >> started(W3) << define(W3) << run(W3, make, 1, value("x"), attempt=1, actor=again(max_restarts=1))
    t << StartWorker(W4)
    assert 2 == t.core.status().objects
    t >> done(W3, make, attempt=1)
    t >> exited(W3, 1, 1)
    assert 1 == t.core.status().objects
    t.quiet()


def test_a_cancelled_call_is_not_retried() -> None:
    t = busy(max_restarts=1, max_retries=-1)
    t >> Received(DRIVER, m.CancelTask(ident(2))) << Send(W2, m.CancelRun(ident(2), 0))
    t >> Received(DRIVER, m.CancelTask(ident(4))) << Send(W2, m.CancelRun(ident(4), 0))
    t >> exited(W2, 2, 1)
    failures = [failure_of(command) for command in t.taken()[:2]]
    assert [m.Failure("task_cancelled", f"A.m#{n} was cancelled.") for n in (2, 4)] == failures


def test_all_resources_of_a_lost_actor_come_back() -> None:
    t = busy(resources=ONE_CPU)
    assert () == t.core.status().available
    t >> exited(W2, 2, 1)
    t.taken()
    assert ONE_CPU == t.core.status().available
