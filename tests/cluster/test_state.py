"""`ipyremote.util.state` on a real cluster: tasks, actors, objects and workers as tables."""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ipyremote as ray
from ipyremote import exceptions
from ipyremote.util import state
from tests.support.waiting import until


@ray.remote
def square(number: int) -> int:
    return number * number


@ray.remote
def fail() -> None:
    raise ValueError("no luck")


@ray.remote
def hang(log: Path) -> None:
    log.write_text(str(os.getpid()))
    time.sleep(1000)


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count

    def pid(self) -> int:
        return os.getpid()


def running(log: Path) -> Any:
    """Return the ref of a running task."""
    ref = hang.remote(log)
    until(lambda: log.exists() and log.read_text() != "", "the task runs")
    return ref


@pytest.mark.usefixtures("cluster")
def test_get_task_finds_a_task_by_its_ref_with_all_details() -> None:
    before = time.time()
    ref = square.options(name="nine").remote(3)
    assert ray.get(ref, timeout=30) == 9
    task: Any = state.get_task(ref)
    assert isinstance(task, state.TaskState)
    assert (task.task_id, task.attempt_number) == (ref.task_id().hex(), 0)
    assert (task.name, task.func_or_class_name, task.label) == ("nine", "square", "nine#1")
    assert (task.state, task.type, task.error_type) == ("FINISHED", "NORMAL_TASK", None)
    assert task.job_id == ray.get_runtime_context().get_job_id()
    assert task.node_id == ray.get_runtime_context().get_node_id()
    assert task.required_resources == {"CPU": 1.0}
    assert task.worker_pid in {worker.pid for worker in state.list_workers()}
    assert before * 1000 - 1 <= task.creation_time_ms <= task.start_time_ms <= task.end_time_ms
    assert task.end_time_ms <= time.time() * 1000 + 1
    assert state.get_task(task.task_id)["state"] == "FINISHED"  # type: ignore[call-overload, index]  # one attempt
    assert state.get_task("f" * 48) is None


@pytest.mark.usefixtures("cluster")
def test_a_failed_task_has_its_traceback_as_a_detail() -> None:
    ref = fail.remote()
    ray.wait([ref], timeout=30)
    (task,) = state.list_tasks(filters=[("name", "=", "fail")])
    assert (task.state, task.error_type) == ("FAILED", "TASK_EXECUTION_EXCEPTION")
    with pytest.raises(AttributeError, match="detail=True"):
        task.error_message
    assert task.get("error_message") is None
    (detailed,) = state.list_tasks(filters=[("name", "=", "fail")], detail=True)
    assert 'raise ValueError("no luck")' in detailed["error_message"]


@pytest.mark.usefixtures("cluster")
def test_task_states_have_the_names_of_rays_states(tmp_path: Path) -> None:
    @ray.remote
    def waits(refs: list[Any]) -> None:
        ray.get(refs[0])

    ref = running(tmp_path / "hangs")
    waiting = waits.remote([ref])
    until(
        lambda: (
            [task.state for task in state.list_tasks(filters=[("name", "=", "waits")])]
            == ["RUNNING_IN_RAY_GET"]
        ),
        "it waits in get",
    )
    needs = square.remote(ref)
    wide = square.options(num_cpus=2, name="wide").remote(1)
    found = {task.name: task.state for task in state.list_tasks()}
    assert found == {
        "hang": "RUNNING",
        "waits": "RUNNING_IN_RAY_GET",
        "square": "PENDING_ARGS_AVAIL",
        "wide": "PENDING_NODE_ASSIGNMENT",
    }
    ray.cancel(ref, force=True)
    for one in (waiting, needs):
        with pytest.raises((exceptions.TaskCancelledError, exceptions.WorkerCrashedError)):
            ray.get(one, timeout=30)
    assert ray.get(wide, timeout=30) == 1
    assert {task.error_type for task in state.list_tasks(filters=[("name", "=", "hang")])} == {
        "TASK_CANCELLED"
    }


