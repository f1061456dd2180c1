"""Placement of tasks on workers: leases, fairness, aging, needs that cannot be met, large arguments."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import ClientJoined, Received, Send, StartWorker
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    CPU,
    W2,
    W3,
    W4,
    W5,
    Transcript,
    define,
    done,
    ident,
    ready,
    run,
    started,
    submit,
    task,
    value,
)


def test_a_task_runs_and_its_submitter_is_told() -> None:
    t = Transcript()
    spec = task(1)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> done(W3, spec) << ready(1)
    t >> Received(DRIVER, m.Release((ident(1),)))
    t.quiet()


def test_a_function_is_sent_once_to_each_worker() -> None:
    t = Transcript()
    one, two, three = task(1), task(2), task(3)
    t >> submit(one) << define(W3) << run(W3, one, 1)
    t >> submit(two) << define(W2) << run(W2, two, 1)
    t >> done(W3, one) << ready(1)
    t >> submit(three) << run(W3, three, 2)
    t.quiet()


def test_tasks_are_placed_after_all_events_of_a_batch_were_handled() -> None:
    t = Transcript(cpus=1)
    one, two = task(1), task(2)
    t >> submit(one) << define(W2) << run(W2, one, 1)
    t >> [done(W2, one, micros=1_000_000), submit(two)] << ready(1) << run(W2, two, 2)
    t.quiet()


def test_as_many_workers_as_processors_are_started_at_first() -> None:
    t = Transcript(cpus=3, start=False)
    t.start_workers(3)
    t.quiet()


def test_one_worker_is_started_even_without_processors() -> None:
    t = Transcript(cpus=0, start=False)
    t.start_workers(1)
    t.quiet()


def test_tasks_queue_until_the_first_worker_has_greeted() -> None:
    t = Transcript(cpus=1, start=False)
    spec = task(1)
    t >> Received(DRIVER, m.Define(b"function", b"code")) << StartWorker(W2)
    t >> submit(spec)
    t >> started(W2) << define(W2) << run(W2, spec, 1)
    t.quiet()


def test_smaller_tasks_pass_a_task_that_does_not_fit() -> None:
    t = Transcript()
    small, big, other = task(1), task(2, cpus=2), task(3)
    t >> submit(small) << define(W3) << run(W3, small, 1)
    t >> submit(big)
    t >> submit(other) << define(W2) << run(W2, other, 1)
    assert "f#2 waits for 2 CPUs: 2 of 2 are used by f#3, f#1." == t.core.explain(ident(2))


def test_explain_names_a_few_of_the_users_of_a_missing_resource_and_counts_the_others() -> None:
    t = Transcript(cpus=5)
    for number in range(1, 6):
        t >> submit(task(number))
        t.taken()
    t >> submit(task(6)) >> submit(task(7))
    assert (
        "f#6 waits for 1 CPU: 5 of 5 are used by f#5, f#4, f#3 and 2 more; 1 other waits for the same."
        == t.core.explain(ident(6))
    )


def test_a_task_with_large_needs_is_not_passed_for_ever() -> None:
    t = Transcript()
    small, big = task(1), task(2, cpus=2)
    t >> submit(small) << define(W3) << run(W3, small, 1)
    t >> submit(big)
    t >> submit(task(3)) << define(W2) << run(W2, task(3), 1)
    t >> done(W2, task(3), micros=10_000) << ready(3)
    t.later(1.1)
    t >> submit(task(4))
    assert "larger request" in t.core.explain(ident(4))
    t >> done(W3, small, micros=10_000) << ready(1) << run(W3, big, 2)
    t >> done(W3, big, micros=10_000) << ready(2) << run(W3, task(4), 3)
    t.quiet()


def test_no_resources_are_kept_for_a_starving_task_that_lacks_what_actors_hold() -> None:
    t = Transcript()
    keeper = task(1, name="A", number="1")
    t >> Received(DRIVER, m.CreateActor(keeper, m.ActorSpec("A", (("CPU", CPU),))))
    t.taken()
    t >> done(W3, keeper)
    t.taken()
    t >> started(W4)
    big = task(2, cpus=2)
    t >> submit(big)
    t.later(5.0)
    t.taken()
    t >> submit(task(3))
    assert run(W2, task(3), 1) in t.taken() or "f#3 runs" in t.core.explain(ident(3))


def test_a_flood_of_one_client_does_not_hold_up_another() -> None:
    t = Transcript(cpus=1)
    other = ClientId(1 << 22)
    t >> ClientJoined(other)
    flood = [task(n) for n in range(1, 11)]
    t >> [submit(spec) for spec in flood] << define(W2) << run(W2, flood[0], 1)
    single = task(1, client=other, name="g", number="1")
    t >> submit(single, other)
    t >> done(W2, flood[0], micros=1_000_000) << ready(1) << run(W2, flood[1], 2)
    t >> done(W2, flood[1], micros=1_000_000) << ready(2) << run(W2, single, 3)
    t.taken()


def test_shapes_are_served_in_turn() -> None:
    t = Transcript(cpus=1)
    flood = [task(n) for n in range(1, 6)]
    half = task(9, cpus=0.5)
    t >> [submit(spec) for spec in flood] << define(W2) << run(W2, flood[0], 1)
    t >> submit(half)
    t >> done(W2, flood[0], micros=1_000_000) << ready(1)
    sent = t.taken()
    t >> done(W2, flood[1], micros=1_000_000)
    assert run(W2, half, 3) in sent + t.taken() or run(W2, half, 2) in sent


def test_a_task_that_can_never_run_waits_and_the_driver_is_told_once() -> None:
    t = Transcript()
    greedy = task(1, resources={"GPU": 1}, cell=7)
    text = "f#1 cannot start: it needs 1 GPU (the session has 0). It waits until it is cancelled."
    t >> submit(greedy) << Send(DRIVER, m.Notice(text, 7))
    t >> submit(task(2, resources={"GPU": 1}))
    t.quiet()
    assert "f#1 can never start in this session: it needs 1 GPU (the session has 0)." == t.core.explain(
        ident(1)
    )
    t >> submit(task(3)) << define(W3) << run(W3, task(3), 1)


def test_the_number_of_running_tasks_without_needs_is_bounded() -> None:
    t = Transcript(cpus=1)
    specs = [task(n, cpus=0) for n in range(1, 8)]
    t >> [submit(spec) for spec in specs] << define(W2) << run(W2, specs[0], 1)
    t << StartWorker(W3) << StartWorker(W4) << StartWorker(W5)
    t >> [started(W3), started(W4), started(W5)]
    assert 3 == sum(1 for c in t.taken() if isinstance(c, Send) and isinstance(c.message, m.RunTask))
    assert t.core.status().tasks == {"running": 4, "ready": 3}


def test_the_values_of_dependencies_are_sent_with_the_task() -> None:
    t = Transcript()
    first = task(1)
    t >> submit(first) << define(W3) << run(W3, first, 1)
    second = task(2, deps=(ident(1),))
    t >> submit(second)
    assert "f#2 waits for the value of f#1." == t.core.explain(ident(2))
    t >> done(W3, first, value("x")) << ready(1, value("x")) << run(W3, second, 2, value("x"))
    t.quiet()


def test_large_inline_values_are_sent_in_messages_of_their_own_before_the_task() -> None:
    t = Transcript()
    big = m.Inline(b"x" * (1 << 20))
    stored = m.Stored("seg-1-1", 10, 10)
    t >> Received(DRIVER, m.Put(ident(1), big)) >> Received(DRIVER, m.Put(ident(2), value()))
    t >> Received(DRIVER, m.Put(ident(3), stored))
    spec = task(4, deps=(ident(1), ident(2), ident(1), ident(3)))
    t >> submit(spec) << define(W3) << ready(1, big, to=W3) << ready(2, to=W3)
    t << run(W3, spec, 1, None, None, None, stored)
    t.quiet()


def test_waiting_tasks_share_the_equal_parts_of_their_specs() -> None:
    t = Transcript(cpus=1)
    frame = m.encode_frame(1, [m.Submit(task(1)), m.Submit(task(2))])
    specs = [message.spec for message in m.decode_from_client(frame)[1] if isinstance(message, m.Submit)]
    assert specs[0].resources is not specs[1].resources, "as they come"
    # Not through `>>`, which gives the core copies.
    t.core.handle([submit(spec) for spec in specs], 1.0)
    assert specs[0].resources is specs[1].resources
    assert specs[0].digest is specs[1].digest
    assert specs == [task(1), task(2)]
