"""Every state against every input: tasks, actors, objects, placement groups and workers in each state get each event.

Whatever a peer sends, the core neither raises nor breaks an invariant, and the record ends in the expected state. The
expected states are written down here for each pair, so that a change of the rules shows as a change of this file.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipyremote import messages as m
from ipyremote.backend.placement import Place
from ipyremote.core import Command, Event, InvalidTransition, Log, Received, Tick, WorkerExited
from ipyremote.core.state import (
    Actor,
    Object,
    Task,
    move_actor,
    move_group,
    move_object,
    move_task,
    move_worker,
)
from ipyremote.core.transitions import ACTOR_MOVES, ENDED, GROUP_MOVES, OBJECT_MOVES, TASK_MOVES, WORKER_MOVES
from ipyremote.ids import DRIVER, GroupId
from tests.core.transcript import (
    FN,
    KILLED,
    W2,
    W3,
    Transcript,
    create,
    done,
    exited,
    group,
    ident,
    remove,
    started,
    submit,
    task,
    value,
)

SPEC = task(1, max_retries=1, retry_on=b"*", deps=(ident(50),))
BAD = m.Failure("task_error", "no")
CANCELLED = m.Failure("task_cancelled", "interrupted")


def feed(t: Transcript, *events: Event) -> list[Command]:
    commands: list[Command] = []
    for event in events:
        t >> event
        commands += t.taken()
    return commands


def troubles(commands: list[Command]) -> list[Command]:
    """Return the log messages among the commands, without those about failed starts of workers."""
    return [c for c in commands if isinstance(c, Log) and "could not be started" not in c.text]


def waiting() -> Transcript:
    """Return a core where task 1 waits for task 50, which waits for a GPU that the session does not have."""
    t = Transcript(cpus=1)
    feed(t, submit(task(50, resources={"GPU": 1})), submit(SPEC))
    return t


def runnable(*, behind: bool) -> Transcript:
    """Return a core where task 1 has its dependency and task 60 occupies the worker. `behind`: with room behind it."""
    t = Transcript(cpus=1)
    t.run_away(W2, task(9))
    feed(t, Received(DRIVER, m.Put(ident(50), value())))
    if not behind:
        t.core._ledger.functions[b"function"].micros = 100_000.0
    feed(t, submit(task(60)), submit(SPEC))
    return t


def running() -> Transcript:
    t = Transcript(cpus=1)
    feed(t, Received(DRIVER, m.Put(ident(50), value())), submit(SPEC))
    return t


def blocked() -> Transcript:
    t = running()
    feed(t, Received(W2, m.Blocked(ident(1))))
    return t


def cancelling() -> Transcript:
    t = running()
    feed(t, Received(DRIVER, m.CancelTask(ident(1))))
    return t


def ended() -> Transcript:
    t = running()
    feed(t, done(W2, SPEC))
    return t


STATES: dict[str, Callable[[], Transcript]] = {
    "waiting": waiting,
    "ready": lambda: runnable(behind=False),
    "sent": lambda: runnable(behind=True),
    "running": running,
    "blocked": blocked,
    "cancelling": cancelling,
    "ended": ended,
}

#: Number of task 1's run on the worker, by state, if it is not 1.
RUN = {"sent": 3}

INPUTS: dict[str, Callable[[str], Event]] = {
    "submitted again": lambda state: submit(SPEC),
    "done": lambda state: done(W2, SPEC),
    "done with a failure": lambda state: done(W2, SPEC, BAD),
    "cancelled by its worker": lambda state: done(W2, SPEC, CANCELLED),
    "done, of an old attempt": lambda state: done(W2, SPEC, attempt=7),
    "done, by another client": lambda state: done(DRIVER, SPEC),
    "to be retried": lambda state: Received(W2, m.TaskFailed(ident(1), 0, BAD)),
    "to be retried, of an old attempt": lambda state: Received(W2, m.TaskFailed(ident(1), 7, BAD)),
    "blocked": lambda state: Received(W2, m.Blocked(ident(1))),
    "unblocked": lambda state: Received(W2, m.Unblocked(ident(1))),
    "returned": lambda state: Received(W2, m.Returned((ident(1),))),
    "output": lambda state: Received(W2, m.Output(ident(1), 1, "text")),
    "cancel": lambda state: Received(DRIVER, m.CancelTask(ident(1))),
    "cancel with force": lambda state: Received(DRIVER, m.CancelTask(ident(1), True)),
    "crash before its start": lambda state: exited(W2, RUN.get(state, 1) - 1),
    "crash": lambda state: exited(W2, RUN.get(state, 1), RUN.get(state, 1) - 1),
    "crash after its end": lambda state: exited(W2, RUN.get(state, 1), RUN.get(state, 1)),
    "released": lambda state: Received(DRIVER, m.Release((ident(1),))),
    "wanted": lambda state: Received(DRIVER, m.Want((ident(1),))),
    "watched": lambda state: Received(DRIVER, m.Watch((ident(1),))),
    "dependency fails": lambda state: Received(DRIVER, m.CancelTask(ident(50))),
}

#: State of the task after the input; without an entry, the task stays in its state.
ENDS = {
    **dict.fromkeys(
        [
            (state, given)
            for state in ("sent", "running", "blocked", "cancelling")
            for given in ("done", "done with a failure", "cancelled by its worker")
        ],
        "ended",
    ),
    # One retry is left, and the worker takes it at once.
    ("blocked", "to be retried"): "running",
    ("cancelling", "to be retried"): "ended",
    ("running", "blocked"): "blocked",
    ("blocked", "unblocked"): "running",
    ("sent", "returned"): "sent",
    ("blocked", "returned"): "running",
    ("cancelling", "returned"): "ended",
    ("waiting", "cancel"): "ended",
    ("ready", "cancel"): "ended",
    ("sent", "cancel"): "cancelling",
    ("running", "cancel"): "cancelling",
    ("blocked", "cancel"): "cancelling",
    ("waiting", "cancel with force"): "ended",
    ("ready", "cancel with force"): "ended",
    ("sent", "cancel with force"): "cancelling",
    ("running", "cancel with force"): "ended",
    ("blocked", "cancel with force"): "ended",
    ("cancelling", "cancel with force"): "ended",
    **{
        (state, crash): "ready"
        for state in ("sent", "running", "blocked")
        for crash in ("crash before its start", "crash", "crash after its end")
    },
    **{
        ("cancelling", crash): "ended" for crash in ("crash before its start", "crash", "crash after its end")
    },
    ("waiting", "dependency fails"): "ended",
}


def state_of(t: Transcript) -> str:
    found = t.core._ledger.tasks.get(ident(1))
    return "ended" if found is None else found.state


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_a_task_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = STATES[state]()
    assert state == state_of(t)
    commands = feed(t, INPUTS[given](state))
    assert ENDS.get((state, given), state) == state_of(t)
    assert not troubles(commands)


MAKE = task(1, name="A", number="1", deps=(ident(50),))


def actor_waiting() -> Transcript:
    t = Transcript(cpus=1)
    feed(t, submit(task(50, resources={"GPU": 1})), create(MAKE, max_restarts=1))
    return t


def actor_starting() -> Transcript:
    t = Transcript(cpus=1)
    feed(t, Received(DRIVER, m.Put(ident(50), value())), create(MAKE, max_restarts=1))
    return t


def actor_alive() -> Transcript:
    t = actor_starting()
    feed(t, done(W2, MAKE))
    return t


def actor_restarting() -> Transcript:
    t = actor_alive()
    feed(t, exited(W2, 1, 1))
    return t


def actor_dead() -> Transcript:
    t = actor_alive()
    feed(t, Received(DRIVER, m.KillActor(ident(1))))
    return t


ACTOR_STATES: dict[str, Callable[[], Transcript]] = {
    "waiting": actor_waiting,
    "starting": actor_starting,
    "alive": actor_alive,
    "restarting": actor_restarting,
    "dead": actor_dead,
}

ACTOR_INPUTS: dict[str, Event] = {
    "created again": create(MAKE),
    "created": done(W2, MAKE),
    "not created": done(W2, MAKE, BAD),
    "call": submit(task(2, actor_id=ident(1), digest=b"")),
    "kill": Received(DRIVER, m.KillActor(ident(1))),
    "kill with restart": Received(DRIVER, m.KillActor(ident(1), no_restart=False)),
    "leaves": Received(W2, m.KillActor(ident(1))),
    "titled": Received(W2, m.Titled("A(1)")),
    "looked up": Received(DRIVER, m.LookUp(1, DRIVER)),
    "listed": Received(DRIVER, m.ListState(1, "actors", detail=True)),
    "counted": Received(DRIVER, m.Summarize(1, "actors")),
    "named like another": Received(DRIVER, m.CreateActor(MAKE, m.ActorSpec("A", name="a"), 2)),
    "crash": exited(W2, 1),
    "crash before its start": exited(W2),
    "released": Received(DRIVER, m.Release((ident(1),))),
    "cancel": Received(DRIVER, m.CancelTask(ident(1))),
    "returned": Received(W2, m.Returned((ident(1),))),
    "dependency fails": Received(DRIVER, m.CancelTask(ident(50))),
}

ACTOR_ENDS = {
    ("waiting", "kill"): "dead",
    ("waiting", "leaves"): "dead",
    ("waiting", "released"): "gone",
    ("waiting", "dependency fails"): "dead",
    ("starting", "created"): "alive",
    ("starting", "not created"): "dead",
    ("starting", "kill"): "dead",
    ("starting", "leaves"): "dead",
    ("starting", "crash"): "restarting",
    ("starting", "crash before its start"): "waiting",
    ("alive", "kill"): "dead",
    ("alive", "leaves"): "dead",
    ("alive", "crash"): "restarting",
    ("alive", "crash before its start"): "restarting",
    ("alive", "released"): "gone",
    ("restarting", "kill"): "dead",
    ("restarting", "leaves"): "restarting",
    ("restarting", "released"): "gone",
    ("dead", "released"): "gone",
}


@pytest.mark.parametrize("given", ACTOR_INPUTS)
@pytest.mark.parametrize("state", ACTOR_STATES)
def test_an_actor_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = ACTOR_STATES[state]()
    actors = t.core._ledger.actors
    assert state == actors[ident(1)].state
    commands = feed(t, ACTOR_INPUTS[given])
    found = actors.get(ident(1))
    assert ACTOR_ENDS.get((state, given), state) == ("gone" if found is None else found.state)
    assert not troubles(commands)


def object_promised() -> Transcript:
    t = Transcript(cpus=1)
    feed(t, submit(task(1)))
    return t


def object_sealed() -> Transcript:
    t = object_promised()
    feed(t, done(W2, task(1)))
    return t


def object_failed() -> Transcript:
    t = object_promised()
    feed(t, done(W2, task(1), BAD))
    return t


def object_dropped() -> Transcript:
    t = object_sealed()
    feed(t, Received(DRIVER, m.Release((ident(1),))))
    return t


OBJECT_STATES: dict[str, Callable[[], Transcript]] = {
    "promised": object_promised,
    "sealed": object_sealed,
    "failed": object_failed,
    "dropped": object_dropped,
}

OBJECT_INPUTS: dict[str, Event] = {
    "put": Received(DRIVER, m.Put(ident(1), value("other"))),
    "hold": Received(W2, m.Hold((ident(1),))),
    "release": Received(DRIVER, m.Release((ident(1),))),
    "release by one who does not hold": Received(W2, m.Release((ident(1),))),
    "want": Received(DRIVER, m.Want((ident(1),))),
    "watch": Received(DRIVER, m.Watch((ident(1),))),
    "unwatch": Received(DRIVER, m.Unwatch((ident(1),))),
    "argument": submit(task(2, deps=(ident(1),), refs=(ident(1),))),
    "explain": Received(DRIVER, m.Explain(1, ident(1))),
    "listed": Received(DRIVER, m.ListState(1, "objects", (m.Filter("size", False, 1),))),
    "counted": Received(DRIVER, m.Summarize(1, "objects")),
    "free": Received(W2, m.Free((ident(1),))),
    "no room": Received(DRIVER, m.NoRoom(1)),
    "spilled": Received(DRIVER, m.Spilled(("seg-2-1",))),
    "done": done(W2, task(1)),
    "crash": WorkerExited(W2, KILLED, 1, 0),
}

OBJECT_ENDS = {
    **{(state, "release"): "dropped" for state in OBJECT_STATES},
    ("promised", "done"): "sealed",
    ("promised", "crash"): "failed",
    ("sealed", "free"): "failed",
    ("dropped", "put"): "sealed",
}


@pytest.mark.parametrize("given", OBJECT_INPUTS)
@pytest.mark.parametrize("state", OBJECT_STATES)
def test_an_object_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = OBJECT_STATES[state]()
    objects = t.core._ledger.objects
    assert state == (objects[ident(1)].state if ident(1) in objects else "dropped")
    commands = feed(t, OBJECT_INPUTS[given])
    found = objects.get(ident(1))
    assert OBJECT_ENDS.get((state, given), state) == ("dropped" if found is None else found.state)
    assert not troubles(commands)


def group_pending() -> Transcript:
    """Return a core where group 1 waits for the CPU of task 9; task 1 and actor 2 wait for the group."""
    t = Transcript(cpus=1)
    feed(t, submit(task(9)), group(1), submit(GROUPED), create(GROUPED_ACTOR, max_restarts=1))
    return t


def group_reserved() -> Transcript:
    """Return a core where task 1 runs in group 1, on worker 3; actor 2 waits in the group."""
    t = Transcript(cpus=2)
    feed(t, group(1), submit(GROUPED), create(GROUPED_ACTOR, max_restarts=1))
    return t


def group_removed() -> Transcript:
    t = group_reserved()
    feed(t, remove(1))
    return t


#: Id of the placement group in the tables.
G1 = GroupId(1)
GROUPED = task(1, place=Place(G1, captures=False), max_retries=1)
GROUPED_ACTOR = task(2, name="A", number="1", place=Place(G1, captures=False))

GROUP_STATES: dict[str, Callable[[], Transcript]] = {
    "pending": group_pending,
    "reserved": group_reserved,
    "removed": group_removed,
}

GROUP_INPUTS: dict[str, Event] = {
    "created again": group(1),
    "created with the same name": group(2, name="a", request=3),
    "removed": remove(1),
    "looked up": Received(DRIVER, m.LookUpGroups(1, DRIVER)),
    "task": submit(task(3, place=Place(G1, captures=False))),
    "task in a bundle that is not there": submit(task(3, place=Place(G1, 5))),
    "actor": create(task(3, name="A", number="2", place=Place(G1))),
    "its task is done": done(W3, GROUPED),
    "its task has raised": done(W3, GROUPED, BAD),
    "its task waits": Received(W3, m.Blocked(ident(1))),
    "its task is cancelled": Received(DRIVER, m.CancelTask(ident(1))),
    "its task is killed": Received(DRIVER, m.CancelTask(ident(1), True)),
    "its worker crashes": exited(W3, 1),
    "its worker crashes before": exited(W3),
    "what holds it up is done": done(W2, task(9)),
    "its actor is released": Received(DRIVER, m.Release((ident(2),))),
    "its actor is killed": Received(DRIVER, m.KillActor(ident(2))),
    "time passes": Tick(),
}

GROUP_ENDS = {
    ("pending", "removed"): "removed",
    ("reserved", "removed"): "removed",
    ("pending", "what holds it up is done"): "reserved",
}


@pytest.mark.parametrize("given", GROUP_INPUTS)
@pytest.mark.parametrize("state", GROUP_STATES)
def test_a_placement_group_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = GROUP_STATES[state]()
    groups = t.core._ledger.groups
    assert state == (groups[G1].state if G1 in groups else "removed")
    commands = feed(t, GROUP_INPUTS[given])
    assert GROUP_ENDS.get((state, given), state) == (groups[G1].state if G1 in groups else "removed")
    assert not troubles(commands)
    # When the group and all workers are gone, all resources are free again.
    feed(t, remove(1), remove(2), *(exited(worker) for worker in list(t.core._ledger.workers)))
    assert t.core._ledger.free == t.core._ledger.total


def worker_starting() -> Transcript:
    t = Transcript(cpus=1, start=False)
    feed(t, Tick(), Received(DRIVER, m.Define(FN, b"code")))
    return t


def worker_idle() -> Transcript:
    return Transcript(cpus=1)


def worker_busy() -> Transcript:
    t = worker_idle()
    feed(t, submit(task(1, max_retries=1)))
    return t


def worker_serving() -> Transcript:
    t = worker_idle()
    feed(t, create(task(1, name="A", number="1"), max_restarts=1))
    return t


def worker_stopping() -> Transcript:
    """Return a core whose worker was killed to cancel its task; the core does not know of its exit yet."""
    t = worker_busy()
    feed(t, Received(DRIVER, m.CancelTask(ident(1), True)))
    return t


def worker_gone() -> Transcript:
    t = worker_busy()
    feed(t, exited(W2, 1))
    return t


WORKER_STATES: dict[str, Callable[[], Transcript]] = {
    "starting": worker_starting,
    "idle": worker_idle,
    "busy": worker_busy,
    "actor": worker_serving,
    "stopping": worker_stopping,
    "gone": worker_gone,
}

WORKER_INPUTS: dict[str, Event] = {
    "greets": started(W2),
    "exits": exited(W2, 1),
    "exits before its first run": exited(W2),
    "task": submit(task(2)),
    "actor": create(task(2, name="A", number="2")),
    "method call": submit(task(3, actor_id=ident(1), digest=b"")),
    "its task is done": done(W2, task(1)),
    "its task has failed": done(W2, task(1), BAD),
    "its task is to be retried": Received(W2, m.TaskFailed(ident(1), 0, BAD)),
    "its task waits": Received(W2, m.Blocked(ident(1))),
    "its task goes on": Received(W2, m.Unblocked(ident(1))),
    "its task is handed back": Received(W2, m.Returned((ident(1),))),
    "its task is cancelled": Received(DRIVER, m.CancelTask(ident(1))),
    "its task is killed": Received(DRIVER, m.CancelTask(ident(1), True)),
    "its actor is killed": Received(DRIVER, m.KillActor(ident(1))),
    "its actor is released": Received(DRIVER, m.Release((ident(1),))),
    "its driver asks for room": Received(W2, m.NoRoom(1)),
    "listed": Received(DRIVER, m.ListState(1, "workers", detail=True)),
    "status": Received(DRIVER, m.Status(1)),
    "time passes": Tick(),
}

#: State of the worker after the input; without an entry, the worker stays in its state.
WORKER_ENDS = {
    ("starting", "greets"): "idle",
    ("idle", "task"): "busy",
    ("idle", "actor"): "actor",
    **{("busy", given): "idle" for given in ("its task is done", "its task has failed")},
    ("busy", "its task is killed"): "stopping",
    ("actor", "its task has failed"): "stopping",
    # A creation that has raised is not retried.
    ("actor", "its task is to be retried"): "stopping",
    ("actor", "its actor is killed"): "stopping",
    **{
        (state, given): "gone"
        for state in ("starting", "idle", "busy", "actor", "stopping")
        for given in ("exits", "exits before its first run")
    },
}


@pytest.mark.parametrize("given", WORKER_INPUTS)
@pytest.mark.parametrize("state", WORKER_STATES)
def test_a_worker_in_each_state_takes_each_input(state: str, given: str) -> None:
    t = WORKER_STATES[state]()
    workers = t.core._ledger.workers
    worker = workers.get(W2)
    assert state == ("gone" if worker is None else worker.state)
    commands = feed(t, WORKER_INPUTS[given])
    if worker is not None:
        assert WORKER_ENDS.get((state, given), state) == worker.state
        assert (worker.state == "gone") == (W2 not in workers)
    assert not troubles(commands)


def new_task() -> Task:
    return Task(SPEC, DRIVER, "ready", 0.0)


def new_actor() -> Actor:
    t = actor_alive()
    return t.core._ledger.actors[ident(1)]


@pytest.mark.parametrize("goal", TASK_MOVES)
@pytest.mark.parametrize("state", TASK_MOVES)
def test_a_move_of_a_task_that_the_table_does_not_have_raises_with_the_story(state: str, goal: str) -> None:
    moved = new_task()
    moved.state = state
    moved.note(1.0, "something happened")
    if goal in TASK_MOVES[state]:
        move_task(moved, goal)
        assert goal == moved.state
    else:
        with pytest.raises(InvalidTransition, match="something happened") as caught:
            move_task(moved, goal)
        assert ident(1) == caught.value.task_id


@pytest.mark.parametrize("goal", ACTOR_MOVES)
@pytest.mark.parametrize("state", ACTOR_MOVES)
def test_a_move_of_an_actor_that_the_table_does_not_have_raises(state: str, goal: str) -> None:
    moved = new_actor()
    moved.state = state
    if goal in ACTOR_MOVES[state]:
        move_actor(moved, goal)
        assert goal == moved.state
    else:
        with pytest.raises(InvalidTransition):
            move_actor(moved, goal)


@pytest.mark.parametrize("goal", OBJECT_MOVES)
@pytest.mark.parametrize("state", OBJECT_MOVES)
def test_a_move_of_an_object_that_the_table_does_not_have_raises(state: str, goal: str) -> None:
    moved = Object(ident(1), DRIVER, "", "", None)
    moved.state = state
    if goal in OBJECT_MOVES[state]:
        move_object(moved, goal)
        assert goal == moved.state
    else:
        with pytest.raises(InvalidTransition):
            move_object(moved, goal)


@pytest.mark.parametrize("goal", WORKER_MOVES)
@pytest.mark.parametrize("state", WORKER_MOVES)
def test_a_move_of_a_worker_that_the_table_does_not_have_raises(state: str, goal: str) -> None:
    moved = worker_idle().core._ledger.workers[W2]
    moved.state = state
    if goal in WORKER_MOVES[state]:
        move_worker(moved, goal)
        assert goal == moved.state
    else:
        with pytest.raises(InvalidTransition, match=f"worker {W2} cannot go from {state} to {goal}"):
            move_worker(moved, goal)


@pytest.mark.parametrize("goal", GROUP_MOVES)
@pytest.mark.parametrize("state", GROUP_MOVES)
def test_a_move_of_a_placement_group_that_the_table_does_not_have_raises(state: str, goal: str) -> None:
    moved = group_pending().core._ledger.groups[G1]
    moved.state = state
    if goal in GROUP_MOVES[state]:
        move_group(moved, goal)
        assert goal == moved.state
    else:
        with pytest.raises(InvalidTransition):
            move_group(moved, goal)


def test_a_task_that_has_ended_has_no_further_state() -> None:
    assert all(not TASK_MOVES[state] for state in ENDED)
