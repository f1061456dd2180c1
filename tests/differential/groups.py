"""Behaviours of placement groups and scheduling strategies."""

from __future__ import annotations

import importlib
from typing import Any

import ipyremote as ray
from tests.differential.behaviours import Program, caught, comes_true, raised

program = Program()


def strategies() -> Any:
    """Return the engine's module of scheduling strategies."""
    return importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")


def inside(group: Any, **more: Any) -> Any:
    return strategies().PlacementGroupSchedulingStrategy(group, **more)


@ray.remote(num_cpus=1)
def where() -> Any:
    return ray.get_runtime_context().get_placement_group_id()


@ray.remote(num_cpus=1)
class Lives:
    def ping(self) -> str:
        return "here"


@program
def a_group_is_reserved_and_given_back() -> Any:
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy="PACK", name="pair")
    ready = ray.get(group.ready(), timeout=60)
    told = type(ready), group.bundle_specs, group.bundle_count, group.wait(30), len(group.id.hex())
    state = ray.util.placement_group_table(group)["state"]
    ray.util.remove_placement_group(group)
    return told, state, comes_true(lambda: ray.util.placement_group_table(group)["state"] == "REMOVED")


@program
def wrong_groups_are_refused() -> Any:
    return [
        raised(ray.util.placement_group, []),
        raised(ray.util.placement_group, [{}]),
        raised(ray.util.placement_group, [{"CPU": 0}]),
        raised(ray.util.placement_group, [{"CPU": 1}], strategy="LOOSE"),
        raised(ray.util.placement_group, [{"CPU": 1}], lifetime="long"),
        raised(ray.util.placement_group, {"CPU": 1}),
        raised(ray.util.get_placement_group, "nobody"),
    ]


@program
def a_group_that_is_too_large_waits() -> Any:
    group = ray.util.placement_group([{"CPU": 100}])
    told = group.wait(0.5), ray.util.placement_group_table(group)["state"]
    ray.util.remove_placement_group(group)
    return told


@program
def apart_is_not_possible_on_one_machine() -> Any:
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    told = group.wait(0.5)
    ray.util.remove_placement_group(group)
    return told


@program
def tasks_and_actors_live_in_a_group() -> Any:
    group = ray.util.placement_group([{"CPU": 2}])
    ray.get(group.ready(), timeout=60)
    task = ray.get(where.options(scheduling_strategy=inside(group)).remote(), timeout=60) == group.id.hex()
    actor = Lives.options(scheduling_strategy=inside(group, placement_group_bundle_index=0)).remote()
    told = task, ray.get(actor.ping.remote(), timeout=60)
    ray.util.remove_placement_group(group)
    lost = comes_true(lambda: raised(ray.get, actor.ping.remote(), timeout=60) != "nothing")
    return told, lost, caught(ray.exceptions.RayError, ray.get, actor.ping.remote(), timeout=60)


@program
def what_waits_in_a_group_fails_with_it() -> Any:
    group = ray.util.placement_group([{"CPU": 100}])
    ref = where.options(scheduling_strategy=inside(group)).remote()
    ray.util.remove_placement_group(group)
    return raised(ray.get, ref, timeout=5)


@program
def a_bundle_that_there_is_not_is_refused() -> Any:
    group = ray.util.placement_group([{"CPU": 1}])
    ray.get(group.ready(), timeout=60)
    told = raised(
        lambda: where.options(scheduling_strategy=inside(group, placement_group_bundle_index=1)).remote()
    )
    ray.util.remove_placement_group(group)
    return told


@program
def strategies_are_checked() -> Any:
    return [
        raised(lambda: where.options(scheduling_strategy="LOOSE").remote()),
        raised(lambda: where.options(scheduling_strategy=3).remote()),
        ray.get(where.options(scheduling_strategy="SPREAD").remote(), timeout=60),
        ray.get(where.options(scheduling_strategy="DEFAULT").remote(), timeout=60),
    ]


@program
def a_node_that_there_is_not_is_told() -> Any:
    affinity = strategies().NodeAffinitySchedulingStrategy
    unknown, known = "f" * 56, ray.get_runtime_context().get_node_id()
    return [
        raised(
            ray.get, where.options(scheduling_strategy=affinity(unknown, soft=False)).remote(), timeout=60
        ),
        ray.get(where.options(scheduling_strategy=affinity(unknown, soft=True)).remote(), timeout=60),
        ray.get(where.options(scheduling_strategy=affinity(known, soft=False)).remote(), timeout=60),
    ]


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    program.report()
    ray.shutdown()
