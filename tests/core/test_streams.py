"""Streams: items become objects once, the demand follows the consumption, and items that nobody takes are not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ipyremote import messages as m
from ipyremote.core import Command, Event, Log, Received, Send, StartWorker, StopWorker, Tick
from ipyremote.core.lifetimes import lost
from ipyremote.ids import DRIVER, SCHEDULER, ClientId, ObjectId, minus
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

SPEC = task(1, stream=m.ENDLESS, max_retries=1, retry_on=b"*")
LIMITED = task(1, stream=2, max_retries=1)
STORED = m.Stored("seg-2-1", 100, 10)


def item_id(number: int) -> ObjectId:
    """Return the id of the `number`th item that the core makes, counted from 1."""
    return ident(number, SCHEDULER)


def yields(
    worker: ClientId,
    index: int,
    given: Any = None,
    *,
    spec: m.TaskSpec = SPEC,
    attempt: int = 0,
    refs: Any = (),
) -> Event:
    """Return the event that a worker yields an item, by default `value(str(index))`."""
    return Received(worker, m.Yield(spec.task_id, attempt, index, given or value(str(index)), refs))


def item(index: int, number: int | None = None, given: Any = None, to: ClientId = DRIVER) -> Command:
    """Return the command that tells the submitter of task 1 of an item."""
    object_id = item_id(index + 1 if number is None else number)
    return Send(to, m.StreamItem(ident(1), index, object_id, given or value(str(index))))


def demand(items: int, worker: ClientId = W2, attempt: int = 0) -> Command:
    return Send(worker, m.StreamDemand(ident(1), attempt, items))


def consumed(count: int, sender: ClientId = DRIVER) -> Event:
    return Received(sender, m.Consumed(ident(1), count))


def dropped(*others: ObjectId, sender: ClientId = DRIVER) -> Event:
    """Return the event that a client has dropped the generator of task 1, and these objects with it."""
    return Received(sender, m.Release((minus(ident(1)), *others)))


def streaming(spec: m.TaskSpec = SPEC, cpus: float = 1) -> Transcript:
    """Return a core where task 1, a stream, runs on the worker."""
    t = Transcript(cpus=cpus)
    t >> submit(spec) << define(W2 if cpus == 1 else W3) << run(W2 if cpus == 1 else W3, spec, 1)
    return t


def test_an_item_is_an_object_that_the_submitter_holds() -> None:
    t = streaming()
    t >> yields(W2, 0) << item(0)
    t >> yields(W2, 1) << item(1)
    t >> done(W2, SPEC) << ready(1)
    assert 3 == t.core.status().objects
    t >> Received(DRIVER, m.Release((item_id(1), item_id(2)))) >> dropped(ident(1))
    assert 0 == t.core.status().objects


def test_the_label_of_an_item_has_its_index() -> None:
    t = streaming()
    t >> yields(W2, 0) << item(0)
    assert "f#1[0] is done." == t.core.explain(item_id(1))


def test_a_stored_item_goes_back_to_its_creator() -> None:
    t = streaming()
    t >> yields(W2, 0, STORED) << item(0, given=STORED)
    assert 100 == t.core.status().stored_bytes
    t >> Received(DRIVER, m.Release((item_id(1),))) << Send(W2, m.DropSegments(("seg-2-1",)))


def test_an_item_holds_the_objects_inside_its_value() -> None:
    t = streaming()
    t >> Received(W2, m.Put(ident(1, W2), value()))
    t >> yields(W2, 0, refs=(ident(1, W2),)) << item(0)
    t >> Received(W2, m.Release((ident(1, W2),)))
    assert 3 == t.core.status().objects
    t >> Received(DRIVER, m.Release((item_id(1),)))
    assert 1 == t.core.status().objects


def test_a_deferred_item_is_told_before_its_value() -> None:
    t = streaming(cpus=2)
    child = task(1, client=W3, name="g", number="1", parent=ident(1))
    t >> submit(child, W3) << define(W2) << run(W2, child, 1)
    (
        t
        >> yields(W3, 0, m.Forward(child.task_id))
        << Send(DRIVER, m.StreamItem(ident(1), 0, item_id(1), None))
    )
    t >> Received(W3, m.Release((child.task_id,)))
    t >> done(W2, child, value("x")) << ready(1, value("x"), client=SCHEDULER)


def test_a_deferred_item_whose_target_has_a_value_gets_the_value_at_once() -> None:
    t = streaming()
    t >> Received(W2, m.Put(ident(1, W2), value("x")))
    t >> yields(W2, 0, m.Forward(ident(1, W2)))
    (t << Send(DRIVER, m.StreamItem(ident(1), 0, item_id(1), None)) << ready(1, value("x"), client=SCHEDULER))


def test_a_deferred_item_whose_target_is_lost_fails() -> None:
    t = streaming()
    t >> yields(W2, 0, m.Forward(ident(9)))
    t << Send(DRIVER, m.StreamItem(ident(1), 0, item_id(1), None))
    t << ready(1, lost(ident(9)), client=SCHEDULER)


def test_after_a_crash_items_are_not_given_twice() -> None:
    t = streaming(cpus=2)
    t >> yields(W3, 0) << item(0)
    t >> exited(W3, 1) << define(W2) << run(W2, SPEC, 1, attempt=1) << StartWorker(W4)
    t >> yields(W2, 0, value("other"), attempt=1)
    t.quiet()
    t >> yields(W2, 1, attempt=1) << item(1)
    t >> done(W2, SPEC, attempt=1) << ready(1)


def test_the_segments_of_items_that_a_later_attempt_yields_again_are_recycled() -> None:
    t = streaming()
    t >> yields(W2, 0) << item(0)
    bad = m.Failure("task_error", "no")
    t >> Received(W2, m.TaskFailed(ident(1), 0, bad)) << run(W2, SPEC, 2, attempt=1)
    t >> yields(W2, 0, STORED, attempt=1) << Send(W2, m.DropSegments(("seg-2-1",)))
    t >> yields(W2, 0, STORED) << Send(W2, m.DropSegments(("seg-2-1",)))


def test_without_a_retry_a_crash_ends_the_stream() -> None:
    spec = task(1, stream=m.ENDLESS)
    t = streaming(spec)
    t >> yields(W2, 0, spec=spec) << item(0)
    t >> exited(W2, 1)
    assert "worker_crashed" == failure_of(t.taken()[0]).kind
    assert 2 == t.core.status().objects


def test_the_worker_of_a_limited_stream_is_told_the_number_of_consumed_items() -> None:
    t = streaming(LIMITED)
    t >> yields(W2, 0) << item(0)
    t >> yields(W2, 1) << item(1)
    t >> Received(W2, m.Blocked(ident(1)))
    t >> submit(task(2))
    assert "f#1 waits until more of what it yielded is taken on worker 102 for 0.0 s." == t.core.explain(
        ident(1)
    )
    t << StartWorker(W3)
    t >> consumed(1) << demand(3)
    t >> consumed(1)
    t.quiet()
    t >> consumed(1, sender=W2)
    t.quiet()


def test_a_later_attempt_of_a_limited_stream_is_told_its_demand_at_the_first_item() -> None:
    t = streaming(LIMITED)
    t >> yields(W2, 0) << item(0)
    t >> yields(W2, 1) << item(1)
    t >> consumed(2) << demand(4)
    t >> exited(W2, 1)
    t.taken()
    t >> started(W3) << define(W3) << run(W3, LIMITED, 1, attempt=1)
    t >> yields(W3, 0, attempt=1) << demand(4, W3, 1)


def test_no_more_items_are_counted_as_consumed_than_were_yielded() -> None:
    t = streaming(LIMITED)
    t >> yields(W2, 0) << item(0)
    t >> consumed(1_000) << demand(3)


def test_a_task_whose_generator_is_dropped_before_it_is_sent_never_runs() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(9)) << define(W2) << run(W2, task(9), 1)
    t >> submit(SPEC) >> dropped(ident(1))
    t >> done(W2, task(9)) << ready(9)
    assert {"cancelled": 1, "done": 1} == t.core.status().tasks


def test_a_task_whose_generator_is_dropped_while_it_waits_for_objects_never_runs() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(9)) << define(W2) << run(W2, task(9), 1)
    t >> submit(task(1, stream=m.ENDLESS, deps=(ident(9),))) >> dropped(ident(1))
    assert "cancelled" in t.core.status().tasks


def test_a_running_task_is_asked_to_close_its_generator() -> None:
    t = streaming()
    t >> yields(W2, 0) << item(0)
    t >> dropped(ident(1), item_id(1)) << demand(0)
    t >> yields(W2, 1, STORED) << Send(W2, m.DropSegments(("seg-2-1",)))
    t >> done(W2, SPEC)
    assert ({"done": 1}, 0) == (t.core.status().tasks, t.core.status().objects)


def test_a_task_whose_generator_was_dropped_is_not_retried() -> None:
    t = streaming()
    t >> dropped(ident(1)) << demand(0)
    t >> exited(W2, 1)
    assert not [c for c in t.taken() if isinstance(c, Send)]
    assert {"cancelled": 1} == t.core.status().tasks


def test_a_task_whose_own_object_is_held_runs_on_without_its_generator() -> None:
    t = streaming()
    t >> yields(W2, 0) << item(0)
    t >> dropped(item_id(1))
    t.quiet()
    t >> yields(W2, 1, STORED) << Send(W2, m.DropSegments(("seg-2-1",)))
    t >> done(W2, SPEC) << ready(1)


def test_a_limit_does_not_hold_up_a_task_whose_items_nobody_takes() -> None:
    t = streaming(LIMITED)
    t >> yields(W2, 0) << item(0)
    t >> dropped(item_id(1)) << demand(m.ENDLESS)
    t >> Received(DRIVER, m.Release((ident(1),))) << demand(0)


def test_a_later_attempt_whose_items_nobody_takes_is_told_to_run_without_a_limit() -> None:
    t = streaming(LIMITED)
    t >> dropped() << demand(m.ENDLESS)
    t >> exited(W2, 1)
    t.taken()
    t >> started(W3) << define(W3) << run(W3, LIMITED, 1, attempt=1)
    t >> yields(W3, 0, attempt=1) << demand(m.ENDLESS, W3, 1)


def test_only_the_submitter_can_drop_a_generator() -> None:
    t = streaming()
    t >> dropped(sender=W2)
    t >> yields(W2, 0) << item(0)


def test_the_streams_that_a_worker_consumes_end_with_the_worker() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    child = task(1, client=W3, name="g", number="1", parent=ident(1), stream=1)
    t >> submit(child, W3) << define(W2) << run(W2, child, 1)
    (t >> yields(W2, 0, spec=child) << Send(W3, m.StreamItem(child.task_id, 0, item_id(1), value("0"))))
    t >> Received(W2, m.Blocked(child.task_id))
    t >> exited(W3, 1)
    assert Send(W2, m.StreamDemand(child.task_id, 0, 0)) in t.taken()


def test_a_stream_that_has_not_begun_when_its_submitter_is_lost_is_closed_at_its_first_item() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    child = task(1, client=W3, name="g", number="1", parent=ident(1), stream=m.ENDLESS)
    t >> submit(child, W3) << define(W2) << run(W2, child, 1)
    t >> exited(W3, 1)
    t.taken()
    t >> yields(W2, 0, spec=child) << Send(W2, m.StreamDemand(child.task_id, 0, 0))


def test_methods_of_actors_can_stream() -> None:
    t = Transcript(cpus=1)
    make = task(5, name="A", number="1")
    t >> create(make) << define(W2) << run(W2, make, 1, actor=m.ActorSpec("A")) << StartWorker(W3)
    t >> done(W2, make) << ready(5)
    spec = call(1, 5, stream=m.ENDLESS)
    t >> submit(spec) << run(W2, spec, 2)
    t >> yields(W2, 0, spec=spec) << item(0)
    t >> Received(DRIVER, m.KillActor(ident(5)))
    commands = t.taken()
    assert StopWorker(W2, "kill") in commands
    assert "actor_died" == failure_of(next(c for c in commands if isinstance(c, Send))).kind


def test_a_task_that_does_not_stream_yields_nothing() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> yields(W2, 0, STORED) << Send(W2, m.DropSegments(("seg-2-1",)))
    t >> dropped() >> consumed(3)
    t.quiet()


# ------------------------------------------------------------------------------------------- every state, every input


def feed(t: Transcript, *events: Event) -> list[Command]:
    commands: list[Command] = []
    for event in events:
        t >> event
        commands += t.taken()
    return commands


STATES: dict[str, list[Event]] = {
    "running": [],
    "yielded": [yields(W2, 0)],
    "paused": [yields(W2, 0), yields(W2, 1), Received(W2, m.Blocked(ident(1)))],
    "cancelling": [yields(W2, 0), Received(DRIVER, m.CancelTask(ident(1)))],
    "closed": [yields(W2, 0), dropped()],
    "unseen": [yields(W2, 0), dropped(ident(1))],
    "ended": [yields(W2, 0), done(W2, LIMITED)],
}

INPUTS: dict[str, Event] = {
    "next item": yields(W2, 1),
    "an item again": yields(W2, 0),
    "an item of an old attempt": yields(W2, 1, attempt=7),
    "an item of another worker": yields(DRIVER, 1),
    "an item far ahead": yields(W2, 9),
    "consumed": consumed(1),
    "consumed by another": consumed(1, W2),
    "generator dropped": dropped(),
    "everything dropped": dropped(ident(1), item_id(1)),
    "cancel": Received(DRIVER, m.CancelTask(ident(1))),
    "cancel with force": Received(DRIVER, m.CancelTask(ident(1), True)),
    "unblocked": Received(W2, m.Unblocked(ident(1))),
    "done": done(W2, LIMITED),
    "to be retried": Received(W2, m.TaskFailed(ident(1), 0, m.Failure("task_error", "no"))),
    "crash": exited(W2, 1),
    "crash before its start": exited(W2),
    "tick": Tick(),
}

#: State of the task after the input; without an entry, the task stays in its state.
ENDS: dict[tuple[str, str], str] = {
    **{
        (state, given): "ended"
        for state in ("running", "yielded", "paused", "cancelling", "closed", "unseen")
        for given in ("done", "cancel with force")
    },
    **{
        (state, given): "ready"
        for state in ("running", "yielded", "paused", "closed")
        for given in ("crash", "crash before its start")
    },
    **{
        (state, given): "ended"
        for state in ("cancelling", "unseen")
        for given in ("crash", "crash before its start", "to be retried")
    },
    **{(state, "cancel"): "cancelling" for state in ("running", "yielded", "paused", "closed")},
    **{(state, "everything dropped"): "cancelling" for state in ("running", "yielded", "paused", "closed")},
    ("paused", "unblocked"): "running",
    ("paused", "to be retried"): "running",
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_a_stream_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = Transcript(cpus=1)
    feed(t, submit(LIMITED), *STATES[state])
    tasks = t.core._ledger.tasks

    def state_of() -> str:
        return tasks[ident(1)].state if ident(1) in tasks else "ended"

    before = state_of()
    commands = feed(t, INPUTS[given])
    assert ENDS.get((state, given), before) == state_of()
    troubles = [c for c in commands if isinstance(c, Log) and "could not be started" not in c.text]
    assert not troubles
    told = [c.message for c in commands if isinstance(c, Send) and isinstance(c.message, m.StreamItem)]
    news = (given == "next item" and state in ("yielded", "cancelling")) or (
        given == "an item again" and state == "running"
    )
    assert news == bool(told)


def test_the_record_of_a_stream_ends_with_its_task() -> None:
    ends: list[Callable[[], Event]] = [
        lambda: done(W2, LIMITED),
        lambda: Received(DRIVER, m.CancelTask(ident(1), True)),
    ]
    for end in ends:
        t = streaming(LIMITED)
        feed(t, yields(W2, 0), end())
        assert not t.core._ledger.streams.known
