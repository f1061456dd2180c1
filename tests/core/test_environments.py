"""Environments: their set-up when a task needs them, their own workers, their failures, and their closing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipyremote import messages as m
from ipyremote.core import (
    CloseEnvironment,
    EnvironmentLost,
    EnvironmentOpened,
    Event,
    InvalidTransition,
    Log,
    OpenEnvironment,
    Received,
    Send,
    StartWorker,
    StopWorker,
)
from ipyremote.core.events import NOT_STARTED, SIGNALLED, WorkerEnd
from ipyremote.core.state import Environment, move_environment
from ipyremote.core.transitions import ENVIRONMENT_MOVES
from ipyremote.ids import DRIVER, ClientId
from tests.core.transcript import (
    EXIT_CODE_0,
    EXIT_CODE_1,
    FN,
    KILLED,
    W2,
    W3,
    W4,
    W5,
    W6,
    Transcript,
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

E, OTHER = "e1", "e2"


def described(key: str = E) -> m.EnvironmentSpec:
    return m.EnvironmentSpec(key, f"env_vars: {key.upper()}", "{}", ((key.upper(), "1"),))


def announce(key: str = E, *, eager: bool = False) -> Event:
    return Received(DRIVER, m.DefineEnvironment(described(key), eager))


def inside(number: int, /, key: str = E, **fields: object) -> m.TaskSpec:
    return task(number, environment=key, **fields)  # type: ignore[arg-type]


def opened(key: str = E, *, cpus: float = 1) -> Transcript:
    """Return a session with an open environment whose one worker, the next after the session's own, has run f#1."""
    t = Transcript(cpus=cpus)
    worker = ClientId(W2 + max(1, int(cpus)))
    t >> announce(key)
    t >> submit(inside(1, key)) << OpenEnvironment(described(key))
    t >> EnvironmentOpened(key) << StartWorker(worker, key)
    t >> started(worker) << define(worker) << run(worker, inside(1, key), 1)
    t >> done(worker, inside(1, key)) << ready(1)
    return t


def test_an_environment_is_set_up_for_its_first_task_and_its_workers_run_only_its_tasks() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t.quiet()
    t >> submit(inside(1)) << OpenEnvironment(described())
    t.later(2.0)
    assert "f#1 waits for its environment (env_vars: E1) to be set up for 2.0 s." == t.core.explain(ident(1))
    # Tasks outside of the environment run meanwhile.
    t >> submit(task(2)) << define(W2) << run(W2, task(2), 1)
    t >> done(W2, task(2)) << ready(2)
    t >> EnvironmentOpened(E) << StartWorker(W3, E)
    t >> started(W3) << define(W3) << run(W3, inside(1), 1)
    t >> [submit(task(3)), done(W3, inside(1))] << ready(1) << run(W2, task(3), 2)


def test_all_environments_share_the_sessions_resources() -> None:
    t = opened()
    t >> submit(task(2)) << define(W2) << run(W2, task(2), 1)
    t >> submit(inside(3))
    assert "f#3 waits for 1 CPU: 1 of 1 is used by f#2." == t.core.explain(ident(3))
    t >> done(W2, task(2), micros=1_000_000) << ready(2) << run(W3, inside(3), 2)
    t >> done(W3, inside(3)) << ready(3)


def test_an_eager_environment_is_set_up_at_once() -> None:
    t = Transcript(cpus=1)
    t >> announce(eager=True) << OpenEnvironment(described())
    t >> announce(eager=True)
    t >> EnvironmentOpened(E)
    t.quiet()


def test_a_task_waits_until_its_environment_is_described() -> None:
    t = Transcript(cpus=1)
    t >> submit(inside(1))
    assert "f#1 waits for an environment that nobody has described yet." == t.core.explain(ident(1))
    t >> announce() << OpenEnvironment(described())
    t >> EnvironmentOpened(E) << StartWorker(W3, E)


