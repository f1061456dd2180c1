"""`get_runtime_context()` in the driver, in tasks and in actors, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

import ipyremote as ray
from ipyremote.runtime_context import RuntimeContext


def facts() -> dict[str, Any]:
    """Return the facts that the calling code learns about itself."""
    context = ray.get_runtime_context()
    try:
        resources: Any = context.get_assigned_resources()
    except RuntimeError as error:
        resources = str(error)
    return {
        "job": context.get_job_id(),
        "node": context.get_node_id(),
        "worker": context.get_worker_id(),
        "task": context.get_task_id(),
        "task_name": context.get_task_name(),
        "function": context.get_task_function_name(),
        "actor": context.get_actor_id(),
        "actor_name": context.get_actor_name(),
        "resources": resources,
        "gpus": context.get_accelerator_ids(),
        "group": context.get_placement_group_id(),
        "session": context.get_session_name(),
        "get": context.get(),
    }


def test_a_driver_has_no_task_id_and_no_actor_id() -> None:
    own = facts()
    assert [None] * 5 == [own[name] for name in ("task", "task_name", "function", "actor", "actor_name")]
    assert own["resources"] == "Resources are assigned to tasks and actors, and this is a driver."
    assert own["gpus"] == {"GPU": []}
    assert own["group"] is None
    assert own["get"] == {"job_id": own["job"], "node_id": own["node"]}
    assert own["node"] == ray.nodes()[0]["NodeID"]
    context = ray.get_runtime_context()
    assert isinstance(context, RuntimeContext)
    for ask in (
        context.is_canceled,
        lambda: context.current_actor,
        lambda: context.was_current_actor_reconstructed,
    ):
        with pytest.raises(RuntimeError):
            ask()


def test_a_task_learns_its_own_ids_and_resources_and_its_drivers_job() -> None:
    @ray.remote(num_cpus=0.5, resources={"widget": 2})
    def asks() -> Any:
        return facts()

    own = facts()
    ref = asks.remote()
    there = ray.get(ref)
    assert there["task"] == ref.task_id().hex()
    assert there["task_name"] == "asks"
    assert there["function"].rpartition(".")[2] == "asks"
    assert there["actor"] is None
    assert there["resources"] == {"CPU": 0.5, "widget": 2.0}
    assert [own[name] for name in ("job", "node", "session")] == [
        there[name] for name in ("job", "node", "session")
    ]
    assert ray.get(asks.options(name="named").remote())["task_name"] == "named"


@pytest.mark.needs("named_actors")
def test_a_task_has_its_drivers_namespace() -> None:
    @ray.remote
    def asks() -> Any:
        return ray.get_runtime_context().namespace

    assert ray.get(asks.remote()) == ray.get_runtime_context().namespace


def test_a_child_of_a_task_belongs_to_the_same_job() -> None:
    @ray.remote
    def inner() -> Any:
        return facts()

    @ray.remote
    def outer() -> Any:
        return facts(), ray.get(inner.remote())

    own, child = ray.get(outer.remote())
    assert own["job"] == child["job"] == facts()["job"]
    assert own["task"] != child["task"]


def test_an_actor_learns_its_id_and_its_lifetime_resources() -> None:
    @ray.remote(num_cpus=1)
    class Asks:
        def ask(self) -> Any:
            context = ray.get_runtime_context()
            return facts(), context.was_current_actor_reconstructed, context.is_canceled()

        def itself(self) -> Any:
            return ray.get_runtime_context().current_actor

    plain = Asks.remote()
    (own, restarted, cancelled), (other, _, _) = ray.get([plain.ask.remote(), Asks.remote().ask.remote()])
    assert (restarted, cancelled) == (False, False)
    assert own["actor"] != other["actor"]
    assert (own["actor_name"], other["actor_name"]) == ("", "")
    assert own["resources"] == {"CPU": 1.0}
    assert own["task_name"] == "Asks.ask"
    assert own["function"].endswith("Asks.ask")
    assert own["get"]["actor_id"] == own["actor"]
    assert ray.get(plain.itself.remote()) == plain


def test_an_actor_with_concurrency_groups_has_a_handle_of_itself() -> None:
    @ray.remote(concurrency_groups={"io": 2}, max_pending_calls=7)
    class Grouped:
        @ray.method(concurrency_group="io")
        def itself(self) -> Any:
            return ray.get_runtime_context().current_actor

        def number(self) -> int:
            return 3

    actor = Grouped.remote()
    handle = ray.get(actor.itself.remote(), timeout=30)
    assert handle == actor
    assert ray.get(handle.number.options(concurrency_group="io").remote(), timeout=30) == 3
    assert handle._pending is not None, "the limit on pending calls is the handle's, too"


@pytest.mark.needs("named_actors")
def test_an_actor_learns_its_name() -> None:
    @ray.remote(num_cpus=1)
    class Asks:
        def ask(self) -> Any:
            return facts()

    plain, named = Asks.remote(), Asks.options(name="asked").remote()
    own, other = ray.get([plain.ask.remote(), named.ask.remote()])
    assert own["actor"] != other["actor"]
    assert (own["actor_name"], other["actor_name"]) == ("", "asked")


def test_the_init_of_an_actor_learns_the_actors_id() -> None:
    @ray.remote
    class Asks:
        def __init__(self) -> None:
            self.seen = ray.get_runtime_context().get_actor_id()

        def ask(self) -> Any:
            return self.seen, ray.get_runtime_context().get_actor_id()

    seen, later = ray.get(Asks.remote().ask.remote())
    assert seen == later is not None


def test_a_task_with_a_gpu_learns_the_index_of_the_gpu() -> None:
    @ray.remote(num_gpus=1)
    def asks() -> Any:
        return ray.get_runtime_context().get_accelerator_ids(), ray.get_gpu_ids()

    accelerators, indices = ray.get(asks.remote())
    assert accelerators == {"GPU": [str(index) for index in indices]}
