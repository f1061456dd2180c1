"""Named actors on a cluster: lookups from a driver, a task and an actor; namespaces; detached actors; weak handles."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from ipyremote.session.recovery import recoverable
from ipyremote.util import list_named_actors
from tests.support import leaks
from tests.support.waiting import until


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def create(self, name: str, **options: Any) -> Any:
        return Counter.options(name=name, **options).remote()

    def names(self) -> list[str]:
        return list_named_actors()


def is_gone(name: str) -> bool:
    try:
        ray.get_actor(name)
    except ValueError:
        return True
    return False


def test_an_actor_is_found_by_its_name_from_anywhere(cluster: Any) -> None:
    counter = Counter.options(name="counter").remote(10)

    @ray.remote
    def bump() -> Any:
        return ray.get(ray.get_actor("counter").add.remote())

    @ray.remote
    class Caller:
        def bump(self) -> Any:
            return ray.get(ray.get_actor("counter").add.remote())

    assert ray.get(ray.get_actor("counter").add.remote()) == 11
    assert ray.get(bump.remote(), timeout=30) == 12
    assert ray.get(Caller.remote().bump.remote(), timeout=30) == 13
    assert ray.get_actor("counter") == counter
    assert repr(ray.get_actor("counter")) == repr(counter) == "Actor(Counter#1)"
    assert list_named_actors() == ["counter"]


def test_a_taken_actor_name_is_refused_where_the_actor_is_created(cluster: Any) -> None:
    first = Counter.options(name="a").remote()
    with pytest.raises(exceptions.ActorAlreadyExistsError, match="Please use a different name") as caught:
        Counter.options(name="a").remote()
    assert isinstance(caught.value, ValueError)
    ray.kill(first)
    until(lambda: is_gone("a"), "the name is free")
    second = Counter.options(name="a").remote(5)
    assert ray.get(second.add.remote(), timeout=30) == 6


def test_invalid_actor_names_are_refused(cluster: Any) -> None:
    with pytest.raises(TypeError):
        Counter.options(name=1)
    with pytest.raises(ValueError, match="not empty"):
        Counter.options(name="")
    with pytest.raises(ValueError, match="get_if_exists=True needs to know which one"):
        Counter.options(get_if_exists=True).remote()
    with pytest.raises(ValueError, match="Failed to look up actor with name 'nobody'"):
        ray.get_actor("nobody")
    with pytest.raises(ValueError, match="a name that is not empty"):
        ray.get_actor("")
    with pytest.raises(TypeError):
        ray.get_actor(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="namespace"):
        ray.get_actor("a", namespace="")
    with pytest.raises(TypeError):
        ray.get_actor("a", namespace=1)  # type: ignore[arg-type]


def test_get_if_exists_returns_the_existing_actor(cluster: Any) -> None:
    shared = Counter.options(name="shared", get_if_exists=True)
    first = shared.remote(100)
    assert ray.get(first.add.remote(), timeout=30) == 101
    assert shared.remote(0) == first
    assert ray.get(shared.remote(0).add.remote()) == 102
    assert ray.available_resources()["CPU"] == 2.0


def test_concurrent_tasks_with_get_if_exists_get_the_same_actor(cluster: Any) -> None:
    @ray.remote(num_cpus=0)
    def ask() -> Any:
        handle = Counter.options(name="one", get_if_exists=True, lifetime="detached").remote()
        return ray.get(handle.pid.remote())

    assert len(set(ray.get([ask.remote() for _ in range(10)], timeout=60))) == 1
    ray.kill(ray.get_actor("one"))


def test_concurrent_threads_with_get_if_exists_get_the_same_actor(cluster: Any) -> None:
    handles: list[Any] = []

    def ask() -> None:
        handles.append(Counter.options(name="one", get_if_exists=True).remote())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(handles)) == 1


def test_large_arguments_of_a_refused_actor_creation_are_released(cluster: Any) -> None:
    first = Counter.options(name="a").remote()
    for _ in range(5):
        Counter.options(name="a", get_if_exists=True).remote(b"x" * (1 << 20))
    backend: Any = first._backend
    until(lambda: backend.insight.status().stored_bytes == 0, "no object is stored")
    assert backend.insight.status().objects == 1


def test_a_handle_from_get_actor_does_not_keep_the_actor_alive(cluster: Any) -> None:
    strong = Counter.options(name="a").remote()
    weak = ray.get_actor("a")
    assert ray.get(weak.add.remote(), timeout=30) == 1
    del strong
    until(lambda: is_gone("a"), "the actor ended with its last strong handle")
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(weak.add.remote(), timeout=30)


def test_a_weak_handle_is_still_weak_in_another_process(cluster: Any) -> None:
    strong = Counter.options(name="a").remote()

    @ray.remote
    class Keeper:
        def keep(self, handles: list[Any]) -> Any:
            self.handle = handles[0]
            return ray.get(self.handle.add.remote())

    keeper = Keeper.remote()
    assert ray.get(keeper.keep.remote([ray.get_actor("a")]), timeout=30) == 1
    del strong
    until(lambda: is_gone("a"), "the keeper's handle does not count")


def test_a_detached_actor_lives_without_handles(cluster: Any) -> None:
    Counter.options(name="d", lifetime="detached").remote(1)
    assert ray.get(ray.get_actor("d").add.remote(), timeout=30) == 2

    @ray.remote
    def create() -> None:
        Counter.options(name="from a task", lifetime="detached").remote(7)

    ray.get(create.remote(), timeout=30)
    assert ray.get(ray.get_actor("from a task").add.remote(), timeout=30) == 8
    for name in list_named_actors():
        handle = ray.get_actor(name)
        ray.kill(handle)
        with pytest.raises(exceptions.ActorDiedError, match="killed by kill"):
            ray.get(handle.add.remote(), timeout=30)


def test_an_actor_that_is_not_detached_ends_with_its_last_handle(cluster: Any) -> None:
    @ray.remote
    def create() -> None:
        Counter.options(name="short", lifetime="non_detached").remote()

    ray.get(create.remote(), timeout=30)
    until(lambda: is_gone("short"), "the actor ended with the only handle, the task's")


def test_an_actor_dies_with_the_actor_that_created_it(cluster: Any) -> None:
    parent = Counter.remote()
    child = ray.get(parent.create.remote("child"), timeout=30)
    detached = ray.get(parent.create.remote("detached", lifetime="detached"), timeout=30)
    assert ray.get(child.add.remote(), timeout=30) == 1
    ray.kill(parent)
    until(lambda: is_gone("child"), "the child has died with its owner")
    with pytest.raises(exceptions.ActorDiedError, match="died with its owner"):
        ray.get(child.add.remote(), timeout=30)
    assert ray.get(detached.add.remote(), timeout=30) == 1
    ray.kill(detached)


def test_an_actor_dies_with_the_worker_whose_task_created_it(cluster: Any) -> None:
    @ray.remote(max_retries=0)
    def create() -> Any:
        return Counter.options(name="child").remote(), os.getpid()

    child, pid = ray.get(create.remote(), timeout=30)
    assert ray.get(child.add.remote(), timeout=30) == 1
    os.kill(pid, 9)
    until(lambda: is_gone("child"), "the child has died with its owner")


def test_actor_names_are_visible_only_in_their_namespace(start: Callable[..., Any]) -> None:
    start(num_cpus=2, namespace="mine")
    here = Counter.options(name="a").remote(1)
    there = Counter.options(name="a", namespace="other").remote(2)
    assert ray.get_actor("a") == here
    assert ray.get_actor("a", namespace="other") == there
    assert ray.get_actor("a", namespace="mine") == here
    assert list_named_actors() == ["a"]
    assert list_named_actors(all_namespaces=True) == [
        {"name": "a", "namespace": "mine"},
        {"name": "a", "namespace": "other"},
    ]
    assert ray.get(here.names.remote(), timeout=30) == ["a"]
    inner = ray.get(there.create.remote("inner"), timeout=30)
    assert ray.get_actor("inner") == inner
    assert inner._backend.named_actors.namespace == "mine"
    del inner
    ray.shutdown()


def test_an_invalid_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid namespace"):
        ray.init(namespace="")
    with pytest.raises(TypeError):
        ray.init(namespace=3)  # type: ignore[arg-type]
    assert not ray.is_initialized()


def test_a_session_cannot_be_reused_with_another_namespace(start: Callable[..., Any]) -> None:
    start(num_cpus=1, namespace="mine")
    assert start(num_cpus=1, namespace="mine")
    with pytest.raises(RuntimeError, match="Maybe you called init twice"):
        start(num_cpus=1, namespace="yours")


_KERNEL = """
import ipyremote as ray
ray.init(num_cpus=2, keep_alive=60, namespace="lab")