def test_a_failed_set_up_fails_the_waiting_tasks_and_for_a_while_the_next_tasks() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t >> [submit(inside(1)), submit(inside(2))] << OpenEnvironment(described())
    t >> EnvironmentLost(E, "pip ended with exit code 1.")
    t << Log("the environment env_vars: E1 was lost: pip ended with exit code 1.")
    texts = [failure_of(command) for command in t.taken()]
    assert {"runtime_env_setup"} == {failure.kind for failure in texts}
    assert (
        "f#1 cannot run: its environment (env_vars: E1) could not be set up: pip ended with exit code 1."
        == texts[0].text
    )
    t >> submit(inside(3))
    (command,) = t.taken()
    assert failure_of(command).kind == "runtime_env_setup"
    # Tasks outside of the environment run.
    t >> submit(task(4)) << define(W2) << run(W2, task(4), 1)
    t.later(10.0)
    t >> submit(inside(5)) << OpenEnvironment(described())
    t >> EnvironmentOpened(E)
    t >> done(W2, task(4), micros=1_000_000) << ready(4) << StartWorker(W3, E)


def test_a_task_that_depends_on_a_task_in_a_failed_environment_fails_too() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t >> submit(inside(1)) << OpenEnvironment(described())
    t >> submit(task(2, deps=(ident(1),)))
    t >> EnvironmentLost(E, "no")
    kinds = [failure_of(command).kind for command in t.taken()[1:]]
    assert ["runtime_env_setup"] * 2 == kinds


def test_an_actor_lives_in_its_environment_and_is_restarted_in_it() -> None:
    t = opened()
    make = task(2, name="A", number="1", environment=E)
    made = m.ActorSpec("A", max_restarts=1)
    t >> create(make, max_restarts=1) << run(W3, make, 2, actor=made)
    t >> done(W3, make) << ready(2)
    t >> exited(W3, 2, 2) << StartWorker(W4, E)
    t >> started(W4) << define(W4) << run(W4, make, 1, attempt=1, actor=made)
    t >> done(W4, make, attempt=1)
    assert t.core.status().actors == {"alive": 1}


def test_an_actor_in_a_failed_environment_is_dead_and_its_calls_say_why() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t >> create(task(1, name="A", number="1", environment=E)) << OpenEnvironment(described())
    t >> submit(task(2, digest=b"", name="A.m", number="1", actor_id=ident(1), method="m"))
    t >> EnvironmentLost(E, "no such package")
    failures = [failure_of(command) for command in t.taken()[1:]]
    assert ["runtime_env_setup"] * 2 == [failure.kind for failure in failures]
    assert all("no such package" in failure.text for failure in failures)


def test_spare_workers_of_an_environment_stop_and_an_unneeded_environment_is_closed() -> None:
    t = opened()
    t.later(5.0) << StopWorker(W3, "exit")
    t >> exited(W3, 1, 1, EXIT_CODE_0)
    t.later(54.0)
    t.quiet()
    t.later(6.0) << CloseEnvironment(E)
    assert t.core.deadline() is None
    t >> submit(inside(2)) << OpenEnvironment(described())


def test_an_environment_with_an_actor_is_not_closed() -> None:
    t = opened()
    make = task(2, name="A", number="1", cpus=0, environment=E)
    t >> create(make) << run(W3, make, 2, actor=m.ActorSpec("A"))
    t >> done(W3, make) << ready(2)
    t.later(500.0)
    t.quiet()
    t >> Received(DRIVER, m.KillActor(ident(2))) << StopWorker(W3, "kill")
    t >> exited(W3, 2, 2)
    t.later(60.0) << CloseEnvironment(E)


def test_tasks_of_an_environment_whose_process_is_lost_run_again_in_a_new_process() -> None:
    t = opened()
    spec = inside(2, max_retries=1)
    t >> submit(spec) << run(W3, spec, 2)
    t.later(5.0)
    (
        t
        >> exited(W3, 2, 1, WorkerEnd(SIGNALLED, 9, "the process that had started it was lost"))
        << StartWorker(W4, E)
    )
    t >> exited(W4, end=WorkerEnd(NOT_STARTED, 0, "the process that would have started it has ended"))
    t << Log("a worker could not be started (1 in a row): the process that would have started it has ended")
    t >> EnvironmentLost(E, KILLED.text)
    t << Log(f"the environment env_vars: E1 was lost: {KILLED.text}") << OpenEnvironment(described())
    t >> EnvironmentOpened(E) << StartWorker(W5, E)
    t >> started(W5) << define(W5) << run(W5, spec, 1, attempt=1)


