"""Actors on every engine: calls, handles, failures, ends."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import (
    ActorAlreadyExistsError,
    ActorClassInheritanceException,
    ActorDiedError,
    ActorError,
)


def _counter() -> Any:
    @ray.remote
    class Counter:
        step = 1

        def __init__(self, start: int = 0) -> None:
            self.value = start

        def increment(self, by: int = 1) -> int:
            self.value += by
            return self.value

        def fail(self) -> None:
            raise KeyError("inside")

        @ray.method(num_returns=2)
        def both(self) -> tuple[int, int]:
            return self.value, -self.value

        @staticmethod
        def fixed() -> str:
            return "static"

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        def __call__(self, x: int) -> int:
            return self.value + x

        def copy(self) -> Any:
            return Counter.remote(self.value)

        def take(self, value: Any) -> Any:
            return value

    return Counter


def test_an_actor_keeps_its_state_and_the_order_of_calls() -> None:
    counter = _counter().remote(10)
    assert ray.get([counter.increment.remote() for _ in range(3)]) == [11, 12, 13]


def test_methods_of_every_kind_can_be_called() -> None:
    counter = _counter().remote(4)
    assert ray.get(counter.both.remote()) == [4, -4]
    assert ray.get(counter.fixed.remote()) == "static"
    assert ray.get(counter.named.remote()) == "Counter"
    assert ray.get(counter.__call__.remote(3)) == 7
    assert ray.get(counter.both.options(num_returns=1).remote()) == (4, -4)


def test_labels_of_actors_are_the_class_name_with_a_number() -> None:
    @ray.remote
    class LabelledActor:
        def m(self) -> None: ...

    handle = LabelledActor.remote()
    assert repr(handle) == "Actor(LabelledActor#1)"
    assert repr(handle.m.remote()) == "ObjectRef(LabelledActor.m#1)"


def test_an_actor_created_and_called_in_one_line_works() -> None:
    assert ray.get(_counter().remote(1).increment.remote()) == 2


def test_a_class_whose_method_names_the_class_works() -> None:
    counter = _counter().remote(5)
    copy = ray.get(counter.copy.remote())
    assert ray.get(copy.increment.remote()) == 6
    assert ray.get(counter.increment.remote(0)) == 5


def test_a_handle_can_be_passed_to_tasks_and_stored() -> None:
    @ray.remote
    def bump(handles: list[Any]) -> Any:
        return ray.get(handles[0].increment.remote())

    counter = _counter().remote()
    assert ray.get([bump.remote([counter]), bump.remote([counter])]) in ([1, 2], [2, 1])
    stored = ray.get(ray.put(counter))
    assert stored == counter
    assert hash(stored) == hash(counter)
    assert ray.get(stored.increment.remote()) == 3


def test_an_error_in_a_method_leaves_the_actor_alive() -> None:
    counter = _counter().remote()
    with pytest.raises(KeyError, match="inside"):
        ray.get(counter.fail.remote())
    assert ray.get(counter.increment.remote()) == 1


def test_an_unknown_method_is_an_attribute_error_at_the_caller() -> None:
    counter = _counter().remote()
    with pytest.raises(AttributeError, match="'Counter' actor has no method 'decrement'"):
        counter.decrement
    assert "increment" in dir(counter)


def test_a_wrong_call_is_refused_at_the_caller() -> None:
    counter_class = _counter()
    with pytest.raises(
        TypeError, match=r"__init__\(\) takes from 1 to 2 positional arguments but 3 were given"
    ):
        counter_class.remote(1, 2)
    counter = counter_class.remote()
    with pytest.raises(TypeError, match="unexpected keyword argument 'up'"):
        counter.increment.remote(up=1)
    with pytest.raises(TypeError, match="cannot be called directly"):
        counter.increment()
    with pytest.raises(TypeError, match=r"Instead of 'Counter\(\)', use 'Counter\.remote\(\)'"):
        counter_class()


def test_an_actor_class_cannot_be_inherited_from() -> None:
    base = _counter()
    with pytest.raises(ActorClassInheritanceException, match="Counter"):

        class Sub(base):  # type: ignore[misc, valid-type]
            pass


def test_constants_of_an_actor_class_can_be_read() -> None:
    assert _counter().step == 1


def test_a_failing_init_makes_every_call_raise_with_its_traceback() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no start")

        def m(self) -> None: ...

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match="no start"):
            ray.get(broken.m.remote())


def test_ray_ready_of_an_actor_gives_true() -> None:
    counter = _counter().remote()
    assert ray.get(counter.__ray_ready__.remote(), timeout=30) is True


def test_a_function_can_be_called_on_the_instance() -> None:
    counter = _counter().remote(3)

    def peek(self: Any, plus: int) -> Any:
        return self.value + plus

    assert ray.get(counter.__ray_call__.remote(peek, 4)) == 7


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_calls_after_the_end_raise(end: str) -> None:
    counter = _counter().remote()
    ray.get(counter.increment.remote())
    if end == "kill":
        ray.kill(counter)
    else:
        counter.__ray_terminate__.remote()
    deadline = time.monotonic() + 30
    with contextlib.suppress(ActorError):
        while time.monotonic() < deadline:
            ray.get(counter.increment.remote())
    with pytest.raises(ActorDiedError):
        ray.get(counter.increment.remote())


def test_a_killed_actor_with_restarts_starts_again() -> None:
    counter = _counter().options(max_restarts=1, max_task_retries=3).remote(7)
    assert ray.get(counter.increment.remote()) == 8
    ray.kill(counter, no_restart=False)
    assert ray.get(counter.increment.remote()) == 8


def test_arguments_of_an_actors_creation_may_be_refs() -> None:
    assert ray.get(_counter().remote(ray.put(5)).increment.remote()) == 6


def test_forced_cancelling_of_a_method_is_refused() -> None:
    ref = _counter().remote().increment.remote()
    with pytest.raises(ValueError, match="kill"):
        ray.cancel(ref, force=True)


def test_idle_actors_need_no_cpu() -> None:
    counters = [_counter().remote(i) for i in range(4)]
    assert ray.get([counter.increment.remote() for counter in counters]) == [1, 2, 3, 4]


def test_methods_of_an_async_actor_are_awaited() -> None:
    import asyncio

    @ray.remote
    class Later:
        def __init__(self) -> None:
            self.lock = asyncio.Lock()

        async def add(self, ref: list[Any]) -> Any:
            async with self.lock:
                await asyncio.sleep(0)
                return await ref[0] + 1

        async def fail(self) -> None:
            raise KeyError("inside")

    later = Later.remote()
    assert ray.get([later.add.remote([ray.put(1)]), later.add.remote([ray.put(2)])]) == [2, 3]
    with pytest.raises(KeyError, match="inside") as caught:
        ray.get(later.fail.remote())
    assert [frame.function for frame in caught.value.frames] == ["fail"]


@pytest.mark.needs("named_actors")
def test_named_actors_are_found_refused_and_listed() -> None:
    from ipyremote.util import list_named_actors

    counter_class = _counter()
    counter = counter_class.options(name="named").remote(1)
    assert ray.get(ray.get_actor("named").increment.remote()) == 2
    assert counter_class.options(name="named", get_if_exists=True).remote(9) == counter
    with pytest.raises(ActorAlreadyExistsError, match="Please use a different name"):
        counter_class.options(name="named").remote()
    other = counter_class.options(name="named", namespace="other").remote(5)
    assert ray.get_actor("named", namespace="other") == other
    assert "named" in list_named_actors()
    assert {"name": "named", "namespace": "other"} in list_named_actors(all_namespaces=True)
    ray.kill(counter)
    with pytest.raises(ValueError, match="Failed to look up actor with name 'named'"):
        ray.get_actor("named")


@pytest.mark.needs("named_actors")
def test_a_detached_actor_needs_no_handle() -> None:
    _counter().options(name="detached", lifetime="detached").remote(1)
    assert ray.get(ray.get_actor("detached").increment.remote()) == 2
    ray.kill(ray.get_actor("detached"))


def test_only_an_actor_can_leave_by_exit_actor() -> None:
    from ipyremote.actor import exit_actor
    from ipyremote.backend.current_task import current_actor

    @ray.remote
    class Leaving:
        def leave(self) -> None:
            exit_actor()

        def me(self) -> Any:
            return current_actor()

    @ray.remote
    def task() -> None:
        exit_actor()

    leaving = Leaving.remote()
    assert ray.get(leaving.me.remote()) == leaving
    for ref in (leaving.leave.remote(), leaving.me.remote()):
        with pytest.raises(ActorDiedError, match="exit_actor"):
            ray.get(ref)
    with pytest.raises(TypeError, match="is for methods of actors"):
        ray.get(task.remote())
    with pytest.raises(TypeError, match="is for methods of actors"):
        exit_actor()


def test_groups_and_limits_are_accepted_and_checked() -> None:
    @ray.remote(concurrency_groups={"io": 2}, max_pending_calls=100)
    class Grouped:
        @ray.method(concurrency_group="io")
        def m(self) -> str:
            return "in a group"

        def n(self) -> str:
            return "in none"

    grouped = Grouped.remote()
    assert ray.get([grouped.m.remote(), grouped.n.remote()]) == ["in a group", "in none"]
    assert ray.get(grouped.n.options(concurrency_group="io").remote()) == "in none"
    with pytest.raises(ValueError, match="'oi'"):
        grouped.n.options(concurrency_group="oi")
