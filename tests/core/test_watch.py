"""Watchers of tasks, explanations, the status, the story of a task, and its output."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Command, Event, Received, Send, Step
from ipyremote.ids import DRIVER, NOBODY
from tests.core.transcript import (
    W2,
    W3,
    Transcript,
    define,
    done,
    exited,
    ident,
    ready,
    run,
    submit,
    task,
    value,
)


def watch(*numbers: int) -> Event:
    return Received(DRIVER, m.Watch(tuple(map(ident, numbers))))


def update(
    number: int, state: str, seconds: float = 0.0, detail: str = "", label: str | None = None
) -> Command:
    return Send(
        DRIVER, m.TaskUpdate(ident(number), state, f"f#{number}" if label is None else label, seconds, detail)
    )


def test_a_watcher_is_told_each_state_of_a_task_until_its_end() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    after = task(2, deps=(ident(1),))
    t >> submit(after)
    t >> watch(2) << update(2, "waiting", detail="f#2 waits for the value of f#1.")
    t >> done(W2, task(1), micros=10_000) << ready(1) << update(2, "ready") << update(2, "running")
    t << run(W2, after, 2, value())
    t.now += 1.5
    t >> Received(W2, m.Blocked(ident(2))) << update(2, "blocked", 1.5)
    t >> Received(W2, m.Unblocked(ident(2))) << update(2, "running", 1.5)
    t >> done(W2, after) << ready(2) << update(2, "done", 1.5)
    t >> watch(2) << update(2, "done", 1.5)


def test_a_task_that_was_sent_ahead_is_shown_as_ready() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    t >> [submit(task(1)), submit(task(2))] << run(W2, task(1), 2) << run(W2, task(2), 3)
    t >> watch(2) << update(2, "ready", detail="f#2 was sent to worker 102, behind f#1, which runs there.")
    t >> done(W2, task(1)) << update(2, "running") << ready(1)
    t >> Received(DRIVER, m.Unwatch((ident(2), ident(77))))
    t >> done(W2, task(2)) << ready(2)


def test_a_watcher_is_told_the_first_line_of_a_failure() -> None:
    t = Transcript()
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> watch(1) << update(1, "running")
    bad = m.Failure("task_error", "ValueError: no\nmore")
    t >> done(W3, task(1), bad) << ready(1, bad) << update(1, "failed", detail="ValueError: no")


def test_a_watcher_is_told_at_once_of_put_objects_and_of_unknown_objects() -> None:
    t = Transcript()
    t >> Received(DRIVER, m.Put(ident(1), value()))
    t >> watch(1, 2) << update(1, "done", label="")
    t << update(2, "failed", detail="It is not in this session any more: nobody holds a ref to it.", label="")


def test_a_watcher_is_told_of_forwarding_and_cancellation() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> submit(task(2))
    t >> watch(1, 2) << update(1, "running")
    t << update(2, "ready", detail="f#2 waits for 1 CPU: 1 of 1 is used by f#1.")
    t >> done(W2, task(1), m.Forward(ident(2)), micros=10_000)
    t << update(1, "waiting", detail="for the value of f#2, which it returned") << update(2, "running")
    t << run(W2, task(2), 2)
    t >> watch(1) << update(1, "waiting", detail="f#1 has returned f#2, whose value is not there yet.")
    gone = m.Failure("task_cancelled", "interrupted")
    t >> done(W2, task(2), gone) << ready(2, gone) << update(2, "cancelled", detail="interrupted")
    t << ready(1, gone) << update(1, "cancelled", detail="interrupted")


def test_requests_for_the_status_and_for_explanations_are_answered() -> None:
    t = Transcript()
    t >> Received(DRIVER, m.Status(5)) << Send(DRIVER, m.StatusReply(5, t.core.status()))
    t >> Received(DRIVER, m.Explain(6, ident(1)))
    t << Send(DRIVER, m.Explanation(6, "It is not in this session any more: nobody holds a ref to it."))
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    assert "f#1 runs on worker 103 for 0.0 s." == t.core.explain(ident(1))
    idle, busy = t.core.status().workers
    assert (m.WorkerStatus(W2, 102, "idle"), m.WorkerStatus(W3, 103, "busy", "f#1", runs=True)) == (
        idle,
        busy,
    )
    t >> done(W3, task(1)) << ready(1)
    assert "f#1 is done." == t.core.explain(ident(1))


def test_the_story_of_a_task_tells_its_submission_and_its_lost_attempts() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=1)
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t.now = 1.0
    t >> exited(W2, 1)
    t.taken()
    assert [
        Step(0.0, "submitted by client 1"),
        Step(1.0, "attempt 0: its worker (pid 102) was lost: signal 9 (SIGKILL)"),
    ] == t.core.story(ident(1))
    assert [] == t.core.story(ident(2))


def test_output_goes_to_the_driver_and_cell_that_submitted_the_task() -> None:
    t = Transcript()
    spec = task(1, cell=9)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> Received(W3, m.Output(ident(1), 2, "hello"))
    t << Send(DRIVER, m.OutputText(9, "f#1", 2, "hello", ident(1)))
    t >> Received(W3, m.Output(NOBODY, 1, "hello")) << Send(DRIVER, m.OutputText(0, "", 1, "hello"))
