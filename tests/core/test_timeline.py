"""The timeline: runs with their times and states, as answers to a client that asks repeatedly."""

from __future__ import annotations

import pytest

from ipyremote import messages as m
from ipyremote.core import Received, Send, timeline
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
    ident,
    ready,
    run,
    submit,
    task,
)


def spans(t: Transcript, since: float = -1.0) -> list[tuple[str, float, float, str]]:
    """Return (label, start, end, state) of the runs that a query is answered with."""
    t >> Received(DRIVER, m.Spans(1, since))
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.SpansReply)
    assert command.message.now == t.now
    return [(span.label, span.start, span.end, span.state) for span in command.message.spans]


def test_a_run_is_drawn_from_its_start_with_the_duration_that_its_worker_reports() -> None:
    t = Transcript(cpus=1)
    t.now = 1.0
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    assert spans(t) == []
    t.now = 3.0
    t >> done(W2, task(1), micros=1_500_000) << ready(1)
    assert spans(t) == [("f#1", 1.0, 2.5, "done")]


def test_runs_of_one_worker_that_are_reported_together_are_drawn_one_after_another() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    t.now = 1.0
    t >> [submit(task(1)), submit(task(2)), submit(task(3))]
    t.taken()
    t.now = 2.0
    t >> [done(W2, task(number), micros=200_000) for number in (1, 2, 3)]
    t.taken()
    drawn = [(label, round(start, 6), round(end, 6)) for label, start, end, _ in spans(t)[1:]]
    assert drawn == [("f#1", 1.0, 1.2), ("f#2", 1.2, 1.4), ("f#3", 1.4, 1.6)]


def test_each_answer_goes_on_where_the_answer_before_ended() -> None:
    t = Transcript(cpus=1)
    t.now = 1.0
    t.run_away(W2, task(1))
    t.now = 2.0
    t >> submit(task(2)) << run(W2, task(2), 2)
    t.now = 3.0
    # The answer contains runs that are reported after the query in the same batch.
    t >> [Received(DRIVER, m.Spans(7, 1.0)), done(W2, task(2), micros=500_000)]
    t << ready(2)
    t << Send(DRIVER, m.SpansReply(7, 3.0, (m.TaskRun(W2, "f", "2", 2.0, 2.5, "done"),)))
    assert spans(t, 3.0) == []


def test_failed_cancelled_retried_and_lost_runs_have_states_of_their_own() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t.now = 1.0
    t >> done(W2, task(1), m.Failure("task_error", "no"))
    t.taken()
    again = task(2, retry_on=b"*", max_retries=1)
    t >> submit(again)
    t.taken()
    t.now = 2.0
    t >> Received(W2, m.TaskFailed(ident(2), 0, m.Failure("task_error", "no"), 500_000))
    t.taken()
    t >> Received(DRIVER, m.CancelTask(ident(2)))
    t.taken()
    t.now = 3.0
    t >> done(W2, again, m.Failure("task_cancelled", "so"), attempt=1)
    t.taken()
    t >> submit(task(3))
    t.taken()
    t.now = 4.0
    t >> exited(W2, 4)
    t.taken()
    assert [(label, state) for label, _, _, state in spans(t)] == [
        ("f#1", "failed"),
        ("f#2", "retried"),
        ("f#2", "cancelled"),
        ("f#3", "lost"),
    ]
    assert spans(t)[-1] == ("f#3", 3.0, 4.0, "lost")


def test_concurrent_calls_of_an_actor_overlap() -> None:
    t = Transcript()
    t >> create(task(1, cpus=0), max_concurrency=2)
    t.taken()
    t >> done(W3, task(1, cpus=0))
    t.taken()
    t >> [submit(call(2, 1)), submit(call(3, 1))]
    t.taken()
    t.now = 2.0
    t >> [done(W3, call(2, 1), micros=1_500_000), done(W3, call(3, 1), micros=1_000_000)]
    t.taken()
    assert spans(t)[1:] == [("A.m#2", 0.5, 2.0, "done"), ("A.m#3", 1.0, 2.0, "done")]


def test_only_the_latest_runs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "KEPT", 3)
    t = Transcript(cpus=1)
    for number in range(1, 6):
        t.now = float(number)
        t.run_away(W2, task(number))
    assert [label for label, *_ in spans(t)] == ["f#3", "f#4", "f#5"]
