"""Scheduling strategies, labels and nodes on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import ActorUnschedulableError, GetTimeoutError, TaskUnschedulableError
from ipyremote.util.scheduling_strategies import (
    DoesNotExist,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

ELSEWHERE = "0a" * 28
RAYS_KEYS = {
    "NodeID",
    "Alive",
    "NodeManagerAddress",
    "NodeManagerHostname",
    "NodeManagerPort",
    "ObjectManagerPort",
    "ObjectStoreSocketName",
    "RayletSocketName",
    "MetricsExportPort",
    "MetricsAgentPort",
    "DashboardAgentListenPort",
    "NodeName",
    "RuntimeEnvAgentPort",
    "DeathReason",
    "DeathReasonMessage",
    "alive",
    "Resources",
    "Labels",
}


@ray.remote
def one() -> int:
    return 1


@ray.remote
class Actor:
    def one(self) -> int:
        return 1


def test_strategies_given_as_words_allow_the_only_node(cluster: Any) -> None:
    for strategy in ("DEFAULT", "SPREAD", None):
        assert ray.get(one.options(scheduling_strategy=strategy).remote(), timeout=30) == 1
        assert ray.get(Actor.options(scheduling_strategy=strategy).remote().one.remote(), timeout=30) == 1


def test_node_affinity_runs_on_this_node_and_fails_for_an_unknown_node(cluster: Any) -> None:
    here = ray.nodes()[0]["NodeID"]
    assert here == ray.get_runtime_context().get_node_id()
    for node, soft in ((here, False), (here, True), (ELSEWHERE, True)):
        strategy = NodeAffinitySchedulingStrategy(node, soft=soft)
        assert ray.get(one.options(scheduling_strategy=strategy).remote(), timeout=30) == 1
        assert ray.get(Actor.options(scheduling_strategy=strategy).remote().one.remote(), timeout=30) == 1
    hard = NodeAffinitySchedulingStrategy(ELSEWHERE, soft=False)
    with pytest.raises(TaskUnschedulableError, match=f"one#.* cannot run: it is to run on node {ELSEWHERE}"):
        ray.get(one.options(scheduling_strategy=hard).remote(), timeout=30)
    with pytest.raises(ActorUnschedulableError, match="Actor cannot be created: it is to run on node"):
        ray.get(Actor.options(scheduling_strategy=hard).remote().one.remote(), timeout=30)

    @ray.remote
    def nested() -> Any:
        return ray.get(one.options(scheduling_strategy=hard).remote())

    with pytest.raises(TaskUnschedulableError):
        ray.get(nested.remote(), timeout=30)


def test_node_records_have_the_keys_of_rays_node_records(start: Callable[..., Any]) -> None:
    start(num_cpus=2, labels={"region": "us", "example.com/kind": "big"})
    (node,) = ray.nodes()
    assert RAYS_KEYS <= set(node)
    assert node["Alive"] is node["alive"] is True
    assert node["Resources"]["CPU"] == 2.0
    assert node["Labels"] == {
        "ray.io/node-id": node["NodeID"],
        "region": "us",
        "example.com/kind": "big",
    }
    assert ray.get_runtime_context().get_node_labels() == node["Labels"]

    @ray.remote
    def labels() -> Any:
        return ray.get_runtime_context().get_node_labels(), ray.nodes()[0]["Labels"]

    assert ray.get(labels.remote(), timeout=30) == (node["Labels"], node["Labels"])
    ray.shutdown()


def test_labels_decide_which_tasks_can_run(
    start: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    start(num_cpus=2, labels={"region": "us", "market": "spot"})
    node = ray.nodes()[0]["NodeID"]
    met: list[dict[str, Any]] = [
        {"label_selector": {"region": "us"}},
        {"label_selector": {"region": "in(eu, us)", "market": "!on-demand"}},
        {"label_selector": {"ray.io/node-id": node}},
        {"label_selector": {"region": "eu"}, "fallback_strategy": [{"label_selector": {"region": "us"}}]},
        {"scheduling_strategy": NodeLabelSchedulingStrategy({"region": In("us"), "gpu": DoesNotExist()})},
        {"scheduling_strategy": NodeLabelSchedulingStrategy({}, soft={"region": In("eu")})},
    ]
    for options in met:
        assert ray.get(one.options(**options).remote(), timeout=30) == 1
    assert ray.get(Actor.options(label_selector={"region": "us"}).remote().one.remote(), timeout=30) == 1
    unmet: list[dict[str, Any]] = [
        {"label_selector": {"region": "eu"}},
        {"scheduling_strategy": NodeLabelSchedulingStrategy({"region": NotIn("us")})},
    ]
    refs = [one.options(**options).remote() for options in unmet]
    with pytest.raises(GetTimeoutError):
        ray.get(refs[0], timeout=0.2)
    backend: Any = refs[0]._backend
    why = "it needs a machine with region=eu (this one has region=us, market=spot)"
    assert backend.explain(refs[0]._id) == f"one#7 can never start in this session: {why}."
    assert "region!=us" in backend.explain(refs[1]._id)
    assert "one#7 cannot start: it needs a machine with region=eu" in capfd.readouterr().err
    for ref in refs:
        ray.cancel(ref)
    ray.shutdown()


def test_labels_are_accepted_only_by_an_init_that_starts_a_session(start: Callable[..., Any]) -> None:
    address = start(num_cpus=1, labels={"a": "b"}).address_info["address"]
    assert start(num_cpus=1, labels={"a": "b"})
    with pytest.raises(RuntimeError, match="Maybe you called init twice"):
        start(num_cpus=1, labels={"a": "c"})
    ray.shutdown()
    with pytest.raises(ValueError, match="labels cannot be chosen any more"):
        ray.init(address=address, labels={"a": "b"})
    for labels, error in ((["a"], TypeError), ({"a": 1}, TypeError), ({"a b": "c"}, ValueError)):
        with pytest.raises(error):
            ray.init(labels=labels)  # type: ignore[arg-type]
    assert not ray.is_initialized()


def test_a_task_waits_for_a_missing_accelerator(start: Callable[..., Any]) -> None:
    start(num_cpus=1, resources={"accelerator_type:A100": 1})
    assert ray.get(one.options(accelerator_type="A100").remote(), timeout=30) == 1
    ref = one.options(accelerator_type="H100").remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.2)
    backend: Any = ref._backend
    assert "accelerator_type:H100 (the session has 0)" in backend.explain(ref._id)
    ray.cancel(ref)
    ray.shutdown()


def test_a_used_up_resource_is_missing_from_the_available_resources(cluster: Any) -> None:
    keeper = Actor.options(num_cpus=2).remote()
    assert ray.get(keeper.one.remote(), timeout=30) == 1
    assert "CPU" not in ray.available_resources()
    assert ray.cluster_resources()["CPU"] == 2.0
    ray.kill(keeper)
