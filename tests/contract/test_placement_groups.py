"""Placement groups and scheduling strategies, as far as all engines with placement groups agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)
from ipyremote.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ipyremote.util.placement_group import PlacementGroup
from ipyremote.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ipyremote.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup
from tests.support.waiting import until

pytestmark = pytest.mark.needs("placement_groups")


@pytest.fixture
def group() -> Iterator[PlacementGroup]:
    """A placement group: one of the two CPUs and the GPU in one bundle, a widget in another."""
    made = placement_group([{"CPU": 1, "GPU": 1}, {"widget": 1}])
    yield made
    remove_placement_group(made)
    until(lambda: ray.available_resources().get("CPU") == 2.0, "it is given back")


def test_a_ready_group_has_reserved_its_resources(group: PlacementGroup) -> None:
    assert ray.get(group.ready(), timeout=30) == group
    assert group.wait(30)
    available = ray.available_resources()
    assert (available["CPU"], available["widget"], available.get("GPU")) == (1.0, 1.0, None)
    assert ray.cluster_resources()["CPU"] == 2.0
    assert placement_group_table(group)["state"] == "CREATED"
    assert group.bundle_specs == [{"CPU": 1.0, "GPU": 1.0}, {"widget": 1.0}]


def test_tasks_actors_and_their_children_run_in_their_group(group: PlacementGroup) -> None:
    @ray.remote
    def where() -> Any:
        return get_current_placement_group()

    @ray.remote(num_gpus=1)
    def outer() -> Any:
        return get_current_placement_group(), ray.get(where.options(num_cpus=0).remote())

    @ray.remote(num_cpus=1)
    class Actor:
        def where(self) -> Any:
            return get_current_placement_group(), ray.get(where.remote())

    strategy = InGroup(group, 0)
    assert ray.get(where.options(scheduling_strategy=strategy).remote(), timeout=30) == group
    assert ray.get(outer.options(scheduling_strategy=strategy).remote(), timeout=30) == (group, None)
    catching = InGroup(group, 0, placement_group_capture_child_tasks=True)
    assert ray.get(outer.options(scheduling_strategy=catching).remote(), timeout=30) == (group, group)
    actor = Actor.options(scheduling_strategy=strategy).remote()
    assert ray.get(actor.where.remote(), timeout=30) == (group, None)
    assert get_current_placement_group() is None


def test_a_task_that_does_not_fit_into_its_group_is_refused(group: PlacementGroup) -> None:
    @ray.remote
    def one() -> int:
        return 1

    with pytest.raises(ValueError, match="bundle 1"):
        one.options(scheduling_strategy=InGroup(group, 1))
    with pytest.raises(ValueError, match="none of the bundles"):
        one.options(num_cpus=2, scheduling_strategy=InGroup(group))
    with pytest.raises(ValueError, match="from 0 to 1, and -1 is any"):
        InGroup(group, 2)


def test_the_removal_of_a_group_ends_its_actors_and_refuses_later_tasks() -> None:
    @ray.remote
    class Actor:
        def one(self) -> int:
            return 1

    @ray.remote
    def one() -> int:
        return 1

    group = placement_group([{"CPU": 1}], name="short")
    assert get_placement_group("short") == group
    actor = Actor.options(scheduling_strategy=InGroup(group)).remote()
    assert ray.get(actor.one.remote(), timeout=30) == 1
    remove_placement_group(group)
    with pytest.raises(ActorPlacementGroupRemoved):
        ray.get(actor.one.remote(), timeout=30)
    with pytest.raises(TaskPlacementGroupRemoved):
        ray.get(one.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)
    with pytest.raises(ValueError, match="Failed to look up"):
        get_placement_group("short")
    assert not group.wait(1)


def test_a_second_group_with_the_same_name_is_refused() -> None:
    group = placement_group([{"CPU": 1}], name="once")
    with pytest.raises(ValueError, match="already taken"):
        placement_group([{"CPU": 1}], name="once")
    remove_placement_group(group)


def test_affinity_to_another_node_is_refused() -> None:
    @ray.remote
    class Actor:
        def one(self) -> int:
            return 1

    @ray.remote
    def one() -> int:
        return 1

    hard = NodeAffinitySchedulingStrategy("0a" * 28, soft=False)
    with pytest.raises(TaskUnschedulableError, match="0a0a"):
        ray.get(one.options(scheduling_strategy=hard).remote(), timeout=30)
    with pytest.raises(ActorUnschedulableError, match="0a0a"):
        ray.get(Actor.options(scheduling_strategy=hard).remote().one.remote(), timeout=30)
    soft = NodeAffinitySchedulingStrategy("0a" * 28, soft=True)
    here = NodeAffinitySchedulingStrategy(ray.nodes()[0]["NodeID"], soft=False)
    selected = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    given: tuple[dict[str, Any], ...] = (
        {"scheduling_strategy": soft},
        {"scheduling_strategy": here},
        {"label_selector": selected},
    )
    for options in given:
        assert ray.get(one.options(**options).remote(), timeout=30) == 1


def test_a_group_that_can_never_be_reserved_is_not_ready() -> None:
    too_much = placement_group([{"CPU": 3}])
    apart = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    assert [placement_group_table(group)["state"] for group in (too_much, apart)] == ["PENDING", "PENDING"]
    assert "STRICT_SPREAD" in placement_group_table(apart)["detail"]
    assert ray.available_resources()["CPU"] == 2.0
    remove_placement_group(too_much)
    remove_placement_group(apart)
