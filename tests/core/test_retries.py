"""Retries of tasks after a crash or an exception."""

from __future__ import annotations

import pytest

from ipyremote import messages as m
from ipyremote.core import DropSegment, Log, Received, Send, StartWorker, Tick, WorkerExited
from ipyremote.core.events import OUT_OF_MEMORY, WorkerEnd
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    KILLED,
    NO_PROCESS,
    W2,
    W3,
    W4,
    W5,
    W6,
    W7,
    Transcript,
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


def three_sent_ahead(max_retries: int = 0) -> tuple[Transcript, list[m.TaskSpec]]:
    """Return a core with three tasks on worker 2, as its runs 2, 3 and 4."""
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    specs = [task(n, max_retries=max_retries) for n in (1, 2, 3)]
    t >> [submit(spec) for spec in specs]
    for number, spec in enumerate(specs, 2):
        t << run(W2, spec, number)
    return t, specs


def test_only_the_task_that_had_started_is_charged() -> None:
    t, (one, two, three) = three_sent_ahead(max_retries=1)
    t >> exited(W2, 2, 1) << StartWorker(W3)
    t >> started(W3) << define(W3) << run(W3, one, 1, attempt=1) << run(W3, two, 2) << run(W3, three, 3)
    t.quiet()


def test_a_task_that_had_completed_without_a_report_is_charged() -> None:
    t, (one, two, three) = three_sent_ahead()
    t >> exited(W2, 3, 2)
    first, second, start = t.taken()
    assert start == StartWorker(W3)
    assert failure_of(first) == m.Failure(
        "worker_crashed",
        "f#1 had completed, but its worker (pid 102) was lost before it had delivered the result, and no retry is "
        "left (max_retries=0; set it higher to run the task again): signal 9 (SIGKILL)",
    )
    assert failure_of(second).text.startswith(
        "f#2 was running when its worker (pid 102) was lost, and no retry"
    )
    t >> started(W3) << define(W3) << run(W3, three, 1)
    assert two.task_id not in t.core._ledger.tasks
    assert one.task_id not in t.core._ledger.tasks


def test_no_task_is_charged_when_none_had_started() -> None:
    t, specs = three_sent_ahead()
    t >> exited(W2, 1, 1) << StartWorker(W3)
    t >> started(W3) << define(W3)
    for number, spec in enumerate(specs, 1):
        t << run(W3, spec, number)


def test_a_report_about_an_old_attempt_is_ignored() -> None:
    t, (one, *_) = three_sent_ahead(max_retries=-1)
    t >> exited(W2, 2, 1) << StartWorker(W3)
    t >> started(W3)
    t.taken()
    t >> done(W3, one, attempt=0)
    t.quiet()
    t >> done(W3, one, attempt=1) << ready(1)


@pytest.mark.parametrize(("retries", "crashes"), [(0, 1), (1, 2), (3, 3), (5, 6)])
def test_a_task_fails_for_good_after_its_last_crash(retries: int, crashes: int) -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=retries)
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    for crash in range(crashes - 1):
        worker = ClientId(W3 + crash)
        t >> exited(ClientId(W2 + crash), 1) << StartWorker(worker)
        t >> started(worker) << define(worker) << run(worker, spec, 1, attempt=crash + 1)
    t >> exited(ClientId(W2 + crashes - 1), 1)
    lost, start = t.taken()
    assert "worker_crashed" == failure_of(lost).kind
    assert start == StartWorker(ClientId(W2 + crashes))


def test_a_task_with_endless_retries_is_never_given_up() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=-1)
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    for crash in range(10):
        worker = ClientId(W3 + crash)
        t >> exited(ClientId(W2 + crash), 1) << StartWorker(worker)
        t >> started(worker) << define(worker) << run(worker, spec, 1, attempt=crash + 1)
    assert 12 == len(t.core.story(ident(1)))


def test_a_worker_that_ran_out_of_memory_gives_a_failure_of_its_own_kind() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> exited(
        W2,
        1,
        end=WorkerEnd(OUT_OF_MEMORY, 9, "out of memory: signal 9 (SIGKILL) from the kernel's OOM killer"),
    )
    assert "out_of_memory" == failure_of(t.taken()[0]).kind


