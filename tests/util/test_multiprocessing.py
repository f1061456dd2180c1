"""`multiprocessing.Pool` on the cluster: the documented behaviour of the standard library, and Ray's additions."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import ActorDiedError, TaskCancelledError, TaskError
from ipyremote.util.multiprocessing import Pool, TimeoutError
from tests.support.sources import PACKAGE
from tests.support.waiting import until
from tests.util.calls import after, square

pytestmark = pytest.mark.usefixtures("cluster")


def test_each_form_of_map_returns_the_values() -> None:
    with Pool(2) as pool:
        assert pool.map(square, range(20)) == [i * i for i in range(20)]
        assert pool.map(square, iter(range(5)), chunksize=2) == [0, 1, 4, 9, 16]
        assert pool.map(square, []) == []
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(square, range(10), chunksize=3)) == [i * i for i in range(10)]
        assert sorted(pool.imap_unordered(square, range(10))) == [i * i for i in range(10)]
        assert pool.map_async(square, range(4)).get(timeout=30) == [0, 1, 4, 9]
        assert pool.starmap_async(pow, [(2, 2)]).get(timeout=30) == [4]
        assert pool.apply(pow, (2, 5), {"mod": 7}) == 4


def test_imap_works_with_an_endless_iterator() -> None:
    def naturals() -> Any:
        value = 0
        while value < 200:
            yield value
            value += 1

    with Pool(2) as pool:
        values = pool.imap(square, naturals())
        assert [next(values) for _ in range(3)] == [0, 1, 4]


def test_an_async_result_has_ready_and_successful(tmp_path: Path) -> None:
    with Pool(1) as pool:
        result = pool.apply_async(after, (tmp_path / "go", 5))
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        with pytest.raises(TimeoutError):
            result.get(timeout=0.05)
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=0)
        result.wait(timeout=0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            pool.imap(after, [tmp_path / "go"]).next(timeout=0.05)
        (tmp_path / "go").touch()
        assert result.get(timeout=30) == 5
        assert result.ready()
        assert result.successful()
        failed = pool.apply_async(divmod, (1, 0))
        failed.wait(30)
        assert not failed.successful()


def test_callbacks_get_the_value_or_the_error() -> None:
    said: list[Any] = []
    with Pool(2) as pool:
        pool.apply_async(square, (3,), callback=said.append, error_callback=said.append).wait()
        pool.map_async(square, [1, 2], callback=said.append).wait()
        pool.map_async(divmod, [1], error_callback=said.append).wait()  # type: ignore[arg-type]
        until(lambda: len(said) == 3, "all callbacks have been called")
    assert said[:2] == [9, [1, 4]]
    assert isinstance(said[2], TypeError)


def test_the_exception_of_a_pool_call_is_raised() -> None:
    with Pool(2) as pool:
        with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
            pool.apply(lambda: 1 / 0)
        assert type(caught.value) is ZeroDivisionError
        assert isinstance(caught.value.__cause__, TaskError)
        assert not [entry for entry in caught.traceback if str(entry.path).startswith(str(PACKAGE))]
        with pytest.raises(ZeroDivisionError):
            pool.starmap(divmod, [(1, 1), (1, 0)])
        values = pool.imap(lambda i: 1 / i, [1, 0, 2])
        assert next(values) == 1
        with pytest.raises(ZeroDivisionError):
            next(values)
        assert next(values) == 0.5


#: Set by an initializer in a worker process.
prepared: int


def test_an_initializer_runs_in_each_process_of_the_pool() -> None:
    def prepare(first: int, second: int) -> None:
        global prepared
        prepared = first + second

    def use(value: int) -> int:
        return _helped(value)

    def _helped(value: int) -> int:
        return prepared * value  # `prepare` has set the global

    with Pool(2, initializer=prepare, initargs=(1, 2)) as pool:
        assert pool.map(use, range(5)) == [0, 3, 6, 9, 12]
        assert pool.apply(use, (5,)) == 15


def test_a_failing_initializer_raises_and_does_not_hang() -> None:
    def refuse() -> None:
        raise ValueError("not today")

    with Pool(2, initializer=refuse) as pool, pytest.raises(ActorDiedError, match="not today"):
        pool.map(square, range(4))


def test_processes_are_replaced_after_maxtasksperchild_calls() -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(os.getpid) for _ in range(6)]
    assert [pids[0]] * 2 + [pids[2]] * 2 + [pids[4]] * 2 == pids
    assert len(set(pids)) == 3


def test_a_process_that_dies_fails_only_its_own_call() -> None:
    with Pool(2) as pool:
        results = [pool.apply_async(os._exit, (1,)), *(pool.apply_async(square, (i,)) for i in range(10))]
        with pytest.raises(ActorDiedError):
            results[0].get(timeout=30)
        assert [result.get(timeout=30) for result in results[1:]] == [i * i for i in range(10)]
        assert pool.map(square, range(4)) == [0, 1, 4, 9]


def test_close_lets_submitted_calls_finish() -> None:
    pool = Pool(2)
    result = pool.map_async(square, range(50), chunksize=1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    pool.join()
    assert result.get(timeout=0) == [i * i for i in range(50)]


def test_terminate_cancels_running_and_waiting_calls(tmp_path: Path) -> None:
    pool = Pool(2)
    said: list[Any] = []
    running = pool.apply_async(after, (tmp_path / "never",), error_callback=said.append)
    mapped = pool.map_async(after, [tmp_path / "never"] * 20, chunksize=1)
    drawn = pool.imap(after, [tmp_path / "never"] * 20)
    loose = pool.imap_unordered(after, [tmp_path / "never"] * 20)
    until((tmp_path / "never.began").exists, "one call runs")
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 20
    for result in (running, mapped):
        with pytest.raises(TaskCancelledError):
            result.get(timeout=5)
    for values in (drawn, loose):
        with pytest.raises(TaskCancelledError):
            values.next(timeout=5)
    assert len(said) == 1


def test_wrong_pool_sizes_are_refused(recwarn: pytest.WarningsRecorder) -> None:
    for processes in (0, -1):
        with pytest.raises(ValueError, match=">0"):
            Pool(processes)
    with pytest.raises(ValueError, match="only 2 CPUs"):
        Pool(3)
    with pytest.raises(TypeError, match="processes"):
        Pool("2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="same"):
        Pool(1, ray_remote_args={}, remote_args={})
    with pytest.raises(ValueError, match="no_such"):
        Pool(1, remote_args={"no_such": 1})
    with pytest.raises(TypeError, match="initializer"):
        Pool(1, initializer=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(1, maxtasksperchild=0)
    with pytest.warns(UserWarning, match="context"), Pool(1, context=multiprocessing.get_context()) as pool:
        assert pool.apply(square, (2,)) == 4


def test_a_pool_accepts_actor_options_and_has_as_many_processes_as_cpus() -> None:
    with Pool(ray_remote_args={"num_cpus": 1}) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        assert "pool_size=2" in repr(pool)
        assert "CPU" not in ray.available_resources()


def test_a_multiprocessing_pool_works_inside_a_task() -> None:
    @ray.remote(num_cpus=2)
    def inside() -> list[int]:
        with Pool(2) as pool:
            return pool.map(square, range(5))

    assert ray.get(inside.remote(), timeout=60) == [0, 1, 4, 9, 16]


def test_refs_among_arguments_of_a_pool_call_stay_refs_as_in_ray() -> None:
    with Pool(1) as pool:
        assert pool.map(ray.get, [ray.put(5)]) == [5]


def test_a_pool_can_be_closed_after_the_end_of_its_session() -> None:
    pool = Pool(2)
    assert pool.map(square, range(3)) == [0, 1, 4]
    ray.shutdown()
    with pytest.raises(ray.exceptions.IPyRemoteError):
        pool.map(square, range(3))
    pool.terminate()
    pool.join()
