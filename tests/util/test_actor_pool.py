"""`ActorPool`, as in Ray: order, timeouts, idle actors, dead actors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import ActorDiedError
from ipyremote.util import ActorPool
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Worker:
    def double(self, value: int) -> int:
        return 2 * value

    @ray.method(num_returns=2)
    def pair(self, value: int) -> tuple[int, int]:
        return value, value + 1

    def after(self, path: Path, value: int) -> int:
        until(path.exists, f"{path} exists")
        return value

    def fail(self, value: int) -> None:
        raise ValueError(value)

    def die(self) -> None:
        os._exit(1)


@pytest.fixture
def pool() -> ActorPool:
    return ActorPool([Worker.remote(), Worker.remote()])


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def test_map_keeps_the_order_of_its_items(pool: ActorPool) -> None:
    assert [2 * i for i in range(20)] == list(pool.map(double, range(20)))
    assert pool.has_free()


def test_map_unordered_yields_results_in_order_of_completion(pool: ActorPool, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def call(actor: Any, value: int) -> Any:
        return actor.after.remote(go, value) if value == 0 else actor.double.remote(value)

    values = pool.map_unordered(call, range(5))
    assert [2, 4, 6, 8] == [next(values) for _ in range(4)]
    go.touch()
    assert [0] == list(values)


def test_get_next_returns_results_one_by_one(pool: ActorPool) -> None:
    assert not pool.has_next()
    for value in range(3):
        pool.submit(double, value)
    assert not pool.has_free()
    assert [0, 2, 4] == [pool.get_next() for _ in range(3)]
    assert not pool.has_next()
    with pytest.raises(StopIteration, match="No more results"):
        pool.get_next()
    with pytest.raises(StopIteration, match="No more results"):
        pool.get_next_unordered()


def test_get_next_is_refused_after_an_unordered_result(pool: ActorPool, tmp_path: Path) -> None:
    pool.submit(lambda actor, value: actor.after.remote(tmp_path / "go", value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    with pytest.raises(ValueError, match="not allowed to call get_next"):
        pool.get_next()
    (tmp_path / "go").touch()
    assert pool.get_next_unordered() == 1


@pytest.mark.parametrize("ask", ["get_next", "get_next_unordered"])
def test_a_late_result_is_kept_or_given_up(pool: ActorPool, tmp_path: Path, ask: str) -> None:
    pool.submit(lambda actor, value: actor.after.remote(tmp_path / "go", value), 1)
    with pytest.raises(TimeoutError, match="Timed out"):
        getattr(pool, ask)(timeout=0.01)
    assert pool.has_next()
    with pytest.raises(TimeoutError, match="has been ignored"):
        getattr(pool, ask)(timeout=0.01, ignore_if_timedout=True)
    assert not pool.has_next()
    assert pool.has_free()
    (tmp_path / "go").touch()


def test_map_discards_results_of_earlier_submissions(pool: ActorPool, tmp_path: Path) -> None:
    pool.submit(lambda actor, value: actor.fail.remote(value), 1)
    pool.submit(lambda actor, value: actor.after.remote(tmp_path / "go", value), 1)
    pool.submit(double, 100)
    (tmp_path / "go").touch()
    assert [2, 4] == list(pool.map(double, [1, 2]))
    assert [2, 4] == sorted(pool.map_unordered(double, [1, 2]))


def test_the_failure_of_a_call_is_raised_and_its_actor_continues(pool: ActorPool) -> None:
    pool.submit(lambda actor, value: actor.fail.remote(value), 1)
    pool.submit(double, 1)
    pool.submit(double, 2)
    with pytest.raises(ValueError, match="1"):
        pool.get_next()
    assert [2, 4] == [pool.get_next(), pool.get_next()]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_a_method_in_a_pool_can_have_several_returns(pool: ActorPool) -> None:
    pairs = pool.map(lambda actor, value: actor.pair.remote(value), range(3))
    assert [[0, 1], [1, 2], [2, 3]] == list(pairs)
    assert [[0, 1], [1, 2]] == sorted(
        pool.map_unordered(lambda actor, value: actor.pair.remote(value), range(2))
    )


def test_actors_can_be_taken_out_of_a_pool_and_put_in() -> None:
    first, second = Worker.remote(), Worker.remote()
    pool = ActorPool([first])
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(first)
    pool.submit(double, 1)
    assert pool.pop_idle() is None
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(first)
    pool.submit(double, 2)
    pool.push(second)
    assert [2, 4] == [pool.get_next(), pool.get_next()]
    assert {pool.pop_idle(), pool.pop_idle()} == {first, second}
    with pytest.raises(ValueError, match="already belongs"):
        ActorPool([first, first])


def test_a_dead_actor_is_removed_from_the_pool(pool: ActorPool) -> None:
    pool.submit(lambda actor, value: actor.die.remote(), 0)
    for value in range(1, 6):
        pool.submit(double, value)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert [2, 4, 6, 8, 10] == [pool.get_next() for _ in range(5)]
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None


def test_work_in_a_pool_without_actors_is_a_clear_error() -> None:
    pool = ActorPool([Worker.remote()])
    pool.submit(lambda actor, value: actor.die.remote(), 0)
    pool.submit(double, 1)
    pool.submit(double, 2)
    with pytest.raises(ActorDiedError):
        pool.get_next()
    assert pool.has_next()
    with pytest.raises(ActorDiedError, match="No actor of the pool is left to work on 1"):
        pool.get_next()
    pool.push(Worker.remote())
    assert pool.get_next() == 4
    assert not pool.has_next()


def test_a_pool_refuses_values_that_are_no_actors_and_calls_that_return_no_ref(pool: ActorPool) -> None:
    with pytest.raises(TypeError, match="handles of actors"):
        ActorPool([Worker])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="returns the ref of a call"):
        pool.submit(lambda actor, value: value, 1)
    assert pool.has_free()


def test_an_actor_pool_works_inside_a_task() -> None:
    @ray.remote
    def inside() -> list[int]:
        return list(ActorPool([Worker.remote(), Worker.remote()]).map(double, range(4)))

    assert ray.get(inside.remote(), timeout=30) == [0, 2, 4, 6]


def test_a_wait_for_a_pool_result_ends_at_its_timeout(pool: ActorPool, tmp_path: Path) -> None:
    pool.submit(lambda actor, value: actor.after.remote(tmp_path / "go", value), 1)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    (tmp_path / "go").touch()
