"""Placement groups: reservation as a whole and in turn, tasks and actors in groups, names, and removal."""

from __future__ import annotations

from typing import Any

from ipyremote import messages as m
from ipyremote.backend.placement import LabelMatch, Place
from ipyremote.core import ClientGone, ClientJoined, Received, Send, StartWorker, StopWorker
from ipyremote.ids import DRIVER, ClientId, GroupId
from tests.core.transcript import (
    CPU,
    W2,
    W3,
    W4,
    W5,
    W6,
    Transcript,
    bundles,
    call,
    create,
    define,
    done,
    exited,
    failure_of,
    group,
    ident,
    ready,
    remove,
    run,
    started,
    submit,
    task,
)

OTHER = ClientId(1 << 22)


def placed(number: int, /, group_id: int = 1, bundle: int = -1, **fields: Any) -> m.TaskSpec:
    """Return the spec of a task in a group."""
    return task(number, place=Place(GroupId(group_id), bundle, captures=False), **fields)


def available(t: Transcript) -> dict[str, float]:
    return {name: amount / CPU for name, amount in t.core.status().available}


def states(t: Transcript, **asked: Any) -> list[tuple[int, str, str]]:
    """Return (id, state, detail) of the groups that a look-up finds."""
    t >> Received(DRIVER, m.LookUpGroups(1, DRIVER, **asked))
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.GroupsReply)
    return [(found.group_id, found.state, found.detail) for found in command.message.groups]


def removed(number: int, group_id: int = 1, why: str = "it was removed") -> m.Failure:
    text = f"f#{number} has ended with its placement group, group#{group_id}: {why}."
    return m.Failure("task_placement_group_removed", text)


# ---- reservation


def test_a_group_is_reserved_at_once_when_there_is_enough() -> None:
    t = Transcript(cpus=3)
    t >> group(1, {"CPU": 1}, {"CPU": 1})
    t.quiet()
    assert {"CPU": 1} == available(t)
    assert (("CPU", 3 * CPU),) == t.core.status().total
    assert [(1, "reserved", "")] == states(t)
    t >> remove(1)
    t.quiet()
    assert {"CPU": 3} == available(t)


def test_a_group_is_reserved_whole_or_not_at_all() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> group(1, {"CPU": 1}, {"CPU": 1})
    t.quiet()
    assert {"CPU": 1} == available(t)
    assert [(1, "pending", "group#1 waits for 2 CPUs: 1 of 2 is used by f#1.")] == states(t)
    t >> done(W3, task(1)) << ready(1)
    assert {} == available(t)
    assert [(1, "reserved", "")] == states(t)


def test_a_group_created_twice_is_one() -> None:
    t = Transcript(cpus=2)
    t >> group(1) >> group(1)
    assert {"CPU": 1} == available(t)
    t >> remove(1) >> remove(1) >> group(1)
    assert {"CPU": 2} == available(t)


def test_tasks_outside_a_group_do_not_get_its_resources() -> None:
    t = Transcript(cpus=1)
    t >> group(1)
    t >> submit(task(1))
    t.quiet()
    assert "f#1 waits for 1 CPU: 1 of 1 is used by group#1." == t.core.explain(ident(1))
    t >> submit(placed(2)) << define(W2) << run(W2, placed(2), 1)
    t >> done(W2, placed(2)) << ready(2)
    t >> remove(1) << run(W2, task(1), 2)


def test_tasks_in_a_group_draw_from_its_bundles_only() -> None:
    t = Transcript(cpus=3)
    t >> group(1)
    t >> submit(placed(1)) << define(W4) << run(W4, placed(1), 1)
    t >> submit(placed(2))
    t.quiet()
    assert "f#2 waits in group#1 for 1 CPU: 1 of 1 is used by f#1." == t.core.explain(ident(2))
    assert {"CPU": 2} == available(t)
    t >> submit(task(3)) << define(W3) << run(W3, task(3), 1)
    t >> done(W4, placed(1), micros=1_000_000) << ready(1) << run(W4, placed(2), 2)


def test_a_bundle_is_chosen_by_its_number_or_by_its_free_amounts() -> None:
    t = Transcript(cpus=5)
    t >> group(1, {"CPU": 1}, {"CPU": 2})
    first = placed(1, bundle=1, cpus=2)
    t >> submit(first) << define(W6) << run(W6, first, 1)
    t >> submit(placed(2, bundle=1))
    t.quiet()
    assert "f#2 waits in group#1 for 1 CPU: 2 of 2 are used by f#1." == t.core.explain(ident(2))
    t >> submit(placed(3)) << define(W5) << run(W5, placed(3), 1)
    t >> submit(placed(4))
    t.quiet()
    text = "f#4 waits in group#1 for a bundle with 1 CPU free; they are used by f#3, f#1."
    assert text == t.core.explain(ident(4))