@ray.remote
class Model:
    def __init__(self):
        self.steps = 0
    def step(self):
        self.steps += 1
        return self.steps

def work():
    held = Model.options(name="held").remote()
    Model.options(name="free", lifetime="detached").remote()
    unnamed = Model.remote()
    assert ray.get([held.step.remote(), ray.get_actor("free").step.remote()], timeout=30) == [1, 1]
    return [held], unnamed

class Box: pass
box = Box()
box.content = work()
print("left", flush=True)
import os
os._exit(0)
"""


def test_named_actors_survive_the_end_of_the_kernel(tmp_path: Path) -> None:
    with leaks.leakless():
        out = subprocess.run(
            [sys.executable, "-c", _KERNEL], capture_output=True, text=True, timeout=60, cwd=Path.cwd()
        )
        assert out.stdout == "left\n", out.stderr
        ours = [found for found in recoverable() if "held" in found.names]
        assert [sorted(found.names) for found in ours] == [["free", "held"]]
        held = ray.recover("held", session=ours[0].key)
        try:
            assert ray.get(held.step.remote(), timeout=30) == 2
            assert ray.get_actor("held") == held
            assert ray.get(ray.get_actor("free").step.remote(), timeout=30) == 2
            assert list_named_actors(all_namespaces=True) == [
                {"name": "free", "namespace": "lab"},
                {"name": "held", "namespace": "lab"},
            ]
            assert ray.recover("free") == ray.get_actor("free")
        finally:
            ray.shutdown()


_JOINED = """
import sys
import ipyremote as ray
from ipyremote.util import list_named_actors
ray.init(address=sys.argv[1], **({"namespace": sys.argv[2]} if len(sys.argv) > 2 else {}))

