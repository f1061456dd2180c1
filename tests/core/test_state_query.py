"""Lists and counts of tasks, actors, objects and workers, as answers to a client's queries."""

from __future__ import annotations

import pytest

from ipyremote import messages as m
from ipyremote.core import ClientJoined, Received, Send, state_query
from ipyremote.core.events import OUT_OF_MEMORY, WorkerEnd
from ipyremote.core.state import history
from ipyremote.ids import DRIVER, NO_GROUP, NOBODY
from tests.core.transcript import (
    CPU,
    W2,
    W3,
    Transcript,
    call,
    create,
    done,
    exited,
    ident,
    submit,
    task,
    value,
)

BAD = m.Failure("task_error", "no\n\nf raised:\n  the traceback", b"pickle")


def asked(
    t: Transcript,
    kind: str = "tasks",
    *filters: tuple[str, bool, int | str],
    limit: int = 100,
    detail: bool = False,
) -> m.Listing:
    """Return the answer to a query for a list."""
    query = m.ListState(7, kind, tuple(m.Filter(*condition) for condition in filters), limit, detail)
    t >> Received(DRIVER, query)
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.Listing)
    assert (DRIVER, 7, t.now) == (command.to, command.message.request, command.message.now)
    return command.message


def counted(t: Transcript, kind: str) -> list[tuple[str, str, str, str, int, int]]:
    t >> Received(DRIVER, m.Summarize(8, kind))
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.Summary)
    return [
        (group.name, group.type, group.state, group.reference, group.count, group.size)
        for group in command.message.groups
    ]


def given(t: Transcript, *events: object) -> None:
    """Give the core events one by one, without asserting their commands."""
    for event in events:
        t >> event  # type: ignore[operator]  # they are events
        t.taken()


def states(t: Transcript) -> list[tuple[str, str]]:
    return [(row.label, row.state) for row in asked(t).tasks]


# ---------------------------------------------------------------------------------------------------------- tasks


def test_a_task_that_has_not_ended_is_listed_in_its_present_state() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    given(t, submit(task(50, resources={"GPU": 1})), submit(task(1, deps=(ident(50),))))
    given(t, submit(task(2)), submit(task(3)))
    assert states(t) == [
        ("f#50", "PENDING_NODE_ASSIGNMENT"),
        ("f#1", "PENDING_ARGS_AVAIL"),
        ("f#2", "RUNNING"),
        ("f#3", "SUBMITTED_TO_WORKER"),
        ("f#9", "FINISHED"),
    ]
    given(t, Received(W2, m.Blocked(ident(2))))
    assert ("f#2", "RUNNING_IN_RAY_GET") in states(t)


