"""Tasks that wait for other tasks, and lend their processors meanwhile."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Received, Send, StartWorker, StopWorker
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    W2,
    W3,
    Transcript,
    define,
    done,
    ident,
    ready,
    run,
    started,
    submit,
    task,
)


def test_a_blocked_task_lends_its_processor_to_its_child() -> None:
    t = Transcript(cpus=1)
    parent, child = task(1), task(1, client=W2, name="g", number="1")
    t >> submit(parent) << define(W2) << run(W2, parent, 1)
    t >> submit(child, W2)
    t >> Received(W2, m.Blocked(ident(1))) << StartWorker(W3)
    t >> started(W3) << define(W3) << run(W3, child, 1)
    t >> done(W3, child) << ready(1, to=W2, client=W2)
    t >> Received(W2, m.Unblocked(ident(1)))
    t >> done(W2, parent) << ready(1)
    t.later(5.0) << StopWorker(W3, "exit")
    t.quiet()


def test_tasks_that_were_sent_ahead_go_back_when_the_worker_blocks() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    one, two, three = task(1), task(2), task(3)
    t >> [submit(spec) for spec in (one, two, three)]
    t << run(W2, one, 2) << run(W2, two, 3) << run(W2, three, 4)
    t >> Received(W2, m.Blocked(ident(1), (ident(2),))) << Send(W2, m.Recall((ident(3),))) << StartWorker(W3)
    t >> Received(W2, m.Returned((ident(3),)))
    t >> started(W3) << define(W3) << run(W3, three, 1) << run(W3, two, 2)
    t.quiet()


def test_fifty_nested_tasks_end_on_one_processor() -> None:
    t = Transcript(cpus=1, max_workers=60)
    specs = [task(1)]
    t >> submit(specs[0]) << define(W2) << run(W2, specs[0], 1)
    for depth in range(50):
        worker = ClientId(W2 + depth)
        child = task(1, client=worker, name="g", number=str(depth))
        specs.append(child)
        t >> submit(child, worker)
        t >> Received(worker, m.Blocked(specs[depth].task_id)) << StartWorker(ClientId(worker + 1))
        (
            t
            >> started(ClientId(worker + 1))
            << define(ClientId(worker + 1))
            << run(ClientId(worker + 1), child, 1)
        )
    assert () == t.core.status().available
    for depth in range(50, 0, -1):
        worker = ClientId(W2 + depth)
        t >> done(worker, specs[depth]) << ready(1, to=ClientId(worker - 1), client=ClientId(worker - 1))
        t >> Received(ClientId(worker - 1), m.Unblocked(specs[depth - 1].task_id))
    t >> done(W2, specs[0]) << ready(1)
    assert (("CPU", 10_000),) == t.core.status().available


def test_a_task_that_goes_on_takes_its_processor_even_if_none_is_free() -> None:
    t = Transcript(cpus=1)
    parent, other = task(1), task(2)
    t >> submit(parent) << define(W2) << run(W2, parent, 1)
    t >> submit(other)
    t >> Received(W2, m.Blocked(ident(1))) << StartWorker(W3)
    t >> started(W3) << define(W3) << run(W3, other, 1)
    t >> Received(W2, m.Unblocked(ident(1)))
    t >> submit(task(3))
    t >> done(W3, other, micros=20_000) << ready(2)
    t >> done(W2, parent, micros=20_000) << ready(1) << run(W2, task(3), 2)
    t.quiet()


def test_only_processors_are_lent() -> None:
    t = Transcript(cpus=1, gpus=1, licence=1)
    spec = task(1, resources={"GPU": 1, "licence": 1})
    t >> submit(spec) << define(W2) << run(W2, spec, 1, gpus=(0,))
    t >> Received(W2, m.Blocked(ident(1)))
    assert (("CPU", 10_000),) == t.core.status().available
    t >> [Received(W2, m.Blocked(ident(1))), Received(W2, m.Unblocked(ident(1)))]
    t >> Received(W2, m.Unblocked(ident(1)))
    assert () == t.core.status().available
    t.quiet()


def test_a_task_that_ends_while_blocked_leaves_nothing_behind() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> Received(W2, m.Blocked(ident(1)))
    t >> done(W2, task(1)) << ready(1)
    assert (("CPU", 10_000),) == t.core.status().available
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()


def test_the_limit_of_workers_is_the_explanation_when_all_workers_are_blocked() -> None:
    t = Transcript(cpus=1, max_workers=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> submit(task(1, client=W2, name="g", number="1"), W2)
    t >> Received(W2, m.Blocked(ident(1)))
    t.quiet()
    assert (
        "g#1 waits for a worker: all 1 that the session may have are busy, blocked or actors."
        == t.core.explain(ident(1, W2))
    )