@pytest.mark.usefixtures("cluster")
def test_each_attempt_of_a_task_is_listed(tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def once(log: Path) -> str:
        if not log.exists():
            log.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    ref = once.remote(tmp_path / "log")
    assert ray.get(ref, timeout=30) == "done"
    attempts: Any = state.get_task(ref)
    assert [(1, "FINISHED", None), (0, "FAILED", "WORKER_DIED")] == [
        (task.attempt_number, task.state, task.error_type) for task in attempts
    ]
    assert "SIGKILL" in attempts[1].error_message
    dead = state.list_workers(filters=[("is_alive", "=", False)], detail=True)
    assert [("SYSTEM_ERROR", attempts[1].worker_pid)] == [(worker.exit_type, worker.pid) for worker in dead]
    assert "SIGKILL" in dead[0]["exit_detail"]


@pytest.mark.usefixtures("cluster")
def test_a_task_record_has_its_parent_task() -> None:
    @ray.remote
    def outer() -> int:
        return ray.get(square.remote(4))

    ref = outer.remote()
    assert ray.get(ref, timeout=30) == 16
    (child,) = state.list_tasks(filters=[("parent_task_id", "=", ref.task_id().hex())])
    assert child.name == "square"
    assert state.list_tasks(filters=[("name", "=", "outer")])[0].parent_task_id is None


@pytest.mark.usefixtures("cluster")
def test_actors_are_listed_dead_or_alive() -> None:
    counter = Counter.options(name="mine").remote()
    pid = ray.get(counter.pid.remote(), timeout=30)
    (actor,) = state.list_actors()
    assert (actor.class_name, actor.state, actor.name, actor.pid) == ("Counter", "ALIVE", "mine", pid)
    assert actor.ray_namespace == ray.get_runtime_context().namespace
    (call,) = state.list_tasks(filters=[("type", "=", "ACTOR_TASK")])
    assert (call.actor_id, call.func_or_class_name) == (actor.actor_id, "Counter.pid")
    ray.kill(counter)
    until(lambda: state.list_actors()[0].state == "DEAD", "the actor is dead")
    dead: Any = state.get_actor(actor.actor_id)
    assert "killed" in dead.death_cause["error_message"]
    del counter
    # The last handle of the actor is gone, but its record is kept.
    assert state.get_actor(actor.actor_id).state == "DEAD"  # type: ignore[union-attr]
    assert state.get_actor("0" * 56) is None


@pytest.mark.usefixtures("cluster")
def test_objects_are_listed_with_their_sizes() -> None:
    large = ray.put(np.zeros(1 << 17))
    (found,) = state.get_objects(large.hex())
    assert found.object_size >= 1 << 20
    assert (found.type, found.pid, found.task_status) == ("DRIVER", os.getpid(), "FINISHED")
    assert found.reference_type == "LOCAL_REFERENCE"
    holder = ray.put([large])
    (found,) = state.get_objects(large.hex())
    assert found.reference_type == "CAPTURED_IN_OBJECT"
    assert [holder.hex()] == [
        one.object_id for one in state.list_objects(filters=[("reference_type", "=", "local_reference")])
    ]
    del holder, large


@pytest.mark.usefixtures("cluster")
def test_workers_nodes_and_the_job_are_listed() -> None:
    assert ray.get(square.remote(2), timeout=30) == 4
    drivers = state.list_workers(filters=[("worker_type", "=", "DRIVER")])
    assert [os.getpid()] == [worker.pid for worker in drivers]
    assert drivers[0].worker_id == ray.get_runtime_context().get_worker_id()
    worker = state.list_workers(filters=[("worker_type", "=", "WORKER")])[0]
    assert state.get_worker(worker.worker_id).pid == worker.pid  # type: ignore[union-attr]
    (node,) = state.list_nodes()
    assert (node.node_id, node.state) == (ray.nodes()[0]["NodeID"], "ALIVE")
    assert node.resources_total["CPU"] == 2.0
    assert state.get_node(node.node_id) is not None
    assert state.list_nodes(filters=[("state", "=", "DEAD")]) == []
    (job,) = state.list_jobs()
    assert (job.job_id, job.status, job.driver_info["pid"]) == (
        ray.get_runtime_context().get_job_id(),
        "RUNNING",
        os.getpid(),
    )
    assert state.get_job("ffffffff") is None
    assert state.list_tasks(filters=[("job_id", "!=", job.job_id)]) == []
    assert len(state.list_tasks(filters=[("job_id", "=", job.job_id)])) == 1


@pytest.mark.usefixtures("cluster")
def test_placement_groups_are_listed_with_their_bundles() -> None:
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], name="pair")
    assert group.wait(30)
    (found,) = state.list_placement_groups()
    assert (found.placement_group_id, found.name, found.state) == (group.id.hex(), "pair", "CREATED")
    detailed: Any = state.get_placement_group(group.id.hex())
    assert [bundle["resources"] for bundle in detailed.bundles] == [{"CPU": 1.0}, {"CPU": 1.0}]
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
    counter = Counter.options(scheduling_strategy=strategy, num_cpus=1).remote()
    refs = [counter.add.remote(1), square.options(scheduling_strategy=strategy).remote(3)]
    assert ray.get(refs, timeout=30) == [1, 9]
    inside = [("placement_group_id", "=", group.id.hex())]
    names = {task.name for task in state.list_tasks(filters=inside)}
    # `ready()` of the group submits a task, which must be waited for.
    assert names == {"square", "Counter", "ready"}
    assert [actor.class_name for actor in state.list_actors(filters=inside)] == ["Counter"]
    (task,) = state.list_tasks(filters=[*inside, ("name", "=", "square")], detail=True)
    assert (task["placement_group_id"], task["required_resources"]) == (group.id.hex(), {"CPU": 1.0})
    ray.util.remove_placement_group(group)
    until(
        lambda: state.list_placement_groups(filters=[("state", "=", "REMOVED")]) != [], "the group is removed"
    )
    assert state.get_placement_group("no such") is None
    del counter