def test_a_row_of_a_task_tells_where_and_when_and_for_whom_the_task_ran() -> None:
    t = Transcript(cpus=1)
    t.now = 1.0
    spec = task(1, parent=ident(77), resources={"CPU": 0.5})
    given(t, submit(spec))
    t.now = 3.0
    given(t, done(W2, spec, micros=1_500_000))
    (row,) = asked(t).tasks
    assert row == m.TaskRow(
        ident(1),
        0,
        "f#1",
        "f",
        "FINISHED",
        "NORMAL_TASK",
        "f",
        NOBODY,
        ident(77),
        W2,
        102,
        "",
        NO_GROUP,
        1.0,
        1.0,
        2.5,
    )
    (row,) = asked(t, detail=True).tasks
    assert (row.error, row.resources) == ("", (("CPU", CPU // 2),))


def test_a_row_has_the_functions_own_name_whatever_the_task_is_called() -> None:
    t = Transcript(cpus=1)
    given(t, Received(DRIVER, m.Define(b"square", b"code", (), "square")))
    given(t, submit(task(1, digest=b"square", name="mine", number="1")))
    (row,) = asked(t).tasks
    assert ("mine#1", "mine", "square") == (row.label, row.name, row.function)


def test_each_attempt_is_a_row_and_a_failed_attempt_has_its_text() -> None:
    t = Transcript(cpus=1)
    spec = task(1, retry_on=b"*", max_retries=1)
    given(t, submit(spec), Received(W2, m.TaskFailed(ident(1), 0, BAD)), done(W2, spec, BAD, attempt=1))
    rows = asked(t, detail=True).tasks
    assert [(1, "FAILED"), (0, "FAILED")] == [(row.attempt, row.state) for row in rows]
    assert {("TASK_EXECUTION_EXCEPTION", BAD.text)} == {(row.error_type, row.error) for row in rows}
    assert {""} == {row.error for row in asked(t).tasks}


def test_an_attempt_that_was_lost_with_its_worker_is_one_row() -> None:
    t = Transcript(cpus=1)
    t.now = 1.0
    given(t, submit(task(1)))
    t.now = 2.0
    given(t, exited(W2, 1))
    (row,) = asked(t, detail=True).tasks
    assert ("FAILED", "WORKER_DIED", W2, 1.0, 2.0) == (
        row.state,
        row.error_type,
        row.worker_id,
        row.started,
        row.ended,
    )
    assert "no retry is left" in row.error


def test_a_lost_attempt_stays_listed_while_its_task_runs_again() -> None:
    t = Transcript(cpus=1)
    given(t, submit(task(1, max_retries=1)), exited(W2, 1))
    assert [(1, "PENDING_NODE_ASSIGNMENT", ""), (0, "FAILED", "WORKER_DIED")] == [
        (row.attempt, row.state, row.error_type) for row in asked(t).tasks
    ]


def test_tasks_that_never_ran_are_remembered() -> None:
    t = Transcript(cpus=1)
    given(t, submit(task(50, resources={"GPU": 1})), submit(task(1, deps=(ident(50),))))
    given(t, Received(DRIVER, m.CancelTask(ident(50))))
    rows = asked(t).tasks
    assert {("f#50", "FAILED", "TASK_CANCELLED", 0), ("f#1", "FAILED", "TASK_CANCELLED", 0)} == {
        (row.label, row.state, row.error_type, row.worker_id) for row in rows
    }


def test_a_stream_that_waits_for_its_consumer_is_not_listed_as_waiting_in_get() -> None:
    t = Transcript(cpus=1)
    given(t, submit(task(1, stream=1)), Received(W2, m.Yield(ident(1), 0, 0, value())))
    given(t, Received(W2, m.Blocked(ident(1))))
    assert states(t) == [("f#1", "RUNNING")]


def test_calls_and_creations_of_actors_have_their_own_types() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1")
    given(t, create(make), done(W2, make), submit(call(2, 1)))
    rows = asked(t).tasks
    assert [
        ("A.m#2", "ACTOR_TASK", "A.m", ident(1), "RUNNING"),
        ("A#1", "ACTOR_CREATION_TASK", "A.__init__", ident(1), "FINISHED"),
    ] == [(row.label, row.type, row.function, row.actor_id, row.state) for row in rows]
    given(t, done(W2, call(2, 1)))
    assert ("A.m#2", "ACTOR_TASK", ident(1)) in {
        (row.label, row.type, row.actor_id) for row in asked(t).tasks
    }


def test_a_failed_creation_is_one_row() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1")
    given(t, create(make), done(W2, make, BAD))
    (row,) = asked(t).tasks
    assert ("FAILED", "ACTOR_CREATION_TASK", W2) == (row.state, row.type, row.worker_id)


# -------------------------------------------------------------------------------------------------- filters and limits


def test_a_row_must_meet_all_filters_and_text_is_compared_without_case() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(1), task(2, name="g", number="1"))
    given(t, submit(task(3)))
    assert ["f#3", "f#1"] == [row.label for row in asked(t, "tasks", ("name", True, "f")).tasks]
    both = asked(t, "tasks", ("name", True, "f"), ("state", True, "finished"))
    assert ["f#1"] == [row.label for row in both.tasks]
    assert ["g#1"] == [row.label for row in asked(t, "tasks", ("name", False, "f")).tasks]
    assert ["f#1"] == [row.label for row in asked(t, "tasks", ("task_id", True, ident(1))).tasks]
    assert () == asked(t, "tasks", ("pid", True, 1)).tasks
    assert 3 == len(asked(t, "tasks", ("pid", True, 102)).tasks)


def test_rows_beyond_the_limit_are_counted() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, *(task(number) for number in range(1, 11)))
    given(t, submit(task(11)))
    answer = asked(t, limit=3)
    assert (["f#11", "f#10", "f#9"], 11, 0) == (
        [row.label for row in answer.tasks],
        answer.matched,
        answer.unseen,
    )
    answer = asked(t, "tasks", ("state", True, "finished"), limit=3)
    assert (["f#10", "f#9", "f#8"], 10) == ([row.label for row in answer.tasks], answer.matched)
    assert ((), 11) == (asked(t, limit=0).tasks, asked(t, limit=-1).matched)


def test_a_query_looks_at_a_bounded_number_of_records_and_counts_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_query, "LOOKED_AT", 5)
    t = Transcript(cpus=1)
    given(t, *(submit(task(number, resources={"GPU": 1})) for number in range(1, 9)))
    given(t, submit(task(9, name="g", number="1", resources={"GPU": 1})))
    answer = asked(t, "tasks", ("name", True, "f"))
    assert (5, 4) == (answer.matched, answer.unseen)
    # Without filters all records are counted.
    answer = asked(t, limit=8)
    assert (8, 9, 0) == (len(answer.tasks), answer.matched, answer.unseen)
    assert (5, 4) == (
        asked(t, "objects", ("size", True, 0)).matched,
        asked(t, "objects", ("size", True, 0)).unseen,
    )