def test_an_environment_that_is_lost_right_after_its_opening_has_failed() -> None:
    t = Transcript(cpus=1)
    t >> announce(eager=True) << OpenEnvironment(described())
    t >> EnvironmentOpened(E)
    t >> EnvironmentLost(E, KILLED.text) << Log(f"the environment env_vars: E1 was lost: {KILLED.text}")
    t >> submit(inside(1))
    (command,) = t.taken()
    assert failure_of(command).kind == "runtime_env_setup"


def test_two_failed_starts_of_workers_are_a_failed_set_up() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t >> submit(inside(1)) << OpenEnvironment(described())
    t >> EnvironmentOpened(E) << StartWorker(W3, E)
    t >> exited(W3, end=EXIT_CODE_1) << Log("a worker could not be started (1 in a row): exit code 1")
    t.later(0.1) << StartWorker(W4, E)
    t >> exited(W4, end=EXIT_CODE_1) << Log("a worker could not be started (2 in a row): exit code 1")
    t << CloseEnvironment(E)
    (command,) = t.taken()
    assert failure_of(command).text.endswith("could not be set up: exit code 1")


def test_failed_starts_of_workers_beside_a_living_actor_fail_tasks_and_not_the_actor() -> None:
    t = opened()
    make = task(2, name="A", number="1", cpus=0, environment=E)
    t >> create(make) << run(W3, make, 2, actor=m.ActorSpec("A"))
    t >> done(W3, make) << ready(2)
    t.later(1.0)
    t >> submit(inside(3)) << StartWorker(W4, E)
    t >> exited(W4, end=EXIT_CODE_1) << Log("a worker could not be started (1 in a row): exit code 1")
    t.later(0.1) << StartWorker(W5, E)
    t >> exited(W5, end=EXIT_CODE_1) << Log("a worker could not be started (2 in a row): exit code 1")
    (command,) = t.taken()
    assert failure_of(command).kind == "runtime_env_setup"
    assert t.core.status().actors == {"alive": 1}
    # The next task causes one more try.
    t >> submit(inside(4))
    t.later(1.0) << StartWorker(W6, E)
    t >> started(W6) << define(W6) << run(W6, inside(4), 1)


def test_prefetch_and_recall_stay_inside_an_environment() -> None:
    t = opened()
    specs = [inside(number) for number in range(2, 5)]
    t >> [submit(spec) for spec in specs]
    t << run(W3, specs[0], 2) << run(W3, specs[1], 3) << run(W3, specs[2], 4)
    t.later(0.06)
    (command,) = t.taken()
    assert command == Send(W3, m.Recall((ident(3), ident(4))))


def test_two_environments_have_separate_workers() -> None:
    t = opened(cpus=2)
    t >> announce(OTHER)
    t >> submit(inside(2, OTHER)) << OpenEnvironment(described(OTHER))
    t >> EnvironmentOpened(OTHER) << StartWorker(W5, OTHER)
    t >> started(W5) << define(W5) << run(W5, inside(2, OTHER), 1)
    t >> submit(inside(3)) << run(W4, inside(3), 2)


def test_a_few_of_many_environments_are_set_up_at_a_time_as_their_tasks_can_start() -> None:
    t = Transcript(cpus=2)
    keys = [f"e{number}" for number in range(10)]
    for key in keys:
        t >> announce(key)
    specs = [inside(number + 1, key) for number, key in enumerate(keys)]
    t >> [submit(spec) for spec in specs]
    t << OpenEnvironment(described(keys[0])) << OpenEnvironment(described(keys[1]))
    t >> EnvironmentOpened(keys[0]) << OpenEnvironment(described(keys[2])) << StartWorker(W4, keys[0])
    t >> EnvironmentOpened(keys[1]) << OpenEnvironment(described(keys[3])) << StartWorker(W5, keys[1])
    t >> started(W4) << define(W4) << run(W4, specs[0], 1)
    t >> started(W5) << define(W5) << run(W5, specs[1], 1)
    # All processors are taken: a few more environments are set up ahead.
    t >> EnvironmentOpened(keys[2]) << OpenEnvironment(described(keys[4]))
    t >> EnvironmentOpened(keys[3]) << OpenEnvironment(described(keys[5]))
    t >> EnvironmentOpened(keys[4])
    t >> EnvironmentOpened(keys[5])
    t >> done(W4, specs[0], micros=1_000_000) << ready(1)
    assert StartWorker(W6, keys[2]) in t.taken()