@pytest.mark.usefixtures("cluster")
def test_a_list_of_records_converts_to_a_data_frame_and_a_record_to_a_dict() -> None:
    assert ray.get([square.remote(number) for number in range(3)], timeout=30) == [0, 1, 4]
    records = state.list_tasks()
    frame = pd.DataFrame(records)
    assert list(frame.columns) == [field.name for field in dataclasses.fields(state.TaskState)]
    assert list(frame["state"]) == ["FINISHED"] * 3
    assert not frame.drop(columns=["actor_id", "parent_task_id", "error_type"]).isna().any().any()
    detailed = pd.DataFrame(state.list_tasks(detail=True))
    assert {"required_resources", "error_message"} <= set(detailed.columns)
    assert dict(records[0]) == records[0].asdict() == dataclasses.asdict(records[0])
    assert "state" in records[0]
    assert "colour" not in records[0]
    with pytest.raises(KeyError, match="colour"):
        records[0]["colour"]


@pytest.mark.usefixtures("cluster")
def test_summaries_have_the_form_of_rays_summaries() -> None:
    counter = Counter.remote()
    assert ray.get([counter.add.remote(1), square.remote(2)], timeout=30) == [1, 4]
    ref = ray.put(np.zeros(1 << 17))
    cluster = state.summarize_tasks()["cluster"]
    assert (cluster["total_tasks"], cluster["total_actor_tasks"], cluster["total_actor_scheduled"]) == (
        1,
        1,
        1,
    )
    assert cluster["summary"]["square"] == {
        "func_or_class_name": "square",
        "type": "NORMAL_TASK",
        "state_counts": {"FINISHED": 1},
    }
    actors = state.summarize_actors()["cluster"]
    assert actors["summary"] == {"Counter": {"class_name": "Counter", "state_counts": {"ALIVE": 1}}}
    objects = state.summarize_objects()["cluster"]
    assert objects["summary"]["put"]["ref_type_counts"] == {"LOCAL_REFERENCE": 1}
    assert 1.0 <= objects["total_size_mb"] < 1.2
    del ref, counter


