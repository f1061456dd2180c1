"""Tasks: arguments, returns, options, operators, failures."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, cast

import numpy as np
import pytest

import ipyremote as ray
from ipyremote.exceptions import TaskError
from tests.support.waiting import until


def test_a_task_returns_its_value() -> None:
    @ray.remote
    def square(x: int) -> int:
        return x * x

    assert ray.get(square.remote(7)) == 49


def test_labels_count_by_name() -> None:
    @ray.remote
    def labelled_task() -> None: ...

    refs = [labelled_task.remote(), labelled_task.remote(), labelled_task.options(name="other_task").remote()]
    assert [repr(ref) for ref in refs] == [
        "ObjectRef(labelled_task#1)",
        "ObjectRef(labelled_task#2)",
        "ObjectRef(other_task#1)",
    ]


def test_top_level_refs_arrive_as_values_and_nested_refs_as_refs() -> None:
    @ray.remote
    def look(a: Any, *rest: Any, inner: list[Any], named: Any) -> list[Any]:
        return [a, *rest, isinstance(inner[0], ray.ObjectRef), ray.get(inner[0]), named]

    one = ray.put(1)
    assert ray.get(look.remote(one, ray.put(2), inner=[one], named=ray.put(3))) == [1, 2, True, 1, 3]


def test_arguments_are_copies() -> None:
    @ray.remote
    def spoil(items: list[int]) -> list[int]:
        items.append(2)
        return items

    mine = [1]
    assert ray.get(spoil.remote(mine)) == [1, 2]
    assert mine == [1]


def test_a_stored_value_does_not_change_with_the_original() -> None:
    np = pytest.importorskip("numpy")
    array = np.zeros(4)
    ref = ray.put(array)
    array[0] = 1
    assert ray.get(ref).tolist() == [0, 0, 0, 0]
    assert not ray.get(ref).flags.writeable


def test_num_returns_gives_as_many_refs() -> None:
    @ray.remote(num_returns=3)
    def split() -> tuple[int, int, int]:
        return 1, 2, 3

    refs = split.remote()
    assert ray.get(refs) == [1, 2, 3]
    assert repr(refs[2]) == "ObjectRef(split#1[2])"


def test_a_tuple_stays_a_tuple_when_one_value_is_returned() -> None:
    @ray.remote
    def pair() -> tuple[int, int]:
        return 1, 2

    assert ray.get(pair.remote()) == (1, 2)


def test_a_call_with_zero_returns_gives_none() -> None:
    @ray.remote(num_returns=0)
    def quiet() -> int:
        return 1

    assert quiet.remote() is None


def test_a_wrong_number_of_returns_fails_the_task() -> None:
    @ray.remote(num_returns=2)
    def three() -> list[int]:
        return [1, 2, 3]

    first, second = three.remote()
    with pytest.raises(ValueError, match="Task returned 3 objects, but num_returns=2"):
        ray.get(first)
    with pytest.raises(ValueError, match="num_returns=2"):
        ray.get(second)


def test_a_generator_function_with_a_number_of_returns_gives_its_values() -> None:
    @ray.remote
    def count() -> Any:
        yield 1
        yield 2

    assert ray.get(count.options(num_returns=2).remote()) == [1, 2]


@pytest.mark.needs("streams")
def test_a_generator_function_without_a_number_of_returns_streams_its_values() -> None:
    @ray.remote
    def count() -> Any:
        yield 1
        yield 2

    assert [ray.get(ref) for ref in count.remote()] == [1, 2]


def test_refs_add_and_a_task_may_return_the_sum() -> None:
    @ray.remote
    def fib(n: int) -> Any:
        if n < 2:
            return n
        return fib.remote(n - 1) + fib.remote(n - 2)

    assert ray.get(fib.remote(10)) == 55


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda a, b: a + b, 9),
        (lambda a, b: a - b, 5),
        (lambda a, b: a * b, 14),
        (lambda a, b: a / b, 3.5),
        (lambda a, b: a // b, 3),
        (lambda a, b: a % b, 1),
        (lambda a, b: a**b, 49),
        (lambda a, b: a & b, 2),
        (lambda a, b: a | b, 7),
        (lambda a, b: a ^ b, 5),
        (lambda a, b: a << b, 28),
        (lambda a, b: a >> b, 1),
        (lambda a, b: -a, -7),
        (lambda a, b: +a, 7),
        (lambda a, b: ~a, -8),
        (lambda a, b: abs(-a), 7),
        (lambda a, b: 10 - a, 3),
        (lambda a, b: sum([a, b, a]), 16),
        (lambda a, b: 2**b, 4),
    ],
)
def test_operators_on_refs_are_tasks(expression: Any, expected: float) -> None:
    assert ray.get(expression(ray.put(7), ray.put(2))) == expected


def test_an_item_of_a_ref_is_a_ref() -> None:
    ref = ray.put({"key": [1, 2]})
    assert ray.get(ref["key"][1]) == 2


def test_an_operator_between_an_array_and_a_ref_is_a_task() -> None:
    np = pytest.importorskip("numpy")
    total = np.arange(3) + ray.put(1)
    assert isinstance(total, ray.ObjectRef)
    assert ray.get(total).tolist() == [1, 2, 3]


def test_a_plain_ref_that_a_task_returns_is_a_value() -> None:
    @ray.remote
    def inner() -> int:
        return 5

    @ray.remote
    def outer() -> Any:
        return inner.remote()

    ref = ray.get(outer.remote())
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 5


def test_a_failure_is_a_task_error_and_an_instance_of_the_raised_class() -> None:
    class Mine(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(code)
            self.code = code
            self.why = "because"

    @ray.remote
    def fail() -> None:
        raise Mine(3)

    with pytest.raises(Mine) as caught:
        ray.get(fail.remote())
    error = caught.value
    assert isinstance(error, TaskError)
    assert (error.code, error.why, error.label) == (3, "because", "fail#1")
    assert str(error).splitlines()[0] == "3"
    assert "raise Mine" in str(error)
    assert [frame.function for frame in error.frames] == ["fail"]


def test_a_failed_argument_fails_the_task_without_running_it() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("lost")

    @ray.remote
    def never(x: Any) -> int:
        return 1

    with pytest.raises(KeyError, match="lost"):
        ray.get(never.remote(never.remote(fail.remote())))


def test_a_nested_failure_keeps_its_type_and_shows_both_tasks() -> None:
    @ray.remote
    def inner_fails() -> None:
        raise OSError(2, "no such thing")

    @ray.remote
    def outer_waits() -> None:
        ray.get(inner_fails.remote())

    with pytest.raises(FileNotFoundError) as caught:
        ray.get(outer_waits.remote())
    assert caught.value.errno == 2
    assert [frame.function for frame in caught.value.frames] == ["outer_waits", "inner_fails"]
    assert "in task inner_fails#" in str(caught.value)


def test_an_exception_that_cannot_be_pickled_keeps_its_traceback() -> None:
    class Odd(Exception):
        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    @ray.remote
    def fail() -> None:
        raise Odd("strange")

    with pytest.raises(TaskError, match="strange"):
        ray.get(fail.remote())


def test_an_exception_that_cannot_be_unpickled_keeps_its_traceback() -> None:
    class Odd(Exception):
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    @ray.remote
    def fail() -> None:
        raise Odd("strange")

    with pytest.raises(ray.exceptions.UnserializableException, match="strange"):
        ray.get(fail.remote())


def test_an_exception_group_of_a_task_can_be_split() -> None:
    @ray.remote
    def fail() -> None:
        raise ExceptionGroup("many", [ValueError(1), KeyError(2)])

    seen: list[Exception] = []
    try:
        ray.get(fail.remote())
    except* ValueError as group:
        seen.extend(group.exceptions)
    except* KeyError as group:
        seen.extend(group.exceptions)
    assert [type(error) for error in seen] == [ValueError, KeyError]


def test_retry_exceptions_runs_a_task_again_until_the_task_succeeds(tmp_path: Any) -> None:
    path = tmp_path / "log"

    @ray.remote(max_retries=5, retry_exceptions=[ValueError])
    def flaky() -> int:
        with open(path, "a") as log:
            log.write("x")
        if len(path.read_text()) < 3:
            raise ValueError("not yet")
        return len(path.read_text())

    assert ray.get(flaky.remote()) == 3


def test_an_exception_that_is_not_listed_is_not_retried(tmp_path: Any) -> None:
    path = tmp_path / "log"

    @ray.remote(max_retries=5, retry_exceptions=[KeyError])
    def fails() -> None:
        with open(path, "a") as log:
            log.write("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ray.get(fails.remote())
    assert path.read_text() == "x"


def test_an_argument_that_cannot_be_pickled_is_refused_at_the_call() -> None:
    import threading

    @ray.remote
    def take(x: Any) -> None: ...

    with pytest.raises(TypeError, match="Could not serialize args"):
        take.remote([threading.Lock()])


def test_a_function_that_cannot_be_pickled_is_refused_at_the_call() -> None:
    import threading

    lock = threading.Lock()

    @ray.remote
    def take() -> Any:
        return lock

    with pytest.raises(TypeError, match="Could not serialize"):
        take.remote()


def test_a_result_that_cannot_be_pickled_fails_the_task() -> None:
    @ray.remote
    def give() -> Any:
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="lock"):
        ray.get(give.remote())


def test_wait_keeps_the_order_and_the_number() -> None:
    refs = [ray.put(i) for i in range(4)]
    assert ray.wait(refs, num_returns=2) == (refs[:2], refs[2:])
    assert ray.wait([]) == ([], [])


def test_wait_takes_whole_numbers_of_any_kind() -> None:
    np = pytest.importorskip("numpy")
    refs = [ray.put(1), ray.put(2)]
    assert ray.wait(refs, num_returns=np.int64(2)) == (refs, [])
    with pytest.raises(TypeError, match="whole number"):
        ray.wait(refs, num_returns=1.0)  # type: ignore[call-overload]


def test_parameters_may_have_any_name() -> None:
    @ray.remote
    def task(self: int, args: int, kwargs: int, fn: int, options: int, *, name: int) -> list[int]:
        return [self, args, kwargs, fn, options, name]

    @ray.remote
    class Actor:
        def __init__(this, self: int) -> None:  # the name under test
            this.value = self

        def method(this, self: int, args: int) -> list[int]:
            return [this.value, self, args]

    given = {"self": 1, "args": 2, "kwargs": 3, "fn": 4, "options": 5, "name": 6}
    assert ray.get(task.remote(**given)) == [1, 2, 3, 4, 5, 6]
    assert ray.get(task.options(num_cpus=1).remote(**given)) == [1, 2, 3, 4, 5, 6]
    classes: tuple[Any, ...] = (Actor, Actor.options(num_cpus=0))
    for made in classes:
        assert ray.get(made.remote(self=1).method.remote(self=2, args=3)) == [1, 2, 3]


def test_wait_counts_a_failure_as_ready() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref], timeout=30) == ([ref], [])


def test_futures_and_callbacks_get_the_value_or_the_error() -> None:
    @ray.remote
    def half(x: int) -> float:
        return 1 / x

    assert half.remote(2).future().result(timeout=30) == 0.5
    assert isinstance(half.remote(0).future().exception(timeout=30), ZeroDivisionError)
    seen: list[Any] = []
    half.remote(4)._on_completed(seen.append)
    until(lambda: seen, "the callback was called", 30)
    assert seen == [0.25]


def test_a_ref_can_be_awaited() -> None:
    import asyncio

    @ray.remote
    def half(x: int) -> float:
        return 1 / x

    async def main() -> tuple[Any, Any]:
        return await asyncio.gather(half.remote(2), half.remote(0), return_exceptions=True)

    good, bad = asyncio.run(main())
    assert good == 0.5
    assert isinstance(bad, ZeroDivisionError)


def test_a_task_that_has_ended_can_be_cancelled_without_effect() -> None:
    ref = ray.put(1)
    ray.cancel(ref)
    assert ray.get(ref) == 1


def test_zero_and_fractional_resources_are_fine() -> None:
    @ray.remote(num_cpus=0)
    def free() -> int:
        return 1

    @ray.remote(num_cpus=0.5, num_gpus=0.25, resources={"widget": 0.0001})
    def cheap() -> int:
        return 2

    assert ray.get([free.remote(), cheap.remote()]) == [1, 2]


def test_a_remote_function_can_be_passed_and_called_in_a_task() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    @ray.remote
    def apply(fn: Any, x: int) -> Any:
        return ray.get(fn.options(num_cpus=1).remote(x))

    assert ray.get(apply.remote(double, 4)) == 8


def test_mutual_recursion_works() -> None:
    @ray.remote
    def even(n: int) -> Any:
        return True if n == 0 else ray.get(odd.remote(n - 1))

    @ray.remote
    def odd(n: int) -> Any:
        return False if n == 0 else ray.get(even.remote(n - 1))

    assert ray.get(even.remote(5)) is False


def test_defaults_of_a_recursive_function_survive_the_journey() -> None:
    @ray.remote
    def count(n: int = 3, *, step: int = 1) -> Any:
        return 0 if n <= 0 else 1 + ray.get(count.remote(n - step))

    assert ray.get(count.remote()) == 3


def test_a_session_lists_its_resources() -> None:
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["widget"]) == (2.0, 1.0, 2.0)
    assert ray.nodes()[0]["Alive"] is True
    assert ray.is_initialized()


def test_an_exception_with_an_init_of_its_own_arrives_as_itself() -> None:
    class Rejected(Exception):
        def __init__(self, code: int, *, reason: str) -> None:
            self.code = code
            super().__init__(f"{code}: {reason}")

    class Unreadable(OSError):
        def __init__(self, path: str, hint: str) -> None:
            self.hint = hint
            super().__init__(2, "gone", path)

    @ray.remote
    def fail(kind: str) -> None:
        if kind == "rejected":
            raise Rejected(7, reason="late")
        raise Unreadable("/data", "look elsewhere")

    with pytest.raises(Rejected, match="7: late") as rejected:
        ray.get(fail.remote("rejected"), timeout=30)
    assert rejected.value.code == 7
    with pytest.raises(Unreadable) as unreadable:
        ray.get(fail.remote("unreadable"), timeout=30)
    assert (unreadable.value.errno, unreadable.value.filename, unreadable.value.hint) == (
        2,
        "/data",
        "look elsewhere",
    )


def test_running_out_of_memory_in_user_code_is_a_memory_error() -> None:
    @ray.remote
    def fail() -> None:
        raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large") as caught:
        ray.get(fail.remote(), timeout=30)
    assert isinstance(caught.value, TaskError)


def test_a_cancelled_error_of_asyncio_fails_the_task_only() -> None:
    @ray.remote
    def fail() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TaskError, match="CancelledError"):
        ray.get(fail.remote(), timeout=30)


def test_refs_and_handles_in_an_exception_stay_alive() -> None:
    @ray.remote
    class Keeper:
        def ask(self) -> str:
            return "here"

    class Found(Exception):
        pass

    @ray.remote
    def find(array: bool) -> None:
        keeper = Keeper.remote()
        raise Found(ray.put("value"), keeper, np.zeros(3) if array else None)

    @ray.remote
    def needs(value: Any) -> None: ...

    for array in (False, True):
        ref = needs.remote(find.remote(array))
        with pytest.raises(Found) as caught:
            ray.get(ref)
        inner, keeper, _ = caught.value.args[0].args
        assert ray.get([inner, keeper.ask.remote()]) == ["value", "here"]
        # The error alone keeps the refs and handles alive.
        del ref
        assert ray.get([inner, keeper.ask.remote()]) == ["value", "here"]


def test_a_task_may_raise_a_base_exception() -> None:
    class Mine(BaseException):
        pass

    @ray.remote(max_retries=0)
    def throw() -> None:
        raise Mine("of my own")

    @ray.remote
    class Thrower:
        def throw(self) -> None:
            raise Mine("of my own")

        def ready(self) -> bool:
            return True

    thrower = Thrower.remote()
    for ref in (throw.remote(), thrower.throw.remote()):
        with pytest.raises(Mine, match="of my own") as caught:
            ray.get(ref)
        assert isinstance(caught.value, TaskError)
    assert ray.get(thrower.ready.remote())


def test_several_failures_of_a_list_are_one_error_with_all_of_them() -> None:
    @ray.remote
    def odd(x: int) -> int:
        if x % 2:
            raise ValueError(f"{x} is odd")
        return x

    refs = [odd.remote(x) for x in range(12)]
    ray.wait(refs, num_returns=12, timeout=20)
    with pytest.raises(TaskError) as info:
        ray.get(refs)
    error = info.value
    assert isinstance(error, ValueError)
    assert isinstance(error, ExceptionGroup)
    assert error.label == "odd#2"
    assert [str(inner.cause) for inner in cast(Any, error).exceptions] == [
        f"{x} is odd" for x in range(1, 12, 2)
    ]
    shown = str(error)
    assert shown.startswith("1 is odd\n")
    assert shown.count("ValueError: ") == 4
    assert "in task odd#8" in shown
    assert "6 tasks failed. These are the first 4; the attribute `exceptions`" in shown
    caught = 0
    try:
        ray.get(refs)
    except* ValueError as group:
        caught = len(group.exceptions)
    assert caught == 6
    assert pickle.loads(pickle.dumps(error)).exceptions[5].label == "odd#12"


def test_one_failure_that_reaches_several_refs_is_one_failure() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("k")

    @ray.remote
    def use(x: Any) -> Any:
        return x

    refs = [use.remote(ref) for ref in [fail.remote()] * 3]
    ray.wait(refs, num_returns=3, timeout=20)
    with pytest.raises(KeyError) as info:
        ray.get(refs)
    assert not isinstance(info.value, ExceptionGroup)


def test_failures_that_cannot_form_a_group_are_the_first_failure_with_a_note() -> None:
    @ray.remote
    def miss(name: str) -> None:
        raise FileNotFoundError(2, "no such file", name)

    refs = [miss.remote(name) for name in "abc"]
    ray.wait(refs, num_returns=3, timeout=20)
    with pytest.raises(FileNotFoundError) as info:
        ray.get(refs)
    assert info.value.filename == "a"
    assert info.value.__notes__ == ["miss#2, miss#3 failed as well."]
    assert info.value._render_traceback_()[-1] == "miss#2, miss#3 failed as well."