def test_a_query_for_an_unknown_kind_or_column_gets_an_empty_answer() -> None:
    t = Transcript(cpus=1)
    t.run_away(W2, task(1))
    assert m.Listing(7, 0.0, 0, 0) == asked(t, "weather")
    assert m.Listing(7, 0.0, 0, 0) == asked(t, "tasks", ("colour", True, "red"))
    assert () == asked(t, "workers", ("colour", True, "red")).workers
    assert [] == counted(t, "weather")


def test_remembered_attempts_are_bounded_and_hold_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Transcript(cpus=1)
    given(t, submit(task(1)), done(W2, task(1), BAD), submit(task(50, resources={"GPU": 1})))
    given(t, Received(DRIVER, m.CancelTask(ident(50))))
    kept = [*t.core._timeline.attempts(), *t.core._ledger.past.unrun]
    assert 2 == len(kept)
    for attempt in kept:
        fields = [getattr(attempt, name) for name in attempt.__struct_fields__]
        assert not any(isinstance(field, m.TaskSpec | m.Inline | m.Stored) for field in fields)
        assert attempt.failure is not None
        assert not attempt.failure.data
    records = t.core._ledger.past
    assert (history.KEPT, history.KEPT, history.KEPT_WORKERS) == (
        records.unrun.maxlen,
        records.actors.maxlen,
        records.workers.maxlen,
    )


# ----------------------------------------------------------------------------------------------------------- actors


def actors(t: Transcript) -> list[tuple[str, str, int]]:
    return [(row.label, row.state, row.pid) for row in asked(t, "actors").actors]


def test_an_actor_is_listed_during_its_life_and_after_its_death() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1", deps=(ident(50),))
    given(t, submit(task(50, resources={"GPU": 1})), create(make))
    assert actors(t) == [("A#1", "DEPENDENCIES_UNREADY", 0)]
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1")
    given(t, create(make, max_restarts=1))
    assert actors(t) == [("A#1", "PENDING_CREATION", 102)]
    given(t, done(W2, make))
    assert actors(t) == [("A#1", "ALIVE", 102)]
    given(t, exited(W2, 1, 1))
    assert actors(t) == [("A#1", "RESTARTING", 0)]
    given(t, Received(DRIVER, m.KillActor(ident(1))))
    assert actors(t) == [("A#1", "DEAD", 0)]
    given(t, Received(DRIVER, m.Release((ident(1),))))
    (row,) = asked(t, "actors", detail=True).actors
    assert ("DEAD", 1, "A was killed by kill().") == (row.state, row.restarts, row.cause)
    assert "" == asked(t, "actors").actors[0].cause


def test_a_row_of_an_actor_has_its_name_its_namespace_and_its_resources() -> None:
    t = Transcript(cpus=1)
    given(t, Received(DRIVER, m.UseNamespace("mine")))
    make = task(1, name="A", number="1")
    named = m.ActorSpec("A", name="counter", resources=(("CPU", CPU),), detached=True)
    given(t, Received(DRIVER, m.CreateActor(make, named, 3)), done(W2, make), Received(W2, m.Titled("A(1)")))
    (row,) = asked(t, "actors", ("name", True, "counter")).actors
    assert ("mine", "A(1)", (("CPU", CPU),), True) == (
        row.namespace,
        row.title,
        row.resources,
        row.is_detached,
    )
    assert 0 == asked(t, "actors", ("class_name", False, "a")).matched


# ---------------------------------------------------------------------------------------------------------- objects


def test_a_row_of_an_object_has_its_size_its_task_and_its_holders() -> None:
    t = Transcript(cpus=1)
    given(t, Received(DRIVER, m.Put(ident(1), m.Inline(b"12345"))))
    given(t, Received(DRIVER, m.Put(ident(2), m.Inline(b"x"), (ident(1),))))
    given(t, submit(task(3)))
    given(t, submit(task(4, deps=(ident(3),))))
    make = task(5, name="A", number="1")
    given(t, create(make))
    rows = asked(t, "objects").objects
    assert [
        ("", 5, "FINISHED", "CAPTURED_IN_OBJECT"),
        ("", 1, "FINISHED", "LOCAL_REFERENCE"),
        ("f#3", 0, "RUNNING", "USED_BY_PENDING_TASK"),
        ("f#4", 0, "PENDING_ARGS_AVAIL", "LOCAL_REFERENCE"),
        ("A#1", 0, "PENDING_NODE_ASSIGNMENT", "ACTOR_HANDLE"),
    ] == [(row.label, row.size, row.status, row.reference) for row in rows]
    given(t, done(W2, task(3), BAD))
    assert {"FAILED"} == {row.status for row in asked(t, "objects", ("label", True, "f#3")).objects}


