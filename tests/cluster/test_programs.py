"""The programs of the README and of the first notebook on a real cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ipyremote as ray

pytestmark = pytest.mark.usefixtures("cluster")


def test_fibonacci_from_sums_of_refs_needs_no_blocked_worker() -> None:
    @ray.remote
    def fib(n: int) -> Any:
        if n < 2:
            return n
        return fib.remote(n - 1) + fib.remote(n - 2)

    assert ray.get(fib.remote(10), timeout=60) == 55


def test_a_counter_actor_counts_in_order() -> None:
    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def increment(self) -> int:
            self.value += 1
            return self.value

        def get_value(self) -> int:
            return self.value

    counter = Counter.remote()
    refs = [counter.increment.remote(), counter.increment.remote(), counter.get_value.remote()]
    assert ray.get(refs, timeout=30) == [1, 2, 2]


def test_a_thousand_tasks_give_a_thousand_results() -> None:
    @ray.remote
    def square(x: int) -> int:
        return x * x

    assert ray.get([square.remote(i) for i in range(1000)], timeout=60) == [i * i for i in range(1000)]


def test_refs_among_arguments_arrive_as_values_and_nested_refs_as_refs() -> None:
    @ray.remote
    def describe(a: Any, *, b: Any, box: list[Any]) -> tuple[Any, Any, bool, Any]:
        return a, b, isinstance(box[0], ray.ObjectRef), ray.get(box[0])

    one, two, three = ray.put(1), ray.put("two"), ray.put(3.0)
    assert ray.get(describe.remote(one, b=two, box=[three]), timeout=30) == (1, "two", True, 3.0)


def test_a_large_array_is_shared_without_a_copy_and_read_only() -> None:
    @ray.remote
    def total(array: np.ndarray) -> tuple[float, bool]:
        return float(array.sum()), array.flags.writeable

    array = np.arange(1_000_000, dtype=float)
    ref = ray.put(array)
    assert ray.get(total.remote(ref), timeout=30) == (float(array.sum()), False)
    assert ray.get(total.remote(array), timeout=30) == (float(array.sum()), False)
    mine = ray.get(ref)
    assert not mine.flags.writeable
    assert np.array_equal(mine, array)
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = 1


def test_large_results_arrive_complete() -> None:
    @ray.remote
    def ramp(n: int) -> np.ndarray:
        return np.arange(n)

    results = ray.get([ramp.remote(500_000) for _ in range(8)], timeout=60)
    assert all(np.array_equal(result, np.arange(500_000)) for result in results)


def test_nested_blocking_gets_of_depth_fifty_finish() -> None:
    @ray.remote
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

    assert ray.get(down.remote(50), timeout=100) == 50


def test_get_of_a_sum_of_refs_returns_the_sum_of_their_values() -> None:
    @ray.remote
    def one() -> int:
        return 1

    total: Any = sum([one.remote() for _ in range(10)])
    assert ray.get(total, timeout=30) == 10


def test_a_task_with_several_returns_has_several_refs() -> None:
    @ray.remote(num_returns=3)
    def triple() -> tuple[int, int, int]:
        return 1, 2, 3

    a, b, c = triple.remote()
    assert ray.get([c, a, b], timeout=30) == [3, 1, 2]


def test_wait_returns_the_refs_of_fast_tasks_first(tmp_path: Any) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def slow() -> str:
        import time

        while not gate.exists():
            time.sleep(0.01)
        return "slow"

    @ray.remote
    def fast() -> str:
        return "fast"

    late, early = slow.remote(), fast.remote()
    ready, rest = ray.wait([late, early], timeout=30)
    assert (ready, rest) == ([early], [late])
    gate.touch()
    assert ray.get(late, timeout=30) == "slow"


def test_an_actor_handle_works_in_a_task_and_in_another_actor() -> None:
    @ray.remote
    class Store:
        def __init__(self) -> None:
            self.items: list[int] = []

        def add(self, item: int) -> int:
            self.items.append(item)
            return len(self.items)

    @ray.remote
    def fill(store: Any, n: int) -> int:
        lengths: list[int] = ray.get([store.add.remote(i) for i in range(n)])
        return max(lengths)

    @ray.remote
    class Filler:
        def __init__(self, store: Any) -> None:
            self.store = store

        def fill(self, n: int) -> int:
            return ray.get(fill.remote(self.store, n))

    store = Store.remote()
    assert ray.get(fill.remote(store, 5), timeout=30) == 5
    assert ray.get(Filler.remote(store).fill.remote(5), timeout=30) == 10


def test_await_and_future_of_a_ref_give_its_value() -> None:
    import asyncio

    @ray.remote
    def one() -> int:
        return 1

    async def both() -> list[int]:
        return list(await asyncio.gather(one.remote(), one.remote()))

    assert asyncio.run(both()) == [1, 1]
    assert one.remote().future().result(timeout=30) == 1


def test_printed_text_of_a_task_arrives_before_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    def talk(n: int) -> int:
        import sys

        print("hello", n)
        print("warning", n, file=sys.stderr)
        return n

    assert ray.get([talk.remote(i) for i in range(3)], timeout=30) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [f"(talk#{i + 1}) hello {i}" for i in range(3)]
    assert sorted(err.splitlines()) == [f"(talk#{i + 1}) warning {i}" for i in range(3)]


def test_refs_inside_values_keep_their_objects_alive() -> None:
    @ray.remote
    def boxed() -> list[Any]:
        return [ray.put(np.ones(100_000)), ray.put("small")]

    box = ray.get(boxed.remote(), timeout=30)
    assert float(ray.get(box[0], timeout=30).sum()) == 100_000.0
    assert ray.get(box[1], timeout=30) == "small"
