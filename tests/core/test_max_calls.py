"""`max_calls`: workers that leave after a number of runs of a function."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Received, StartWorker, StopWorker
from ipyremote.ids import DRIVER
from tests.core.transcript import (
    EXIT_CODE_0,
    FN,
    W2,
    W3,
    W4,
    W5,
    W6,
    Transcript,
    define,
    done,
    exited,
    ident,
    ready,
    run,
    started,
    submit,
    task,
)

OTHER = b"another function"


def test_a_worker_leaves_after_max_calls_runs_and_is_replaced_at_once() -> None:
    t = Transcript(cpus=1)
    one, two, three = (task(number, max_calls=2) for number in (1, 2, 3))
    t >> submit(one) << define(W2) << run(W2, one, 1)
    t >> done(W2, one) << ready(1)
    t >> submit(two) << run(W2, two, 2)
    t >> [done(W2, two), submit(three)] << ready(2) << StopWorker(W2, "exit") << StartWorker(W3)
    t >> exited(W2, 2, 2, EXIT_CODE_0)
    t >> started(W3) << define(W3) << run(W3, three, 1)


def test_no_task_is_sent_ahead_behind_a_task_with_max_calls() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    specs = [task(number, max_calls=100) for number in (1, 2)]
    t >> [submit(spec) for spec in specs] << run(W2, specs[0], 2)
    t >> submit(task(3))
    t >> done(W2, specs[0]) << ready(1) << run(W2, task(3), 3)
    t >> done(W2, task(3)) << ready(3) << run(W2, specs[1], 4)


def test_max_calls_counts_the_runs_of_each_function_separately() -> None:
    t = Transcript(cpus=1)
    t >> Received(DRIVER, m.Define(OTHER, b"code"))
    one, two = task(1, max_calls=2), task(2, max_calls=2, digest=OTHER)
    t >> submit(one) << define(W2) << run(W2, one, 1)
    t >> done(W2, one) << ready(1)
    t >> submit(two)
    t.taken()
    t >> done(W2, two) << ready(2)
    t >> submit(task(3)) << run(W2, task(3), 3)
    t >> done(W2, task(3)) << ready(3)
    three = task(4, max_calls=2)
    t >> submit(three) << run(W2, three, 4)
    t >> done(W2, three) << ready(4) << StopWorker(W2, "exit") << StartWorker(W3)


def test_max_calls_counts_runs_that_raise_or_are_retried() -> None:
    t = Transcript(cpus=1)
    failure = m.Failure("task_error", "no")
    spec = task(1, max_calls=1, max_retries=1, retry_on=b"*")
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> Received(W2, m.TaskFailed(ident(1), 0, failure)) << StopWorker(W2, "exit") << StartWorker(W3)
    t >> exited(W2, 1, 1, EXIT_CODE_0)
    t >> started(W3) << define(W3) << run(W3, spec, 1, attempt=1)
    t >> done(W3, spec, failure, attempt=1) << ready(1, failure) << StopWorker(W3, "exit") << StartWorker(W4)


def test_actors_that_a_task_with_max_calls_has_created_survive_its_worker() -> None:
    t = Transcript(cpus=2)
    spec = task(1, max_calls=1)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    make = task(1, client=W3, name="A", number="1.1", cpus=0)
    t >> Received(W3, m.CreateActor(make, m.ActorSpec("A")))
    t.taken()
    t >> done(W2, make)
    t.taken()
    # The task returns the handle of its actor.
    t >> done(W3, spec, m.Inline(b"handle"), refs=((ident(1, W3),),))
    t.taken()
    t >> exited(W3, 1, 1, EXIT_CODE_0)
    t.taken()
    assert t.core.status().actors == {"alive": 1}


def test_tasks_with_max_calls_that_need_no_resources_are_bounded_and_hold_up_no_actor() -> None:
    t = Transcript(cpus=1)
    t >> [submit(task(number, cpus=0, max_calls=5)) for number in range(1, 8)]
    t.taken()
    t >> [started(worker) for worker in (W3, W4, W5)]
    t.taken()
    assert t.core.status().tasks == {"running": 4, "ready": 3}
    make = task(20, name="A", number="1", cpus=0)
    t >> Received(DRIVER, m.CreateActor(make, m.ActorSpec("A"))) << StartWorker(W6)
    t >> started(W6)
    assert t.core.explain(ident(20)).startswith("A#1 runs")
    t.taken()


def test_max_calls_counts_a_cancelled_run() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_calls=1)
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> Received(DRIVER, m.CancelTask(ident(1)))
    t.taken()
    cancelled = m.Failure("task_cancelled", "interrupted")
    t >> done(W2, spec, cancelled) << ready(1, cancelled) << StopWorker(W2, "exit") << StartWorker(W3)
    assert FN == spec.digest
