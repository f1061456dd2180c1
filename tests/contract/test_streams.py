"""Tasks and methods that are generators, on every engine: refs arrive one after another."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import ObjectLostError, TaskCancelledError, TaskError

pytestmark = pytest.mark.needs("streams")


@ray.remote
def count(n: int) -> Any:
    yield from range(n)


@ray.remote
def spoilt(n: int) -> Any:
    yield from range(n)
    raise ValueError("no more")


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def up(self, n: int) -> Any:
        for _ in range(n):
            self.calls += 1
            yield self.calls

    def number(self) -> int:
        return self.calls


@ray.remote
class Loop:
    async def up(self, n: int) -> Any:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def spoilt(self) -> Any:
        yield 1
        raise ValueError("no more")

    def plain(self, n: int) -> Any:
        yield from range(n)

    async def number(self) -> int:
        return 7


def values(gen: Any) -> list[Any]:
    return [ray.get(ref) for ref in gen]


def test_a_generator_function_returns_a_generator_of_refs() -> None:
    gen = count.remote(3)
    assert isinstance(gen, ray.ObjectRefGenerator)
    assert iter(gen) is gen
    refs = list(gen)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]


def test_labels_of_items_have_the_index_of_the_item() -> None:
    gen = count.options(name="labelled_stream").remote(2)
    assert repr(gen) == "ObjectRefGenerator(labelled_stream#1)"
    assert list(map(repr, gen)) == [
        "ObjectRef(labelled_stream#1[0])",
        "ObjectRef(labelled_stream#1[1])",
    ]


def test_num_returns_streaming_returns_a_generator_of_refs() -> None:
    assert values(count.options(num_returns="streaming").remote(2)) == [0, 1]


def test_options_may_set_the_default_number_of_returns_again() -> None:
    fixed = ray.remote(num_returns=2)(count._export.target)
    assert ray.get(fixed.remote(2)) == [0, 1]
    assert values(fixed.options(num_returns=None).remote(3)) == [0, 1, 2]


def test_an_empty_stream_ends_at_once() -> None:
    gen = count.remote(0)
    assert next(gen, "end") == "end"
    assert gen.is_finished()


def test_an_ended_generator_stays_ended() -> None:
    gen = count.remote(1)
    next(gen)
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(gen)


def test_an_exception_of_a_generator_is_its_last_ref() -> None:
    gen = spoilt.remote(2)
    first, second, last = list(gen)
    assert ray.get([first, second]) == [0, 1]
    with pytest.raises(ValueError, match="no more") as caught:
        ray.get(last)
    assert isinstance(caught.value, TaskError)
    with pytest.raises(StopIteration):
        next(gen)
    with pytest.raises(ValueError, match="no more"):
        ray.get(gen.completed())


def test_an_item_that_cannot_be_pickled_fails_the_task() -> None:
    @ray.remote
    def bad() -> Any:
        yield 1
        yield (i for i in range(2))

    first, last = list(bad.remote())
    assert ray.get(first) == 1
    with pytest.raises(TypeError, match="generator"):
        ray.get(last)


def test_a_failed_argument_is_the_only_item() -> None:
    @ray.remote
    def wrong() -> int:
        raise KeyError("gone")

    (only,) = list(count.remote(wrong.remote()))
    with pytest.raises(KeyError, match="gone"):
        ray.get(only)


def test_the_completed_ref_is_ready_at_the_end_of_the_task() -> None:
    gen = count.remote(3)
    assert ray.get(gen.completed(), timeout=30) is None
    assert values(gen) == [0, 1, 2]
    assert gen.completed().task_id() == gen.task_id()


def test_a_generator_knows_whether_it_is_finished() -> None:
    gen = count.remote(1)
    ray.get(gen.completed())
    assert not gen.is_finished()
    assert gen.next_ready()
    next(gen)
    assert gen.is_finished()
    assert not gen.next_ready()


def test_a_failed_generator_is_finished_when_its_failure_was_taken() -> None:
    gen = spoilt.remote(0)
    assert ray.wait([gen.completed()], timeout=30)[0]
    assert not gen.is_finished()
    next(gen)
    assert gen.is_finished()


def test_wait_takes_generators_among_refs() -> None:
    gen, ref = count.remote(1), ray.put(1)
    assert ray.wait([gen, ref], num_returns=2, timeout=30) == ([gen, ref], [])
    next(gen)
    # The generator's next step, which raises StopIteration, does not wait either.
    assert ray.wait([gen], timeout=30) == ([gen], [])
    with pytest.raises(ValueError, match="twice"):
        ray.wait([gen, gen])
    with pytest.raises(TypeError, match="single ObjectRefGenerator"):
        ray.wait(gen)


def test_get_returns_a_generator_unchanged() -> None:
    gen = count.remote(1)
    assert ray.get(gen) is gen
    with pytest.raises(TypeError, match="ObjectRefGenerator"):
        ray.get([gen])


def test_async_for_and_anext_give_the_refs_of_a_generator() -> None:
    async def main() -> list[int]:
        gen = count.remote(3)
        first = await (await gen.__anext__())
        return [first, *[await ref async for ref in gen]]

    assert asyncio.run(main()) == [0, 1, 2]


def test_async_for_gives_the_failure_last() -> None:
    async def main() -> list[Any]:
        return [ref async for ref in spoilt.remote(1)]

    first, last = asyncio.run(main())
    assert ray.get(first) == 0
    with pytest.raises(ValueError, match="no more"):
        ray.get(last)


@pytest.mark.parametrize("limit", [1, 2, 100, -1])
def test_a_limit_changes_nothing_about_the_items(limit: int) -> None:
    gen = count.options(_generator_backpressure_num_objects=limit).remote(7)
    assert values(gen) == list(range(7))


def test_missing_methods_of_generators_are_refused_with_a_reason() -> None:
    gen = count.remote(1)
    for refused in (lambda: gen.send(1), lambda: gen.throw(ValueError), gen.close):
        with pytest.raises(NotImplementedError, match=r"cancel\(gen\)"):
            refused()

    async def main(name: str, *args: Any) -> None:
        await getattr(gen, name)(*args)

    for name, args in (("asend", (1,)), ("athrow", (ValueError,)), ("aclose", ())):
        with pytest.raises(NotImplementedError, match=name):
            asyncio.run(main(name, *args))


def test_a_generator_cannot_be_pickled() -> None:
    @ray.remote
    def take(gen: Any) -> None: ...

    gen = count.remote(1)
    with pytest.raises(TypeError, match=r"list\(gen\)"):
        take.remote(gen)
    with pytest.raises(TypeError, match=r"list\(gen\)"):
        pickle.dumps(gen)

    @ray.remote
    def give() -> Any:
        return count.remote(1)

    with pytest.raises(TypeError, match=r"list\(gen\)"):
        ray.get(give.remote())


def test_items_can_be_arguments_and_outlive_the_generator() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    refs = list(count.remote(3))
    assert ray.get([double.remote(ref) for ref in refs]) == [0, 2, 4]


def test_large_items_arrive_as_they_were() -> None:
    np = pytest.importorskip("numpy")

    @ray.remote
    def arrays(n: int) -> Any:
        for i in range(n):
            yield np.full(200_000, i)

    assert [int(array.sum()) for array in values(arrays.remote(3))] == [0, 200_000, 400_000]


def test_refs_inside_items_are_held() -> None:
    @ray.remote
    def boxes() -> Any:
        for i in range(3):
            yield [ray.put(i)]

    gen = boxes.remote()
    ray.get(gen.completed())
    assert [ray.get(box[0]) for box in values(gen)] == [0, 1, 2]


def test_a_deferred_item_stands_for_its_value() -> None:
    @ray.remote
    def sums() -> Any:
        for i in range(3):
            yield ray.put(i) + 10
        yield ray.put(5)

    *deferred, plain = values(sums.remote())
    assert deferred == [10, 11, 12]
    assert ray.get(plain) == 5


def test_tasks_can_consume_streams() -> None:
    @ray.remote
    def total(n: int) -> int:
        return sum(ray.get(ref) for ref in count.remote(n))

    @ray.remote
    def again(n: int) -> Any:
        for ref in count.remote(n):
            yield ray.get(ref) * 10

    assert ray.get(total.remote(4)) == 6
    assert values(again.remote(3)) == [0, 10, 20]


def test_methods_may_be_generators() -> None:
    counter = Counter.remote()
    assert values(counter.up.remote(3)) == [1, 2, 3]
    assert ray.get(counter.up.options(num_returns=2).remote(2)) == [4, 5]
    gen = counter.up.options(_generator_backpressure_num_objects=1).remote(2)
    assert values(gen) == [6, 7]
    assert ray.get(counter.number.remote()) == 7


def test_async_methods_may_be_generators() -> None:
    loop = Loop.remote()
    assert values(loop.up.remote(3)) == [0, 1, 2]
    assert values(loop.up.options(_generator_backpressure_num_objects=1).remote(3)) == [0, 1, 2]
    assert values(loop.plain.remote(3)) == [0, 1, 2]
    assert ray.get(loop.number.remote()) == 7
    first, last = list(loop.spoilt.remote())
    assert ray.get(first) == 1
    with pytest.raises(ValueError, match="no more"):
        ray.get(last)


def test_a_stream_of_an_actor_may_be_consumed_inside_another() -> None:
    @ray.remote
    class Reader:
        async def total(self, loop: Any) -> int:
            return sum([await ref async for ref in loop.up.remote(4)])

    assert ray.get(Reader.remote().total.remote(Loop.remote())) == 6


@pytest.mark.parametrize("method", [{"num_returns": "streaming"}, {"_generator_backpressure_num_objects": 1}])
def test_streaming_options_are_refused_for_functions_that_are_no_generators(method: dict[str, Any]) -> None:
    def plain() -> None: ...

    with pytest.raises(ValueError, match="plain"):
        ray.method(**method)(plain)
    with pytest.raises(ValueError, match="number"):
        Counter.remote().number.options(**method)
    with pytest.raises(ValueError, match="plain"):
        ray.remote(plain).options(**method)


def test_dynamic_gives_one_ref_to_all_refs() -> None:
    with pytest.warns(DeprecationWarning, match="streaming") as caught:
        all_of_it = count.options(num_returns="dynamic")
    assert caught[0].filename == __file__
    ref = all_of_it.remote(3)
    assert isinstance(ref, ray.ObjectRef)
    refs = ray.get(ref)
    assert isinstance(refs, ray.DynamicObjectRefGenerator)
    assert len(refs) == 3
    assert values(refs) == [0, 1, 2]


def test_dynamic_gives_an_exception_as_the_last_ref() -> None:
    with pytest.warns(DeprecationWarning, match="'dynamic' is deprecated"):
        ref = spoilt.options(num_returns="dynamic").remote(1)
    first, last = ray.get(ref)
    assert ray.get(first) == 0
    with pytest.raises(ValueError, match="no more"):
        ray.get(last)


def test_the_ref_of_a_dynamic_task_can_be_an_argument() -> None:
    @ray.remote
    def total(refs: Any) -> int:
        return sum(ray.get(list(refs)))

    with pytest.warns(DeprecationWarning, match="'dynamic' is deprecated"):
        ref = count.options(num_returns="dynamic").remote(4)
    assert ray.get(total.remote(ref)) == 6


def test_methods_may_have_dynamic_returns() -> None:
    with pytest.warns(DeprecationWarning, match="'dynamic' is deprecated"):
        up = Counter.remote().up.options(num_returns="dynamic")
    assert values(ray.get(up.remote(2))) == [1, 2]
    with pytest.warns(DeprecationWarning, match="'dynamic' is deprecated"):
        up = Loop.remote().up.options(num_returns="dynamic")
    assert values(ray.get(up.remote(2))) == [0, 1]


def test_an_exception_may_be_retried_and_no_item_comes_twice(tmp_path: Any) -> None:
    mark = tmp_path / "mark"

    @ray.remote(retry_exceptions=[OSError], max_retries=1)
    def flaky() -> Any:
        first = not mark.exists()
        mark.touch()
        for i in range(4):
            if first and i == 2:
                raise OSError("once")
            yield (i, first)

    assert values(flaky.remote()) == [(0, True), (1, True), (2, False), (3, False)]


def test_a_cancelled_stream_ends_with_the_cancellation() -> None:
    @ray.remote
    def endless() -> Iterator[int]:
        i = 0
        while True:
            yield i
            i += 1

    gen = endless.options(_generator_backpressure_num_objects=2).remote()
    assert ray.get(next(gen)) == 0
    ray.cancel(gen)
    *_, last = list(gen)
    with pytest.raises(TaskCancelledError):
        ray.get(last)


def test_a_generator_of_an_ended_session_is_refused_with_a_reason(begin_session: Callable[[], None]) -> None:
    gen = count.remote(1)
    ray.shutdown()
    begin_session()
    for use in (lambda: next(gen), gen.completed, gen.is_finished, gen.next_ready, lambda: ray.cancel(gen)):
        with pytest.raises(ObjectLostError, match="shut down"):
            use()
