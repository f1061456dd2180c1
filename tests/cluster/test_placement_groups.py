"""Placement groups on a cluster: groups of a driver, a task and an actor; waiting for a group, and its end."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from ipyremote.backend import current
from ipyremote.ids import GroupId
from ipyremote.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ipyremote.util.placement_group import PlacementGroup
from ipyremote.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup
from tests.support.waiting import until


@pytest.fixture
def four(start: Callable[..., Any]) -> Any:
    """A cluster with four CPUs, all of which are free at the end of the test."""
    context = start(num_cpus=4, resources={"widget": 2}, object_store_memory=128 << 20)
    yield context
    until(lambda: ray.available_resources().get("CPU") == 4.0, "all CPUs are free")


@ray.remote
def where() -> Any:
    group = get_current_placement_group()
    return group, ray.get_runtime_context().get_placement_group_id()


@ray.remote
def held(path: str) -> int:
    """Run until the file exists."""
    Path(f"{path}.{os.getpid()}").touch()
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def where(self) -> Any:
        return get_current_placement_group()

    def create(self, **options: Any) -> PlacementGroup:
        group = placement_group([{"CPU": 1}], **options)
        assert group.wait(30)
        return group

    def child(self) -> Any:
        return ray.get(where.remote())[0]


def free() -> float:
    return ray.available_resources().get("CPU", 0.0)


def state_of(group: PlacementGroup) -> str:
    state: str = placement_group_table(group)["state"]
    return state


def test_a_placement_group_reserves_its_resources_and_returns_them(four: Any) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1, "widget": 1}])
    assert ray.get(group.ready(), timeout=30) == group
    assert group.wait(timeout_seconds=30)
    assert group.bundle_specs == [{"CPU": 1.0}, {"CPU": 1.0, "widget": 1.0}]
    assert group.bundle_count == 2
    assert repr(group) == "PlacementGroup(placement_group#1)"
    assert ray.available_resources()["CPU"] == 2.0
    assert ray.available_resources()["widget"] == 1.0
    assert ray.cluster_resources()["CPU"] == 4.0
    assert ray.cluster_resources()["widget"] == 2.0
    remove_placement_group(group)
    remove_placement_group(group)
    until(lambda: free() == 4.0, "the group's resources are returned")
    assert state_of(group) == "REMOVED"
    assert not group.wait(0.5)
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        ray.get(group.ready(), timeout=30)


def test_a_fully_reserved_resource_is_missing_from_the_available_resources(four: Any) -> None:
    group = placement_group([{"CPU": 4, "widget": 2}])
    assert group.wait(30)
    assert not {"CPU", "widget"} & set(ray.available_resources())
    remove_placement_group(group)


def test_tasks_and_actors_in_a_placement_group_know_their_group(four: Any) -> None:
    group = placement_group([{"CPU": 2}], strategy="STRICT_PACK")
    found, digits = ray.get(where.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)
    assert found == group
    assert repr(found) == repr(group)
    assert found.bundle_specs == group.bundle_specs
    assert digits == group.id.hex()
    assert len(digits) == 36
    assert ray.get(where.remote(), timeout=30) == (None, None)
    counter = Counter.options(scheduling_strategy=InGroup(group, 0), num_cpus=1).remote()
    assert ray.get(counter.where.remote(), timeout=30) == group
    assert get_current_placement_group() is None
    assert ray.get_runtime_context().get_placement_group_id() is None
    assert free() == 2.0
    remove_placement_group(group)


def test_tasks_use_only_the_resources_of_their_bundle(four: Any, tmp_path: Path) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    gate = str(tmp_path / "gate")
    in_first = held.options(scheduling_strategy=InGroup(group, 0))
    first, second = in_first.remote(gate), in_first.remote(gate)
    until(lambda: len(list(tmp_path.iterdir())) == 1, "one task runs")
    other = held.options(scheduling_strategy=InGroup(group, 1)).remote(gate)
    until(lambda: len(list(tmp_path.iterdir())) == 2, "there is room in the other bundle")
    assert free() == 2.0
    assert "waits in placement_group#1 for 1 CPU: 1 of 1 is used by held#1" in current.backend().explain(
        second._id
    )
    Path(gate).touch()
    assert len(set(ray.get([first, other], timeout=30))) == 2
    ray.get(second, timeout=30)
    remove_placement_group(group)


def test_a_placement_group_waits_for_used_resources_and_says_so(four: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    running = [held.remote(gate) for _ in range(3)]
    until(lambda: free() == 1.0, "three of four CPUs are used")
    group = placement_group([{"CPU": 1}, {"CPU": 1}], name="pair")
    assert not group.wait(timeout_seconds=0.2)
    ready = group.ready()
    text = current.backend().explain(ready._id)
    assert "waits for its placement group: pair waits for 2 CPUs: 3 of 4 are used by held#" in text
    record = placement_group_table(group)
    assert (record["state"], record["bundles_to_node_id"]) == ("PENDING", {0: "", 1: ""})
    assert "pair waits for 2 CPUs" in record["detail"]
    assert free() == 1.0
    Path(gate).touch()
    assert ray.get(ready, timeout=30) == group
    ray.get(running, timeout=30)
    remove_placement_group(group)


def test_a_placement_group_is_reserved_although_small_tasks_keep_coming(four: Any) -> None:
    @ray.remote
    def short() -> None:
        time.sleep(0.05)

    flood = [short.remote() for _ in range(400)]
    group = placement_group([{"CPU": 4}])
    assert group.wait(15)
    assert len(ray.wait(flood, num_returns=len(flood), timeout=0)[0]) < len(flood)
    remove_placement_group(group)
    ray.get(flood, timeout=60)


def test_a_placement_group_that_can_never_be_reserved_waits_with_one_warning(
    four: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    greedy = placement_group([{"CPU": 4}, {"CPU": 1}])
    spread = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    assert not greedy.wait(0.2)
    assert not spread.wait(0)
    for group, why in ((greedy, "it needs 5 CPU (the session has 4)"), (spread, "STRICT_SPREAD")):
        ready = group.ready()
        text = current.backend().explain(ready._id)
        assert "can never be reserved in this session" in text
        assert why in text
    assert free() == 4.0
    remove_placement_group(greedy)
    remove_placement_group(spread)
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        ray.get(ready, timeout=30)
    printed = capfd.readouterr().err
    assert printed.count("placement_group#1 cannot be reserved") == 1
    assert printed.count("placement_group#2 cannot be reserved") == 1


def test_removal_of_a_placement_group_ends_its_tasks_and_actors(four: Any, tmp_path: Path) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    gate = str(tmp_path / "gate")
    in_group = held.options(scheduling_strategy=InGroup(group, 0))
    running, waiting = in_group.remote(gate), in_group.remote(gate)
    until(lambda: bool(list(tmp_path.iterdir())), "one task runs")
    counter = Counter.options(scheduling_strategy=InGroup(group, 1), num_cpus=1, max_restarts=5).remote()
    assert ray.get(counter.add.remote(), timeout=30) == 1
    (pid,) = (int(path.name.rpartition(".")[2]) for path in tmp_path.iterdir())
    remove_placement_group(group)
    for ref in (running, waiting):
        with pytest.raises(exceptions.TaskPlacementGroupRemoved, match=r"held#.*: it was removed"):
            ray.get(ref, timeout=30)
    with pytest.raises(exceptions.ActorPlacementGroupRemoved, match="Counter has died with its placement"):
        ray.get(counter.add.remote(), timeout=30)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker that ran it is gone")
    until(lambda: free() == 4.0, "all CPUs are free")
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        ray.get(where.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)
    late = Counter.options(scheduling_strategy=InGroup(group)).remote()
    with pytest.raises(exceptions.ActorPlacementGroupRemoved):
        ray.get(late.add.remote(), timeout=30)


def test_a_killed_actor_and_a_crashed_task_return_resources_to_their_bundle(four: Any) -> None:
    group = placement_group([{"CPU": 1}])

    @ray.remote(max_retries=0)
    def crash() -> None:
        os._exit(1)

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(crash.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)
    counter = Counter.options(scheduling_strategy=InGroup(group), num_cpus=1).remote()
    assert ray.get(counter.add.remote(), timeout=30) == 1
    ray.kill(counter)
    found, _ = ray.get(where.options(scheduling_strategy=InGroup(group, 0)).remote(), timeout=30)
    assert found == group
    assert free() == 3.0
    remove_placement_group(group)


def test_child_tasks_are_placed_in_the_group_only_with_capture_child_tasks(four: Any) -> None:
    group = placement_group([{"CPU": 2}])

    @ray.remote
    def parent() -> Any:
        context = ray.get_runtime_context()
        child = where.remote()
        elsewhere = where.options(scheduling_strategy="DEFAULT").remote()
        outside = where.options(scheduling_strategy=InGroup(None)).remote()
        captures = context.should_capture_child_tasks_in_placement_group
        return [captures, *(found for found, _ in ray.get([child, elsewhere, outside]))]

    @ray.remote
    def grandparent() -> Any:
        return ray.get(parent.remote())

    catching = InGroup(group, placement_group_capture_child_tasks=True)
    assert ray.get(parent.options(scheduling_strategy=catching).remote(), timeout=30) == [
        True,
        group,
        None,
        None,
    ]
    plain = parent.options(scheduling_strategy=InGroup(group))
    assert ray.get(plain.remote(), timeout=30) == [False, None, None, None]
    assert ray.get(grandparent.options(scheduling_strategy=catching).remote(), timeout=30)[1] == group
    counter = Counter.options(scheduling_strategy=catching).remote()
    assert ray.get(counter.child.remote(), timeout=30) == group
    remove_placement_group(group)


def test_a_captured_child_task_that_fits_into_no_bundle_fails(four: Any) -> None:
    group = placement_group([{"CPU": 1}])

    @ray.remote
    def parent() -> Any:
        return ray.get(where.options(num_cpus=2).remote())

    catching = InGroup(group, placement_group_capture_child_tasks=True)
    with pytest.raises(exceptions.TaskUnschedulableError, match="no bundle of placement_group#1"):
        ray.get(parent.options(scheduling_strategy=catching).remote(), timeout=30)
    remove_placement_group(group)


def test_a_blocked_parent_task_lends_its_bundle_resources_to_its_children(four: Any) -> None:
    group = placement_group([{"CPU": 1}])

    @ray.remote
    def nested(depth: int) -> int:
        return 0 if not depth else 1 + int(ray.get(nested.remote(depth - 1)))

    catching = InGroup(group, placement_group_capture_child_tasks=True)
    assert ray.get(nested.options(scheduling_strategy=catching).remote(5), timeout=60) == 5
    assert free() == 3.0
    remove_placement_group(group)


def test_a_placement_group_can_be_pickled_anywhere(four: Any) -> None:
    group = placement_group([{"CPU": 1}])
    copied = pickle.loads(pickle.dumps(group))
    assert copied == group
    assert hash(copied) == hash(group)
    assert copied.wait(30)
    assert {group: 1}[copied] == 1
    assert group != "group"
    remove_placement_group(copied)
    assert state_of(group) == "REMOVED"


def test_a_repeated_call_stays_in_its_placement_group(four: Any) -> None:
    group = placement_group([{"CPU": 1}])
    backend: Any = group._owner()
    backend.history.remember_calls()

    @ray.remote
    def fail() -> None:
        raise ValueError(ray.get_runtime_context().get_placement_group_id())

    ref = fail.options(scheduling_strategy=InGroup(group)).remote()
    with pytest.raises(ValueError, match=group.id.hex()):
        ray.get(ref, timeout=30)
    again: ray.ObjectRef[Any] = ray.ObjectRef(backend.history.retry(ref._id), backend, "again")
    with pytest.raises(ValueError, match=group.id.hex()):
        ray.get(again, timeout=30)
    remove_placement_group(group)


def test_a_placement_group_is_found_by_its_name(four: Any) -> None:
    group = placement_group([{"CPU": 1}], name="mine")

    @ray.remote
    def find() -> PlacementGroup:
        return get_placement_group("mine")

    assert get_placement_group("mine") == group
    assert ray.get(find.remote(), timeout=30) == group
    assert get_placement_group("mine").bundle_specs == [{"CPU": 1.0}]
    with pytest.raises(ValueError, match="'mine' is already taken"):
        placement_group([{"CPU": 2}], name="mine")
    assert free() == 3.0
    remove_placement_group(group)
    with pytest.raises(ValueError, match="Failed to look up placement group with name 'mine'"):
        get_placement_group("mine")
    again = placement_group([{"CPU": 1}], name="mine")
    assert again != group
    remove_placement_group(again)


def test_the_placement_group_table_has_the_keys_of_rays_table(four: Any) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 0.5}], strategy="SPREAD", name="a")
    assert group.wait(30)
    record = placement_group_table(group)
    assert placement_group_table() == {group.id.hex(): record}
    node = ray.nodes()[0]["NodeID"]
    stats = record.pop("stats")
    assert record == {
        "placement_group_id": group.id.hex(),
        "name": "a",
        "bundles": {0: {"CPU": 1.0}, 1: {"CPU": 0.5}},
        "bundles_to_node_id": {0: node, 1: node},
        "strategy": "SPREAD",
        "state": "CREATED",
        "detail": "",
    }
    assert stats["end_to_end_creation_latency_ms"] >= 0
    assert stats["scheduling_state"] == "FINISHED"
    remove_placement_group(group)
    assert placement_group_table(PlacementGroup(GroupId(5), group._key, "nobody")) == {}


def test_a_placement_group_ends_with_the_actor_that_created_it(four: Any) -> None:
    creator = Counter.remote()
    own, detached = ray.get([creator.create.remote(), creator.create.remote(lifetime="detached")], timeout=30)
    assert free() == 2.0
    ray.kill(creator)
    until(lambda: state_of(own) == "REMOVED", "the group ended with its creator")
    assert state_of(detached) == "CREATED"
    assert free() == 3.0
    remove_placement_group(detached)


def test_a_placement_group_outlives_the_task_that_created_it(four: Any) -> None:
    @ray.remote
    def create() -> PlacementGroup:
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return group

    group = ray.get(create.remote(), timeout=30)
    assert ray.get(where.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)[0] == group
    remove_placement_group(group)


_JOINED = """
import sys
import ipyremote as ray
from ipyremote.util import placement_group
ray.init(address=sys.argv[1], namespace="shared")
groups = [placement_group([{"CPU": 1}], name="own"), placement_group([{"CPU": 1}], name="kept", lifetime="detached")]
print([group.wait(30) for group in groups], ray.available_resources()["CPU"])
ray.shutdown()
"""


def _program(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run another program to its end and return its output."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path.cwd(),
        check=False,
    )


def test_a_placement_group_of_another_program_ends_with_the_program_unless_detached(
    start: Callable[..., Any],
) -> None:
    address = start(num_cpus=3, namespace="shared").address_info["address"]
    done = _program(_JOINED, address)
    assert done.stdout == "[True, True] 1.0\n", done.stderr
    until(lambda: free() == 2.0, "the group of the program ended with the program")
    kept = get_placement_group("kept")
    assert state_of(kept) == "CREATED"
    with pytest.raises(ValueError, match="own"):
        get_placement_group("own")
    remove_placement_group(kept)
    until(lambda: free() == 3.0, "three CPUs are free")
    ray.shutdown()


def test_a_placement_group_of_an_earlier_session_is_refused(start: Callable[..., Any]) -> None:
    start(num_cpus=1)
    group = placement_group([{"CPU": 1}])
    assert group.wait(30)
    strategy = InGroup(group)
    before = where.options(scheduling_strategy=strategy)
    ray.shutdown()
    start(num_cpus=1)
    for use in (
        group.ready,
        lambda: remove_placement_group(group),
        lambda: where.options(scheduling_strategy=strategy),
    ):
        with pytest.raises(ValueError, match="belongs to a session that was shut down"):
            use()
    with pytest.raises(exceptions.TaskPlacementGroupRemoved, match="another session's"):
        ray.get(before.remote(), timeout=30)
    ray.shutdown()


def test_gpus_of_a_bundle_are_real_device_indices(start: Callable[..., Any]) -> None:
    start(num_cpus=4, num_gpus=3)

    @ray.remote(num_gpus=1, num_cpus=0)
    def devices() -> Any:
        return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    first = placement_group([{"GPU": 1}])
    second = placement_group([{"GPU": 1}, {"GPU": 1}])
    assert first.wait(30)
    assert second.wait(30)
    found = []
    for group, bundle in ((first, 0), (second, 0), (second, 1)):
        ids, visible = ray.get(
            devices.options(scheduling_strategy=InGroup(group, bundle)).remote(), timeout=30
        )
        assert visible == str(ids[0])
        found += ids
    assert sorted(found) == [0, 1, 2]
    assert "GPU" not in ray.available_resources()
    remove_placement_group(first)
    assert ray.get(devices.remote(), timeout=30)[0] == [found[0]]
    ray.shutdown()


def test_wrong_placement_arguments_are_refused_at_the_call(four: Any) -> None:
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        ([], {}, ValueError, "bundles is a list"),
        ({"CPU": 1}, {}, ValueError, "bundles is a list"),
        ([{}], {}, ValueError, "asks for nothing"),
        ([{"CPU": 1}, {"CPU": 0}], {}, ValueError, r"bundles\[1\] asks for nothing"),
        ([{"CPU": -1}], {}, ValueError, "zero or more"),
        ([{"CPU": "1"}], {}, ValueError, "is a number"),
        ([{1: 1}], {}, ValueError, "dictionary of amounts"),
        (["CPU"], {}, ValueError, "dictionary of amounts"),
        ([{"CPU": 0.00001}], {}, ValueError, "0.0001"),
        ([{"GPU": 1.5}], {}, ValueError, "whole number"),
        ([{"CPU": 1}], {"strategy": "NEAR"}, ValueError, "'STRICT_SPREAD', not 'NEAR'"),
        ([{"CPU": 1}], {"name": 1}, TypeError, "name is a string"),
        ([{"CPU": 1}], {"lifetime": "long"}, ValueError, "'detached' or None"),
        ([{"CPU": 1}], {"bundle_label_selector": [{}, {}]}, ValueError, "one dictionary for each bundle"),
        ([{"CPU": 1}], {"topology_strategy": {}}, NotImplementedError, "STRICT_PACK"),
        ([{"CPU": 1}], {"_soft_target_node_id": "ab"}, ValueError, "STRICT_PACK"),
    ]
    for given, options, error, text in wrong:
        with pytest.raises(error, match=text):
            placement_group(given, **options)
    for function in (remove_placement_group, placement_group_table):
        with pytest.raises(TypeError, match="takes a PlacementGroup"):
            function("group")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not empty"):
        get_placement_group("")
    with pytest.raises(TypeError, match="takes a text"):
        get_placement_group(None)  # type: ignore[arg-type]
    assert placement_group_table() == {}
    empty = PlacementGroup.empty()
    assert empty.is_empty
    assert ray.get(empty.ready()) == empty
    remove_placement_group(empty)


def test_placement_groups_of_a_detached_session_outlive_the_kernel(tmp_path: Path) -> None:
    from tests.support import leaks

    with leaks.leakless():
        out = _program(_KERNEL)
        assert out.stdout == "left\n", out.stderr
        model = ray.recover("model", session=_kept_session())
        try:
            assert ray.get(model.add.remote(), timeout=30) == 2
            group = get_placement_group("lasting")
            assert state_of(group) == "CREATED"
            assert ray.get(where.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)[0] == group
        finally:
            ray.shutdown()


def _kept_session() -> str:
    from ipyremote.session.recovery import recoverable

    (found,) = (found for found in recoverable() if "model" in found.names)
    return found.key


_KERNEL = """
import os
import ipyremote as ray
from ipyremote.util import placement_group
from ipyremote.util.scheduling_strategies import PlacementGroupSchedulingStrategy
ray.init(num_cpus=2, keep_alive=60, namespace="lab")

@ray.remote
class Model:
    def __init__(self):
        self.steps = 0
    def add(self):
        self.steps += 1
        return self.steps

group = placement_group([{"CPU": 1}], name="lasting")
in_group = PlacementGroupSchedulingStrategy(group)
model = Model.options(name="model", lifetime="detached", scheduling_strategy=in_group).remote()
assert ray.get(model.add.remote(), timeout=30) == 1
print("left", flush=True)
os._exit(0)
"""
