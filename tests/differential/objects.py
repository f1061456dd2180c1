"""Behaviours of objects: `put`, `get`, `wait`, refs, and changes of values on the way."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import Any

import numpy as np

import ipyremote as ray
from tests.differential.behaviours import Program, raised

program = Program()


@ray.remote
def same(value: Any) -> Any:
    return value


@ray.remote
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@ray.remote
def fail(text: str) -> None:
    raise ValueError(text)


@program
def get_takes_a_ref_or_a_list_and_keeps_the_order() -> Any:
    refs = [ray.put(number) for number in range(3)]
    return ray.get(refs[1]), ray.get(refs[::-1]), ray.get([refs[0], refs[0]]), ray.get([])


@program
def get_takes_nothing_else() -> Any:
    ref = ray.put(1)
    return raised(ray.get, (ref,)), raised(ray.get, 1), raised(ray.get, [ref, 1]), raised(ray.get, {"a": ref})


@program
def get_times_out() -> Any:
    ref = sleep.remote(1000)
    told = raised(ray.get, ref, timeout=0), raised(ray.get, [ref], timeout=0.1)
    ray.cancel(ref, force=True)
    return told


@program
def get_raises_at_the_first_failure() -> Any:
    ref = sleep.remote(1000)
    told = raised(ray.get, [ref, fail.remote("early")], timeout=60)
    ray.cancel(ref, force=True)
    return told


@program
def put_takes_values_and_no_refs() -> Any:
    return raised(ray.put, ray.put(1)), ray.get(ray.put(None)), ray.get(ray.put({"a": [1, 2]}))


@program
def wait_keeps_the_order_and_the_number() -> Any:
    refs = [ray.put(number) for number in range(4)]
    parts = [ray.get(part) for part in ray.wait(refs, num_returns=2)]
    # The two ready refs differ from run to run, so only their number is reported.
    return (
        [len(part) for part in parts],
        [part == sorted(part) for part in parts],
        sorted([*parts[0], *parts[1]]),
    )


@program
def wait_splits_by_what_is_ready() -> Any:
    slow, fast = sleep.remote(1000), same.remote(1)
    ready, rest = ray.wait([slow, fast], timeout=30)
    told = ready == [fast], rest == [slow]
    none, both = ray.wait([slow], timeout=0)
    ray.cancel(slow, force=True)
    return told, len(none), len(both)


@program
def wait_checks_its_arguments() -> Any:
    ref = ray.put(1)
    return [
        raised(ray.wait, ref),
        raised(ray.wait, [ref, ref]),
        raised(ray.wait, [ref], num_returns=0),
        raised(ray.wait, [ref], num_returns=2),
        raised(ray.wait, [ref], timeout=-1),
        raised(ray.wait, [1]),
        ray.wait([]),
    ]


@program
def wait_counts_a_failure_as_ready() -> Any:
    ready, rest = ray.wait([fail.remote("no")], timeout=30)
    return len(ready), len(rest)


@program
def arrays_come_back_read_only() -> Any:
    array = ray.get(ray.put(np.arange(100_000)))
    small = ray.get(ray.put(np.arange(3)))
    return array.flags.writeable, small.flags.writeable, int(array.sum()), raised(array.__setitem__, 0, 1)


@program
def arrays_are_read_only_in_tasks_too() -> Any:
    @ray.remote
    def is_writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    return ray.get(is_writeable.remote(np.zeros(100_000))), ray.get(is_writeable.remote(ray.put(np.zeros(3))))


@program
def an_object_that_is_there_twice_stays_one() -> Any:
    shared = np.zeros(3)
    first, second = ray.get(ray.put([shared, shared]))
    return first is second


@program
def a_list_that_is_there_twice_stays_one() -> Any:
    shared: list[int] = []
    first, second = ray.get(ray.put([shared, shared]))
    return first is second


@program
def what_is_stored_does_not_change_with_the_original() -> Any:
    mine = [1]
    ref = ray.put(mine)
    mine.append(2)
    return ray.get(ref), ray.get(ref) is ray.get(ref)


@program
def refs_have_ids_and_are_equal_by_them() -> Any:
    ref = ray.put(1)
    (again,) = ray.get(ray.put([ref]))
    return (
        len(ref.hex()),
        len(ref.binary()),
        again == ref,
        hash(again) == hash(ref),
        ref.is_nil(),
        len({ref, again}),
    )


@program
def refs_are_no_iterables() -> Any:
    return raised(list, ray.put([1]))


@program
def refs_are_futures() -> Any:
    return same.remote(3).future().result(timeout=30), raised(fail.remote("no").future().result, timeout=30)


@program
def refs_can_be_awaited() -> Any:
    async def main() -> Any:
        value = await same.remote(1)
        values = await asyncio.gather(same.remote(2), same.remote(3))
        try:
            await fail.remote("no")
        except ValueError as error:
            return value, values, error
        return "nothing"

    return asyncio.run(main())


@program
def refs_travel_inside_values() -> Any:
    @ray.remote
    def open_all(refs: dict[str, Any]) -> Any:
        return {key: ray.get(ref) for key, ref in refs.items()}

    return ray.get(open_all.remote({"a": ray.put(1), "b": same.remote(2)}))


@program
def refs_are_not_pickled_by_others() -> Any:
    return raised(pickle.dumps, ray.put(1)), raised(ray.cloudpickle.dumps, ray.put(1))


@program
def a_value_that_cannot_be_pickled_is_refused() -> Any:
    import threading

    return raised(ray.put, threading.Lock())


@program
def values_of_many_kinds_come_back_equal() -> Any:
    values = [0, 1.5, "text", b"bytes".decode(), [1, [2]], {"a": (1, 2)}, {3, 4}, None, True, 10**30]
    return [value == ray.get(ray.put(value)) == ray.get(same.remote(value)) for value in values]


@program
def callbacks_are_called_with_the_value() -> Any:
    import threading

    came: list[Any] = []
    event = threading.Event()

    def on_value(value: Any) -> None:
        came.append(value)
        event.set()

    same.remote(5)._on_completed(on_value)
    return event.wait(30), came


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    program.report()
    ray.shutdown()
