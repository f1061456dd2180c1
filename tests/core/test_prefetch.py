"""Prefetch: tasks that are sent ahead, and recalled when another worker could run them."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Received, Send
from ipyremote.core.placement import MOST_IN_FLIGHT
from ipyremote.ids import ClientId
from tests.core.transcript import W2, W3, Transcript, define, done, ident, ready, run, submit, task


def known(micros: int, cpus: int = 1) -> Transcript:
    """Return a core that knows the duration of the function, in microseconds, with all workers idle."""
    t = Transcript(cpus=cpus)
    t >> submit(task(1)) << define(ClientId(W2 + cpus - 1)) << run(ClientId(W2 + cpus - 1), task(1), 1)
    t >> done(ClientId(W2 + cpus - 1), task(1), micros=micros) << ready(1)
    return t


def sent(t: Transcript) -> list[tuple[int, int]]:
    """Return (worker, number of the task) of the runs among the commands that are left."""
    return [
        (command.to, command.message.spec.task_id - ident(0))
        for command in t.taken()
        if isinstance(command, Send) and isinstance(command.message, m.RunTask)
    ]


def test_tasks_of_a_function_that_never_ran_are_sent_one_at_a_time() -> None:
    t = Transcript(cpus=1)
    t >> [submit(task(n)) for n in (1, 2, 3)] << define(W2) << run(W2, task(1), 1)
    t.quiet()


def test_short_tasks_are_sent_ahead_up_to_five_milliseconds() -> None:
    t = known(1000)
    t >> [submit(task(n)) for n in range(2, 20)]
    assert [(W2, n) for n in range(2, 7)] == sent(t)
    t >> done(W2, task(2), micros=1000) << ready(2) << run(W2, task(7), 7)
    t.quiet()


def test_the_number_of_very_short_tasks_on_a_worker_is_bounded() -> None:
    t = known(1)
    t >> [submit(task(n)) for n in range(2, 400)]
    assert MOST_IN_FLIGHT == len(sent(t))


def test_long_tasks_are_not_sent_ahead() -> None:
    t = known(20_000)
    t >> [submit(task(2)), submit(task(3))] << run(W2, task(2), 2)
    t.quiet()


def test_tasks_are_spread_over_workers_before_they_are_sent_ahead() -> None:
    t = known(100, cpus=2)
    t >> [submit(task(n)) for n in range(2, 8)]
    runs = sent(t)
    assert 3 == sum(1 for worker, _ in runs if worker == W2)
    assert 3 == sum(1 for worker, _ in runs if worker == W3)


def test_the_resources_of_a_lease_are_counted_once_for_all_tasks_sent_ahead() -> None:
    t = known(100)
    t >> [submit(task(n)) for n in range(2, 8)]
    t.taken()
    assert () == t.core.status().available
    assert {"running": 1, "sent": 5, "done": 1} == t.core.status().tasks


def test_tasks_of_another_shape_are_not_sent_ahead() -> None:
    t = known(100)
    t >> [submit(task(2)), submit(task(3, cpus=0.5))]
    assert [(W2, 3)] == sent(t), "and the shape that was not served yet comes first"


def test_a_lease_gets_no_more_tasks_when_other_shapes_wait() -> None:
    t = known(100)
    t >> [submit(task(n)) for n in range(2, 300)]
    first = sent(t)
    t >> submit(task(500, cpus=0.5))
    t.now += 0.006
    t >> [done(W2, task(n), micros=100) for _, n in first]
    assert (W2, 500) in sent(t)


def test_half_of_the_tasks_sent_ahead_are_recalled_when_a_worker_is_idle_and_then_all() -> None:
    t = known(500, cpus=2)
    t >> [submit(task(n)) for n in range(2, 12)]
    runs = sent(t)
    mine = [n for worker, n in runs if worker == W3]
    others = [n for worker, n in runs if worker == W2]
    assert (5, 5) == (len(mine), len(others))
    t >> [done(W2, task(n), micros=500) for n in others]
    t.taken()
    assert 0.002 == t.core.deadline()
    t.later(0.002)
    t << Send(W3, m.Recall((ident(mine[3]), ident(mine[4]))))
    assert 0.005 == t.core.deadline()
    t >> Received(W3, m.Returned((ident(mine[3]), ident(mine[4]))))
    assert [(W2, mine[3]), (W2, mine[4])] == sent(t)
    t >> [done(W2, task(n), micros=500) for n in mine[3:]]
    t.taken()
    t.later(0.003) << Send(W3, m.Recall((ident(mine[1]), ident(mine[2]))))
    t >> Received(W3, m.Returned(()))
    t.quiet()
    assert t.core.deadline() is None


def test_no_task_is_recalled_while_all_workers_are_busy_until_a_worker_is_silent_for_long() -> None:
    t = known(1000)
    t >> [submit(task(n)) for n in range(2, 30)]
    t.taken()
    assert 0.05 == t.core.deadline()
    t.later(0.049).quiet()
    t.later(0.001) << Send(W2, m.Recall(tuple(ident(n) for n in range(3, 7))))
    t >> Received(W2, m.Returned(tuple(ident(n) for n in range(3, 7))))
    assert "; 26 others wait for the same." in t.core.explain(ident(3))
    t.later(1.0).quiet()


def test_tasks_that_were_handed_back_run_before_newer_tasks() -> None:
    t = known(1000)
    t >> [submit(task(n)) for n in range(2, 9)]
    t.taken()
    t.later(0.05) << Send(W2, m.Recall(tuple(ident(n) for n in range(3, 7))))
    t >> Received(W2, m.Returned((ident(4), ident(5))))
    t.quiet()
    t >> done(W2, task(2), micros=1000) << ready(2) << run(W2, task(4), 7) << run(W2, task(5), 8)
    t << run(W2, task(7), 9)
    t.quiet()


def test_a_recalled_task_that_has_started_stays_on_its_worker() -> None:
    t = known(1000)
    t >> [submit(task(n)) for n in (2, 3)]
    t.taken()
    t.later(0.06) << Send(W2, m.Recall((ident(3),)))
    t >> Received(W2, m.Returned(()))
    t >> done(W2, task(2)) << ready(2)
    t >> done(W2, task(3)) << ready(3)
    t.quiet()
