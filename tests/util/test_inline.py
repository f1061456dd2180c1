"""`ipyremote.util` on the inline backend: the same results, and an error instead of a wait without end."""

from __future__ import annotations

from collections.abc import Iterator

import joblib
import pytest

import ipyremote as ray
from ipyremote.util import ActorPool, Executor, as_completed, map_unordered
from ipyremote.util.joblib import register_ipyremote
from ipyremote.util.multiprocessing import Pool
from ipyremote.util.queue import Empty, Full, Queue


@pytest.fixture(autouse=True)
def _inline(leakless: object) -> Iterator[None]:
    ray.init(backend="inline", num_cpus=2)
    yield
    ray.shutdown()


def square(value: int) -> int:
    return value * value


@ray.remote
class Squarer:
    def square(self, value: int) -> int:
        return square(value)


def test_pools_and_executors_work_inline() -> None:
    squares = [square(i) for i in range(10)]
    with Executor() as executor:
        assert list(executor.map(square, range(10))) == squares
    with Executor(2, initializer=square, initargs=(1,)) as executor:
        assert list(executor.map(square, range(10), chunksize=3)) == squares
    with Pool(2) as pool:
        assert pool.map(square, range(10)) == squares
        with pytest.raises(ZeroDivisionError):
            pool.apply(divmod, (1, 0))
    actors = ActorPool([Squarer.remote(), Squarer.remote()])
    assert list(actors.map(lambda actor, value: actor.square.remote(value), range(10))) == squares
    register_ipyremote()
    with joblib.parallel_config("ipyremote"):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(10)) == squares


def test_as_completed_and_map_unordered_work_inline() -> None:
    remote = ray.remote(square)
    assert list(as_completed([remote.remote(i) for i in range(4)])) == [0, 1, 4, 9]
    assert list(map_unordered(remote, range(4))) == [0, 1, 4, 9]


def test_a_queue_works_inline_and_refuses_to_wait_without_end() -> None:
    shared = Queue(maxsize=1)
    shared.put(1)
    with pytest.raises(Full):
        shared.put(2, timeout=0.01)
    with pytest.raises(RuntimeError, match="a full queue stays full"):
        shared.put(2)
    assert shared.get() == 1
    with pytest.raises(Empty):
        shared.get(timeout=0.01)
    with pytest.raises(RuntimeError, match="an empty queue stays empty"):
        shared.get()
    shared.shutdown()