def test_a_task_or_actor_that_fits_into_no_single_bundle_fails() -> None:
    t = Transcript(cpus=3)
    t >> group(1, {"CPU": 1}, {"CPU": 1})
    t >> submit(placed(1, cpus=2))
    failure = failure_of(t.taken()[0])
    assert "task_unschedulable" == failure.kind
    assert "f#1 cannot run: it needs 2 CPU, and no bundle of group#1 has that much." == failure.text
    t >> submit(placed(2, bundle=0, resources={"GPU": 1}))
    assert (
        "f#2 cannot run: it needs 1 CPU, 1 GPU, and bundle 0 of group#1 has less."
        == failure_of(t.taken()[0]).text
    )
    t >> submit(placed(3, bundle=2))
    text = "f#3 cannot run: group#1 has no bundle 2: they are numbered from 0 to 1."
    assert text == failure_of(t.taken()[0]).text
    t >> create(placed(4, name="A", number="1", cpus=2))
    text = "A cannot be created: it needs 2 CPU, and no bundle of group#1 has that much."
    assert m.Failure("actor_unschedulable", text) == failure_of(t.taken()[0])
    t >> submit(call(5, 4))
    assert "actor_unschedulable" == failure_of(t.taken()[0]).kind


def test_tasks_without_needs_run_in_a_group_once_the_group_is_reserved() -> None:
    t = Transcript(cpus=1)
    t >> submit(task(1)) << define(W2) << run(W2, task(1), 1)
    t >> group(1)
    probe = placed(2, cpus=0)
    t >> submit(probe)
    t.quiet()
    assert (
        "f#2 waits for its placement group: group#1 waits for 1 CPU: 1 of 1 is used by f#1."
        == t.core.explain(ident(2))
    )
    t >> done(W2, task(1)) << ready(1) << run(W2, probe, 2)
    t >> done(W2, probe) << ready(2)


def test_a_group_is_not_passed_for_ever_by_small_tasks() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> submit(task(2)) << define(W2) << run(W2, task(2), 1)
    t >> group(1, {"CPU": 1}, {"CPU": 1})
    t >> submit(task(3))
    t >> done(W2, task(2), micros=10_000) << ready(2) << run(W2, task(3), 2)
    t.later(1.1)
    t >> submit(task(4))
    t >> done(W2, task(3), micros=10_000) << ready(3)
    assert "larger request" in t.core.explain(ident(4))
    assert [(1, "pending", "group#1 waits for 2 CPUs: 1 of 2 is used by f#1.")] == states(t)
    t >> done(W3, task(1), micros=10_000) << ready(1)
    assert [(1, "reserved", "")] == states(t)
    t >> remove(1) << run(W3, task(4), 2)


def test_a_group_is_reserved_during_a_flood_of_short_tasks() -> None:
    t = Transcript(cpus=1)
    flood = [task(n) for n in range(1, 400)]
    t.run_away(W2, task(900))
    t >> [submit(spec) for spec in flood]
    sent = len(t.taken())
    t >> group(1)
    assert [(1, "pending")] == [found[:2] for found in states(t)]
    finished = 0
    while finished < sent:
        t.now += 0.001
        t >> done(W2, flood[finished], micros=100)
        finished += 1
        sent += sum(1 for c in t.taken() if isinstance(c, Send) and isinstance(c.message, m.RunTask))
    # The group gets its CPU when the worker has run the tasks that it was sent in its first milliseconds.
    assert [(1, "reserved", "")] == states(t)
    assert sent < 150


def test_groups_are_reserved_in_turn_and_a_small_group_passes_a_large_one_only_for_a_while() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> group(1, {"CPU": 2}) >> group(2)
    assert [(1, "pending"), (2, "reserved")] == [found[:2] for found in states(t)]
    t >> remove(2)
    t.later(1.1)
    t >> group(3)
    assert [(2, "removed"), (1, "pending"), (3, "pending")] == [found[:2] for found in states(t)]
    assert [(3, "pending", "group#3 waits for a larger request that has waited for longer.")] == states(
        t, group_id=3
    )
    t >> done(W3, task(1)) << ready(1)
    assert [(2, "removed"), (1, "reserved"), (3, "pending")] == [found[:2] for found in states(t)]