@ray.remote
class Own:
    def m(self):
        return "own"

own = Own.options(name="own").remote()
Own.options(name="left", lifetime="detached", namespace="mine").remote()
print(list_named_actors(), ray.get(ray.get_actor("a", namespace="mine").add.remote()), ray.get(own.m.remote()))
keeper = ray.get_actor("keeper", namespace="mine")
ray.get(keeper.keep.remote([own]))
ray.shutdown()
"""


@pytest.mark.parametrize("given", ["", "mine"])
def test_another_program_finds_named_actors_and_leaves_only_detached_actors(
    start: Callable[..., Any], given: str
) -> None:
    @ray.remote
    class Keeper:
        def keep(self, handles: list[Any]) -> None:
            self.handles = handles

        def ask(self) -> Any:
            return ray.get(self.handles[0].m.remote())

    address = start(num_cpus=2, namespace="mine").address_info["address"]
    first = Counter.options(name="a").remote(1)
    keeper = Keeper.options(name="keeper").remote()
    ray.get(first.add.remote(), timeout=30)
    arguments = [address, given] if given else [address]
    out = subprocess.run(
        [sys.executable, "-c", _JOINED, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path.cwd(),
    )
    names = ["a", "keeper", "left", "own"] if given else ["own"]
    assert out.stdout == f"{names} 3 own\n", out.stderr
    until(
        lambda: list_named_actors() == ["a", "keeper", "left"],
        "the actor of the program ended with the program",
    )
    with pytest.raises(exceptions.ActorDiedError, match="the driver that it belonged to has left"):
        ray.get(keeper.ask.remote(), timeout=30)
    assert ray.get(ray.get_actor("left").m.remote(), timeout=30) == "own"
    ray.shutdown()