def test_an_exception_to_be_retried_is_retried_on_the_same_worker() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=1, retry_on=b"*")
    bad = m.Failure("task_error", "ValueError: no")
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> Received(W2, m.TaskFailed(ident(1), 0, bad)) << run(W2, spec, 2, attempt=1)
    assert "attempt 0 raised: ValueError: no" == t.core.story(ident(1))[1].text
    t >> Received(W2, m.TaskFailed(ident(1), 0, bad))
    t.quiet()
    t >> Received(W2, m.TaskFailed(ident(1), 1, bad)) << ready(1, bad)
    assert {"failed": 1} == t.core.status().tasks


def test_crashes_and_exceptions_share_the_retries() -> None:
    t = Transcript(cpus=1)
    spec = task(1, max_retries=1, retry_on=b"*")
    t >> submit(spec) << define(W2) << run(W2, spec, 1)
    t >> Received(W2, m.TaskFailed(ident(1), 0, m.Failure("task_error", "no")))
    t << run(W2, spec, 2, attempt=1)
    t >> exited(W2, 2, 1)
    assert "worker_crashed" == failure_of(t.taken()[0]).kind


def test_a_worker_that_is_lost_while_idle_is_replaced() -> None:
    t = Transcript()
    t.now = 10.0
    t >> exited(W3) << StartWorker(W4)
    t >> started(W4)
    t.quiet()


def test_the_messages_of_a_lost_worker_are_ignored_and_its_segments_removed() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> exited(W2, 1)
    t.taken()
    t >> done(W2, task(1), m.Stored("seg-2-1", 10, 10)) << DropSegment(("seg-2-1",))
    t.quiet()


def test_the_time_between_failed_starts_of_workers_grows() -> None:
    t = Transcript(cpus=1, start=False)
    t >> Tick() << StartWorker(W2)
    t >> submit(task(1))
    t >> exited(W2, end=NO_PROCESS) << Log("a worker could not be started (1 in a row): no memory")
    assert 0.1 == t.core.deadline()
    assert "f#1 waits for a worker; the last one could not be started: no memory" == t.core.explain(ident(1))
    t.later(0.1) << StartWorker(W3)
    t >> exited(W3, end=NO_PROCESS) << Log("a worker could not be started (2 in a row): no memory")
    t.later(0.2) << StartWorker(W4)
    t >> exited(W4, end=NO_PROCESS) << Log("a worker could not be started (3 in a row): no memory")
    notice = "Workers cannot be started: no memory. Trying again every second; tasks wait meanwhile."
    t << Send(DRIVER, m.Notice(notice))
    t.later(0.4) << StartWorker(W5)
    t >> exited(W5, end=NO_PROCESS) << Log("a worker could not be started (4 in a row): no memory")
    t.later(0.8) << StartWorker(W6)
    t >> exited(W6, end=NO_PROCESS) << Log("a worker could not be started (5 in a row): no memory")
    t << ready(1, m.Failure("system", "f#1 cannot run: no worker can be started: no memory"))
    t >> Received(DRIVER, m.Define(b"function", b"code"))
    t >> submit(task(2))
    t.later(1.0) << StartWorker(W7)
    t >> started(W7) << define(W7) << run(W7, task(2), 1)
    t >> done(W7, task(2)) << ready(2)


def test_a_report_that_a_lost_worker_left_behind_counts() -> None:
    t, (one, two, three) = three_sent_ahead(max_retries=1)
    first = m.TaskDone(ident(1), 0, (value("x"),))
    unknown = m.TaskDone(ident(2), 0, (value("y"),), ((ident(77),),))
    stale = m.TaskDone(ident(9), 0, (value("z"),))
    t >> WorkerExited(W2, KILLED, 3, 3, ((1, stale), (2, first), (3, unknown)))
    t << ready(1, value("x")) << StartWorker(W3)
    t >> started(W3) << define(W3) << run(W3, two, 1, attempt=1) << run(W3, three, 2)
    assert one.task_id not in t.core._ledger.tasks


def test_a_worker_that_is_lost_right_after_its_start_is_replaced_at_once_but_not_again_and_again() -> None:
    t = Transcript(cpus=1)
    t >> exited(W2) << Log(f"a worker could not be started (1 in a row): {KILLED.text}") << StartWorker(W3)
    t >> started(W3)
    t >> exited(W3) << Log(f"a worker could not be started (2 in a row): {KILLED.text}")
    t.later(0.2) << StartWorker(W4)
    t >> started(W4)
    t.later(1.0)
    assert 0 == t.core._ledger.home.failures