def test_tasks_that_waited_in_a_removed_group_leave_no_queue_behind() -> None:
    t = Transcript(cpus=2)
    t >> group(1) >> submit(placed(1))
    t.taken()
    t >> submit(placed(2, cpus=0.5))
    t >> remove(1)
    t.taken()
    assert not t.core._ledger.rota
    assert all(shape.group is None for shape in t.core._ledger.shapes.values())


def test_two_groups_that_have_waited_long_are_reserved_together_when_there_is_room() -> None:
    t = Transcript(cpus=3)
    t >> submit(task(1, cpus=3)) << define(W4) << run(W4, task(1, cpus=3), 1)
    t >> group(1, {"CPU": 2}) >> group(2)
    t.later(1.1)
    t >> done(W4, task(1, cpus=3)) << ready(1)
    assert [(1, "reserved"), (2, "reserved")] == [found[:2] for found in states(t)]


def test_no_resources_are_kept_for_a_group_that_waits_for_another_group() -> None:
    t = Transcript(cpus=2)
    t >> group(1) >> group(2, {"CPU": 2})
    t.later(5.0)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)


def test_a_group_that_the_session_can_never_hold_waits_and_the_driver_is_told_once() -> None:
    t = Transcript(cpus=2)
    text = "group#1 cannot be reserved: it needs 3 CPU (the session has 2). It waits until it is removed."
    t >> group(1, {"CPU": 2}, {"CPU": 1}, cell=7) << Send(DRIVER, m.Notice(text, 7))
    t >> submit(placed(1))
    t.quiet()
    assert (
        "f#1 waits for its placement group: group#1 can never be reserved in this session: it needs 3 CPU (the session "
        "has 2)." == t.core.explain(ident(1))
    )
    t >> submit(task(2)) << define(W3) << run(W3, task(2), 1)
    t >> remove(1) << Send(DRIVER, m.ObjectReady(ident(1), removed(1)))