def test_objects_inside_an_exported_function_are_listed_as_pinned() -> None:
    t = Transcript(cpus=1)
    given(t, Received(DRIVER, m.Put(ident(1), value())))
    given(t, Received(DRIVER, m.Define(b"g", b"code", (ident(1),))))
    given(t, Received(DRIVER, m.Release((ident(1),))))
    assert ["PINNED_IN_MEMORY"] == [row.reference for row in asked(t, "objects").objects]


def test_an_object_is_listed_with_the_process_that_has_made_it() -> None:
    t = Transcript(cpus=2)
    given(t, ClientJoined(DRIVER, 100), Received(DRIVER, m.Put(ident(1), value())))
    given(t, submit(task(9)), Received(W2, m.Put(ident(1, W2), value())))
    rows = asked(t, "objects").objects
    assert {("", 100, True), ("f#9", 100, True), ("", 102, False)} == {
        (row.label, row.pid, row.is_of_driver) for row in rows
    }
    given(t, Received(DRIVER, m.Hold((ident(1, W2),))), exited(W2, 1))
    assert (0, False) in {(row.pid, row.is_of_driver) for row in asked(t, "objects").objects}


# ---------------------------------------------------------------------------------------------------------- workers


def test_workers_are_listed_with_their_work_and_ended_workers_with_their_end() -> None:
    t = Transcript(cpus=2)
    given(t, ClientJoined(DRIVER, 100), submit(task(1)))
    rows = asked(t, "workers").workers
    assert [(DRIVER, 100, True, "", ""), (W2, 102, False, "idle", ""), (W3, 103, False, "busy", "f#1")] == [
        (row.worker_id, row.pid, row.is_driver, row.state, row.label) for row in rows
    ]
    t.now = 5.0
    given(t, exited(W3, 1))
    (row,) = asked(t, "workers", ("is_alive", True, 0)).workers
    assert (W3, "SYSTEM_ERROR", "signal 9 (SIGKILL)", 5.0) == (
        row.worker_id,
        row.exit_type,
        row.exit_detail,
        row.ended,
    )


def test_a_row_of_an_ended_worker_has_the_kind_of_its_end() -> None:
    t = Transcript(cpus=1)
    make = task(1, name="A", number="1")
    given(t, create(make), done(W2, make), Received(DRIVER, m.KillActor(ident(1))), exited(W2, 1, 1))
    assert ["INTENDED_SYSTEM_EXIT"] == [
        row.exit_type for row in asked(t, "workers").workers if not row.is_alive
    ]
    t = Transcript(cpus=1)
    given(
        t,
        submit(task(1)),
        exited(W2, 1, end=WorkerEnd(OUT_OF_MEMORY, 9, "out of memory: killed by the kernel")),
    )
    assert ["NODE_OUT_OF_MEMORY"] == [
        row.exit_type for row in asked(t, "workers").workers if not row.is_alive
    ]


# ----------------------------------------------------------------------------------------------------------- counts


def test_a_summary_counts_rows_that_are_alike() -> None:
    t = Transcript(cpus=2)
    t.run_away(W3, task(1))
    make = task(2, name="A", number="1")
    given(
        t, submit(task(3)), submit(task(4)), create(make), Received(DRIVER, m.Put(ident(5), m.Inline(b"123")))
    )
    assert {
        ("f", "NORMAL_TASK", "FINISHED", "", 1, 0),
        ("f", "NORMAL_TASK", "RUNNING", "", 2, 0),
        ("A", "ACTOR_CREATION_TASK", "PENDING_NODE_ASSIGNMENT", "", 1, 0),
    } == set(counted(t, "tasks"))
    assert [("A", "", "PENDING_CREATION", "", 1, 0)] == counted(t, "actors")
    assert ("put", "", "FINISHED", "LOCAL_REFERENCE", 1, 3) in counted(t, "objects")


def test_a_summary_looks_at_a_bounded_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_query, "LOOKED_AT", 5)
    t = Transcript(cpus=1)
    given(t, *(submit(task(number, resources={"GPU": 1})) for number in range(1, 9)))
    t >> Received(DRIVER, m.Summarize(8, "tasks"))
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.Summary)
    assert (3, 5) == (command.message.unseen, command.message.groups[0].count)