def test_the_environment_that_has_had_nothing_to_do_for_longest_is_closed_first() -> None:
    t = Transcript(cpus=1)
    keys = [f"e{number}" for number in range(9)]
    worker = W3
    for number, key in enumerate(keys):
        t.now += 0.1
        t >> announce(key)
        spec = inside(number + 1, key)
        t >> submit(spec) << OpenEnvironment(described(key))
        t >> EnvironmentOpened(key) << StartWorker(worker, key)
        t >> started(worker) << define(worker) << run(worker, spec, 1)
        t >> done(worker, spec) << ready(number + 1)
        worker = ClientId(worker + 1)
    t << StopWorker(W3, "exit")
    t >> exited(W3, 1, 1, EXIT_CODE_0) << CloseEnvironment(keys[0])
    t >> announce()
    t.quiet()


def test_a_cancelled_task_leaves_its_environment_as_it_is() -> None:
    t = Transcript(cpus=1)
    t >> announce()
    t >> submit(inside(1)) << OpenEnvironment(described())
    t >> Received(DRIVER, m.CancelTask(ident(1)))
    (command,) = t.taken()
    assert failure_of(command).kind == "task_cancelled"
    t >> EnvironmentOpened(E)
    t.later(60.0) << CloseEnvironment(E)


# ---- every state against every input


def closed() -> Transcript:
    t = Transcript(cpus=1)
    t >> announce()
    return t


def opening() -> Transcript:
    t = closed()
    t >> submit(inside(1))
    t.taken()
    return t


def open_() -> Transcript:
    t = opening()
    t >> EnvironmentOpened(E)
    t.taken()
    return t


def failed() -> Transcript:
    t = opening()
    t >> EnvironmentLost(E, "no")
    t.taken()
    return t


STATES: dict[str, Callable[[], Transcript]] = {
    "closed": closed,
    "opening": opening,
    "open": open_,
    "failed": failed,
}
INPUTS: dict[str, list[Event]] = {
    "described again": [announce()],
    "asked for eagerly": [announce(eager=True)],
    "a task": [submit(inside(7))],
    "opened": [EnvironmentOpened(E)],
    # The workers are lost first; there is at most one worker, and it has not greeted.
    "lost": [exited(W3), EnvironmentLost(E, "gone")],
    "worker started": [started(W3)],
    "worker lost": [exited(W3)],
    "cancelled": [Received(DRIVER, m.CancelTask(ident(1)))],
    "another is lost": [EnvironmentLost("nobody's", "gone")],
    "driver's objects released": [Received(DRIVER, m.Release((ident(1),)))],
}
#: State of the environment after an input, by state and input, where the input changes the state.
ENDS = {
    ("closed", "asked for eagerly"): "opening",
    ("closed", "a task"): "opening",
    ("opening", "opened"): "open",
    ("opening", "lost"): "failed",
    ("open", "lost"): "failed",
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_an_environment_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = STATES[state]()
    environment = t.core._ledger.environments[E]
    assert state == environment.state
    t >> INPUTS[given]
    troubles = [c for c in t.taken() if isinstance(c, Log) and "internal" in c.text]
    assert ENDS.get((state, given), state) == environment.state
    assert [] == troubles


@pytest.mark.parametrize("goal", ENVIRONMENT_MOVES)
@pytest.mark.parametrize("state", ENVIRONMENT_MOVES)
def test_a_move_of_an_environment_that_the_table_does_not_have_raises(state: str, goal: str) -> None:
    moved = Environment(E, 0.0, state)
    if goal in ENVIRONMENT_MOVES[state]:
        move_environment(moved, goal, 1.0)
        assert (goal, 1.0) == (moved.state, moved.since)
    else:
        with pytest.raises(InvalidTransition):
            move_environment(moved, goal, 1.0)


def test_a_task_without_an_environment_runs_in_the_sessions_own() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> done(W2, task(1), value()) << ready(1)
    assert {} == t.core._ledger.environments
    assert FN == task(1).digest