def test_a_group_that_needs_several_machines_is_never_reserved() -> None:
    t = Transcript(cpus=2)
    why = "it needs 2 machines, one for each bundle (STRICT_SPREAD; the session has one)."
    t >> group(1, {"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
    t << Send(DRIVER, m.Notice(f"group#1 cannot be reserved: {why} It waits until it is removed."))
    t >> submit(placed(1))
    assert t.core.explain(ident(1)).endswith(why)
    t >> group(2, {"CPU": 1}, strategy="STRICT_SPREAD")
    assert [(2, "reserved", "")] == states(t, group_id=2)


def test_a_task_blocked_in_a_group_lends_its_cpu_to_other_tasks_of_the_group() -> None:
    t = Transcript(cpus=2)
    t >> group(1)
    t >> submit(placed(1)) << define(W3) << run(W3, placed(1), 1)
    t >> submit(placed(2))
    t.quiet()
    t >> Received(W3, m.Blocked(ident(1))) << define(W2) << run(W2, placed(2), 1)
    assert {"CPU": 1} == available(t)
    t >> Received(W3, m.Unblocked(ident(1)))
    t >> done(W3, placed(1)) << ready(1)
    t >> done(W2, placed(2)) << ready(2)
    t >> remove(1)
    assert {"CPU": 2} == available(t)


def test_the_gpus_of_a_bundle_are_used_by_its_tasks_only() -> None:
    t = Transcript(cpus=4, gpus=2)
    t >> group(1, {"GPU": 1, "CPU": 1})
    outside = task(1, resources={"GPU": 1})
    t >> submit(outside) << define(W5) << run(W5, outside, 1, gpus=(1,))
    inside = placed(2, resources={"GPU": 0.5})
    t >> submit(inside) << define(W4) << run(W4, inside, 1, gpus=(0,))
    t >> submit(placed(3, cpus=0, resources={"GPU": 0.75}))
    assert "f#3 waits in group#1 for 0.75 GPUs: 0.5 of 1 are used by f#2." == t.core.explain(ident(3))
    t >> done(W4, inside) << ready(2)
    t << run(W4, placed(3, cpus=0, resources={"GPU": 0.75}), 2, gpus=(0,))
    t >> remove(1) << StopWorker(W4, "kill") << Send(DRIVER, m.ObjectReady(ident(3), removed(3)))
    t << StartWorker(W6)
    again = task(4, resources={"GPU": 0.5})
    t >> submit(again)
    assert "f#4 waits for 0.5 GPUs: 1.75 of 2 are used by worker 104, f#1." == t.core.explain(ident(4))
    t >> exited(W4, 2, 1) << define(W3) << run(W3, again, 1, gpus=(0,))


def test_bundles_with_parts_of_gpus_are_packed_onto_devices() -> None:
    t = Transcript(cpus=1, gpus=2)
    t >> group(1, {"GPU": 0.3}, {"GPU": 0.3}, {"GPU": 0.7}, {"GPU": 0.7})
    assert [(1, "reserved", "")] == states(t)
    t >> remove(1)
    text = "group#2 cannot be reserved: it needs GPUs in such parts (the session has 2). It waits until it is removed."
    t >> group(2, *[{"GPU": 0.6}] * 3) << Send(DRIVER, m.Notice(text))


# ---- removal


def test_the_removal_of_a_group_ends_its_waiting_and_running_tasks() -> None:
    t = Transcript(cpus=3)
    t >> group(1)
    t >> submit(placed(1, max_retries=5)) << define(W4) << run(W4, placed(1, max_retries=5), 1)
    t >> submit(placed(2))
    t >> submit(placed(3, deps=(ident(1),)))
    t >> submit(task(4)) << define(W3) << run(W3, task(4), 1)
    t >> remove(1) << StopWorker(W4, "kill")
    for number in (1, 2, 3):
        t << Send(DRIVER, m.ObjectReady(ident(number), removed(number)))
    t << StartWorker(W5)
    assert {"CPU": 1} == available(t)
    t >> exited(W4, 1)
    assert {"CPU": 2} == available(t)
    t >> submit(placed(5))
    failure = failure_of(t.taken()[0])
    assert "task_placement_group_removed" == failure.kind
    assert "f#5 cannot run: its placement group was removed, or is another session's." == failure.text


def test_the_removal_of_a_group_ends_its_actors() -> None:
    t = Transcript(cpus=2)
    t >> group(1)
    made = placed(1, name="A", number="1")
    spec = m.ActorSpec("A", (("CPU", CPU),), 3)
    t >> create(made, resources=(("CPU", CPU),), max_restarts=3)
    t << define(W3) << run(W3, made, 1, actor=spec) << StartWorker(W4)
    t >> done(W3, made) << ready(1)
    t >> submit(call(2, 1)) << run(W3, call(2, 1), 2)
    waiting = placed(3, name="A", number="2")
    t >> create(waiting)
    t.quiet()
    t >> remove(1) << StopWorker(W3, "kill")
    text = "A has died with its placement group, group#1: it was removed."
    failure = m.Failure("actor_placement_group_removed", text)
    assert {failure} == {failure_of(command) for command in t.taken()}
    t >> submit(call(4, 1))
    assert failure == failure_of(t.taken()[0])
    t >> exited(W3, 2, 1)
    assert {"CPU": 2} == available(t)


def test_an_actor_keeps_part_of_its_bundle_and_restarts_in_the_bundle() -> None:
    t = Transcript(cpus=2)
    t >> group(1)
    made = placed(1, name="A", number="1")
    t >> create(made, max_restarts=1)
    t << define(W3) << run(W3, made, 1, actor=m.ActorSpec("A", (), 1)) << StartWorker(W4)
    t >> started(W4)
    t >> submit(placed(2))
    t.quiet()
    t >> done(W3, made) << ready(1) << define(W4) << run(W4, placed(2), 1)
    t >> exited(W3, 1, 1)
    t.quiet()
    assert {"CPU": 1} == available(t)
    t >> done(W4, placed(2)) << ready(2) << run(W4, made, 2, attempt=1, actor=m.ActorSpec("A", (), 1))
    t << StartWorker(W5)


def test_the_resources_of_a_lost_worker_return_to_its_bundle() -> None:
    t = Transcript(cpus=2)
    t >> group(1)
    spec = placed(1, max_retries=1)
    t >> submit(spec) << define(W3) << run(W3, spec, 1)
    t >> exited(W3, 1) << define(W2) << run(W2, spec, 1, attempt=1) << StartWorker(W4)
    assert {"CPU": 1} == available(t)


def test_a_task_in_an_unknown_group_fails() -> None:
    t = Transcript()
    t >> submit(placed(1, group_id=GroupId(77)))
    assert "task_placement_group_removed" == failure_of(t.taken()[0]).kind
    t >> remove(77)
    t.quiet()
    assert [] == states(t, group_id=77)


# ---- names and owners


def found_groups(t: Transcript) -> tuple[Any, ...]:
    (command,) = t.taken()
    assert isinstance(command, Send)
    assert isinstance(command.message, m.GroupsReply)
    return command.message.groups


def test_a_group_is_found_by_its_name_in_its_namespace() -> None:
    t = Transcript()
    t >> group(1, name="a", request=1)
    (record,) = found_groups(t)
    assert (1, "a", bundles({"CPU": 1}), "pending") == (
        record.group_id,
        record.name,
        record.bundles,
        record.state,
    )
    t >> group(2, name="a", request=2)
    assert [1] == [found.group_id for found in found_groups(t)]
    assert [(1, "reserved", "")] == states(t, name="a")
    assert [] == states(t, name="b")
    t >> ClientJoined(OTHER)
    t >> Received(OTHER, m.LookUpGroups(1, OTHER, name="a")) << Send(OTHER, m.GroupsReply(1, ()))
    t >> remove(1)
    assert [] == states(t, name="a")
    t >> group(2, name="a", request=3)
    assert [2] == [found.group_id for found in found_groups(t)]


def test_a_group_ends_with_the_driver_that_created_it_unless_it_is_detached() -> None:
    t = Transcript(cpus=3)
    t >> ClientJoined(OTHER)
    t >> group(1, sender=OTHER, driver=OTHER) >> group(2, sender=OTHER, driver=OTHER, detached=True)
    t >> submit(placed(1)) << define(W4) << run(W4, placed(1), 1)
    why = "the driver that it belonged to has left"
    t >> ClientGone(OTHER) << StopWorker(W4, "kill")
    t << Send(DRIVER, m.ObjectReady(ident(1), removed(1, why=why))) << StartWorker(W5)
    t >> exited(W4, 1)
    assert {"CPU": 2} == available(t)
    assert [(1, "removed"), (2, "reserved")] == [found[:2] for found in states(t)]
    t >> group(3, sender=W2, driver=OTHER)
    assert (3, "removed", "") in states(t)


def test_a_group_ends_with_the_actor_that_created_it() -> None:
    t = Transcript(cpus=3)
    made = task(1, name="A", number="1")
    t >> create(made) << define(W4) << run(W4, made, 1, actor=m.ActorSpec("A")) << StartWorker(W5)
    t >> done(W4, made) << ready(1)
    t >> group(1, sender=W4) >> group(2, sender=W4, detached=True)
    assert {"CPU": 1} == available(t)
    t >> Received(DRIVER, m.KillActor(ident(1))) << StopWorker(W4, "kill")
    assert {"CPU": 2} == available(t)
    assert [(1, "removed"), (2, "reserved")] == [found[:2] for found in states(t)]


def test_a_group_that_a_task_created_belongs_to_the_tasks_driver() -> None:
    t = Transcript(cpus=2)
    t >> submit(task(1)) << define(W3) << run(W3, task(1), 1)
    t >> group(1, sender=W3)
    t >> done(W3, task(1)) << ready(1)
    t >> exited(W3) << StartWorker(W4)
    assert [(1, "reserved", "")] == states(t)


def test_removed_groups_are_remembered_for_a_while() -> None:
    t = Transcript()
    for number in range(1, 105):
        t >> group(number) >> remove(number)
    assert list(range(5, 105)) == [found[0] for found in states(t)]


# ---- nodes and labels


def test_a_task_for_another_machine_fails_and_a_task_for_this_machine_runs() -> None:
    t = Transcript(labels={"ray.io/node-id": "ab"})
    t >> submit(task(1, place=Place(node="cd")))
    text = "f#1 cannot run: it is to run on node cd, and the only node of this session is ab."
    assert m.Failure("task_unschedulable", text) == failure_of(t.taken()[0])
    t >> create(task(2, place=Place(node="cd"), name="A", number="1"))
    assert "actor_unschedulable" == failure_of(t.taken()[0]).kind
    here = task(3, place=Place(node="ab"))
    t >> submit(here) << define(W3) << run(W3, here, 1)


def test_tasks_and_groups_wait_for_labels_that_the_machine_does_not_have() -> None:
    t = Transcript(labels={"ray.io/node-id": "ab", "region": "us"})
    here = LabelMatch("region", "in", ("us", "eu"))
    there = LabelMatch("region", "in", ("eu",))
    fits = task(1, place=Place(labels=((there,), (here,))))
    t >> submit(fits) << define(W3) << run(W3, fits, 1)
    text = "it needs a machine with region=eu (this one has region=us)"
    t >> submit(task(2, place=Place(labels=((there,),))))
    t << Send(DRIVER, m.Notice(f"f#2 cannot start: {text}. It waits until it is cancelled."))
    assert f"f#2 can never start in this session: {text}." == t.core.explain(ident(2))
    t >> group(1, labels=((there,),))
    t << Send(DRIVER, m.Notice(f"group#1 cannot be reserved: {text}. It waits until it is removed."))
    t >> group(2, labels=((here,),))
    t >> submit(placed(3, group_id=2)) << define(W2) << run(W2, placed(3, group_id=2), 1)