@pytest.mark.usefixtures("cluster")
def test_a_warning_counts_the_records_beyond_the_limit() -> None:
    refs = [square.remote(number) for number in range(120)]
    ray.get(refs, timeout=30)
    with pytest.warns(UserWarning, match="100 of 120 tasks are listed") as caught:
        assert len(state.list_tasks()) == 100
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(state.list_tasks(limit=120)) == 120
        assert len(state.list_tasks(limit=10_000, filters=[("state", "=", "finished")])) == 120


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"filters": [("stat", "=", "FAILED")]}, ValueError, "'stat'.*state"),
        ({"filters": [("state", "<", "FAILED")]}, ValueError, "operator"),
        ({"filters": [("state", "FAILED")]}, ValueError, "triple"),
        ({"filters": "state=FAILED"}, TypeError, "list of"),
        ({"filters": [("state", "=", None)]}, TypeError, "value of a filter"),
        ({"filters": [("worker_pid", "=", "many")]}, ValueError, "whole numbers"),
        ({"limit": -1}, ValueError, "limit"),
        ({"limit": 10_001}, ValueError, "10,000"),
        ({"limit": 1.5}, TypeError, "limit"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": "long"}, TypeError, "timeout"),
        ({"address": "ray://elsewhere"}, ValueError, "running session"),
    ],
)
def test_a_wrong_state_query_is_refused(wrong: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        state.list_tasks(**wrong)


@pytest.mark.usefixtures("cluster")
def test_invalid_ids_are_refused_and_unknown_ids_give_none() -> None:
    with pytest.raises(TypeError, match="hexadecimal"):
        state.get_task(17)  # type: ignore[arg-type]
    assert state.get_task("no digits") is None
    assert state.list_workers(filters=[("worker_type", "=", "GHOST")]) == []
    with pytest.raises(ValueError, match="True or False"):
        state.list_workers(filters=[("is_alive", "=", "perhaps")])


def test_state_queries_need_a_session_with_processes(start: Callable[..., Any]) -> None:
    with pytest.raises(exceptions.IPyRemoteSystemError, match=r"ipyremote\.init"):
        state.list_tasks()
    start(backend="inline")
    with pytest.raises(NotImplementedError, match="inline"):
        state.list_tasks()


@pytest.mark.usefixtures("cluster")
def test_tasks_and_actors_can_query_the_state() -> None:
    @ray.remote
    def asks() -> list[str]:
        return [task.name for task in state.list_tasks(filters=[("state", "=", "RUNNING")])]

    @ray.remote
    class Asks:
        def ask(self) -> list[str]:
            return [actor.class_name for actor in state.list_actors(address="auto")]

    assert ray.get(asks.remote(), timeout=30) == ["asks"]
    actor = Asks.remote()
    assert ray.get(actor.ask.remote(), timeout=30) == ["Asks"]
    del actor


@pytest.mark.usefixtures("cluster")
def test_a_filter_searches_all_of_many_tasks() -> None:
    gate = square.options(resources={"never": 1}).remote(0)
    refs = [square.options(name=f"n{number % 10}").remote(gate) for number in range(20_000)]
    start = time.monotonic()
    with pytest.warns(UserWarning, match="100 of 2,000"):
        found = state.list_tasks(filters=[("name", "=", "n7"), ("state", "=", "PENDING_ARGS_AVAIL")])
    assert {task.name for task in found} == {"n7"}
    counts = state.summarize_tasks()["cluster"]["summary"]
    assert counts["n3"]["state_counts"] == {"PENDING_ARGS_AVAIL": 2_000}
    assert time.monotonic() - start < 20
    ray.cancel(gate)
    ray.wait(refs, num_returns=len(refs), timeout=60)


def test_the_docstrings_of_the_functions_describe_each_argument() -> None:
    for name in (name for name in state.__all__ if "_" in name):
        assert "\ntimeout : float" in (inspect.getdoc(getattr(state, name)) or "")
