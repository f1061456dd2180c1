"""The cancelling of tasks: before the start, while they run, with force, with their children, and too late."""

from __future__ import annotations

from ipyremote import messages as m
from ipyremote.core import Event, Received, Send, StartWorker, StopWorker
from ipyremote.ids import DRIVER, ClientId
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
    started,
    submit,
    task,
)

INTERRUPTED = m.Failure("task_cancelled", "interrupted")


def cancel(number: int, *, force: bool = False, recursive: bool = True, client: ClientId = DRIVER) -> Event:
    return Received(DRIVER, m.CancelTask(ident(number, client), force, recursive))


def running() -> Transcript:
    """Return a session in which task 1 runs on worker 2."""
    t = Transcript(cpus=1)
    return t >> submit(task(1, max_retries=3)) << define(W2) << run(W2, task(1, max_retries=3), 1)


def unstarted(number: int) -> m.Failure:
    return m.Failure("task_cancelled", f"f#{number} was cancelled before it started.")


def test_a_cancelled_task_that_was_waiting_or_ready_never_runs() -> None:
    t = running()
    t >> [submit(task(2)), submit(task(3, deps=(ident(2),)))]
    t >> cancel(2) << ready(2, unstarted(2)) << ready(3, unstarted(2))
    t >> done(W2, task(1)) << ready(1)
    assert {"done": 1, "cancelled": 1, "failed": 1} == t.core.status().tasks


def test_the_worker_of_a_running_task_is_asked_to_interrupt_it() -> None:
    t = running()
    t >> cancel(1) << Send(W2, m.CancelRun(ident(1), 0))
    t >> cancel(1)
    assert {"cancelling": 1} == t.core.status().tasks
    t >> done(W2, task(1), INTERRUPTED) << ready(1, INTERRUPTED)
    assert {"cancelled": 1} == t.core.status().tasks


def test_a_task_that_ends_before_it_sees_the_request_keeps_its_value() -> None:
    t = running()
    t >> cancel(1) << Send(W2, m.CancelRun(ident(1), 0))
    t >> done(W2, task(1)) << ready(1)
    assert {"done": 1} == t.core.status().tasks


def test_an_ended_task_and_an_object_without_a_task_cannot_be_cancelled() -> None:
    t = running()
    t >> done(W2, task(1)) << ready(1)
    t >> Received(DRIVER, m.Put(ident(2), m.Inline(b"")))
    t >> [cancel(1), cancel(2), cancel(77)]
    t.quiet()


def test_force_kills_the_worker_and_the_task_is_not_retried() -> None:
    t = running()
    failure = m.Failure("task_cancelled", "f#1 was force-cancelled; its worker (pid 102) was killed.")
    t >> cancel(1, force=True) << StopWorker(W2, "kill") << ready(1, failure) << StartWorker(W3)
    t >> exited(W2, 1)
    t.quiet()
    assert (("CPU", 10_000),) == t.core.status().available


def test_a_cancelled_task_whose_worker_is_lost_is_not_retried() -> None:
    t = running()
    t >> cancel(1) << Send(W2, m.CancelRun(ident(1), 0))
    t >> exited(W2, 1) << ready(1, m.Failure("task_cancelled", "f#1 was cancelled.")) << StartWorker(W3)


def test_a_task_that_was_sent_ahead_is_cancelled_where_it_is_even_with_force() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    t >> [submit(task(1)), submit(task(2))] << run(W2, task(1), 2) << run(W2, task(2), 3)
    t >> cancel(2, force=True) << Send(W2, m.CancelRun(ident(2), 0))
    t >> Received(W2, m.Returned((ident(2),)))
    t << ready(2, m.Failure("task_cancelled", "f#2 was cancelled."))


def test_a_cancelled_task_that_raises_is_not_retried() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=-1, retry_on=b"*")
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> cancel(1) << Send(W2, m.CancelRun(ident(1), 0))
    bad = m.Failure("task_error", "no")
    t >> Received(W2, m.TaskFailed(ident(1), 0, bad)) << ready(1, bad)


def test_children_are_cancelled_and_so_are_the_children_of_ended_children() -> None:
    t = running()
    child = task(1, client=W2, name="child", number="1", parent=ident(1))
    grandchild = task(1, client=W3, name="grandchild", number="1", parent=ident(1, W2))
    t >> submit(child, W2)
    t >> Received(W2, m.Blocked(ident(1))) << StartWorker(W3)
    t >> started(W3) << define(W3) << run(W3, child, 1)
    t >> submit(grandchild, W3)
    t >> done(W3, child, micros=10_000) << ready(1, to=W2, client=W2) << run(W3, grandchild, 2)
    t >> cancel(1) << Send(W2, m.CancelRun(ident(1), 0)) << Send(W3, m.CancelRun(ident(1, W3), 0))
    t >> done(W3, grandchild, INTERRUPTED) << ready(1, INTERRUPTED, to=W3, client=W3)


def test_without_recursion_children_go_on() -> None:
    t = running()
    child = task(1, client=W2, name="child", number="1", parent=ident(1))
    t >> submit(child, W2)
    t >> cancel(1, recursive=False) << Send(W2, m.CancelRun(ident(1), 0))
    t >> done(W2, task(1), INTERRUPTED) << ready(1, INTERRUPTED) << run(W2, child, 2)


def test_waiting_calls_are_cancelled_and_the_worker_of_running_calls_is_asked() -> None:
    t = Transcript(cpus=1)
    t >> create(task(1, name="A", number="1")) << define(W2)
    t.taken()
    t >> done(W2, task(1))
    t.taken()
    one, two, three = call(2, 1), call(3, 1, deps=(ident(9),)), call(4, 1)
    t >> Received(DRIVER, m.Submit(task(9, resources={"GPU": 1})))
    t.taken()
    t >> submit(one) << run(W2, one, 2)
    t >> [submit(two), submit(three)]
    t >> cancel(3)
    t << ready(3, m.Failure("task_cancelled", "A.m#3 was cancelled before it started.")) << run(W2, three, 3)
    t >> cancel(2) << Send(W2, m.CancelRun(ident(2), 0))
    t >> done(W2, one, INTERRUPTED) << ready(2, INTERRUPTED)
    t >> done(W2, three) << ready(4)


def test_two_thousand_queued_tasks_are_cancelled_in_one_batch() -> None:
    t = running()
    specs = [task(n) for n in range(2, 2000)]
    t.core.handle([submit(spec) for spec in specs], 0.0)
    t.core.handle([cancel(n) for n in range(2, 2000)], 0.0)
    t.core.audit()
    assert {"running": 1, "cancelled": 1998} == t.core.status().tasks
