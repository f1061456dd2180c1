"""Programs whose types mypy and pyright check. Only the checkers read this file; it is never run.

`assert_type` states the expected type. A line with an ignore comment has a mistake that the checker named in the
comment must find: an ignore comment that hides no mistake is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, assert_type

import ipyremote as ray
from ipyremote.actor import ActorMethod
from ipyremote.exceptions import TaskError
from ipyremote.util import as_completed, map_unordered

# ---- functions


@ray.remote
def scale(x: int, factor: float = 2.0, *, unit: str = "m") -> float:
    return x * factor


@ray.remote
def length(text: str) -> int:
    return len(text)


@ray.remote
def pair() -> tuple[int, str]:
    return 1, "one"


@ray.remote(num_cpus=2, max_retries=0)
def total(values: list[float]) -> float:
    return sum(values)


@ray.remote
def every(*numbers: int, **names: str) -> None: ...


@ray.remote
def optional(number: int | None = None) -> dict[str, Any]:
    return {"number": number}


def plain(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int) -> int:
    return a + b + c + d + e + f + g + h


def results() -> None:
    ref = length.remote("four")
    assert_type(ref, ray.ObjectRef[int])
    assert_type(ray.get(ref), int)
    assert_type(ray.get(ref, timeout=1.0), int)
    assert_type(ray.get([ref, ref]), list[int])
    assert_type(ray.get(pair.remote()), tuple[int, str])
    assert_type(ray.get(optional.remote()), dict[str, Any])
    assert_type(ray.get(every.remote(1, 2, name="n")), None)
    assert_type(ray.get(total.remote([1, 2])), float)
    assert_type(ref.future().result(), int)
    assert_type(ray.remote(length_of).remote("x"), ray.ObjectRef[int])
    assert_type(ray.remote(num_gpus=1)(length_of).remote("x"), ray.ObjectRef[int])


def length_of(text: str) -> int:
    return len(text)


async def awaited() -> None:
    assert_type(await length.remote("four"), int)


def values_as_arguments() -> None:
    scale.remote(1)
    scale.remote(1, 2, unit="km")
    scale.remote(x=1, factor=3.0)
    scale.remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scale.remote()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scale.remote(1, 2.0, "km")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scale.remote(1, units="km")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scale.remote(1, unit=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    pair.remote(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    total.remote(["x"])  # type: ignore[list-item]  # pyright: ignore[reportCallIssue, reportArgumentType]
    optional.remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scale(1)  # a direct call of a remote function always raises, so its type is NoReturn


def refs_as_arguments() -> None:
    one = length.remote("x")
    scale.remote(one)
    scale.remote(one, 3.0, unit="km")
    scale.remote(one, scale.remote(one))
    scale.remote(1, one)
    optional.remote(one)
    every.remote(one, one, 3)
    ray.remote(plain).remote(one, 2, one, 4, one, 6, one, one)
    assert_type(ray.get(scale.remote(ray.put(3))), float)
    scale.remote(pair.remote())  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    scale.remote(1, pair.remote())  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    # A limit of the types: a ref by keyword is refused. Pass the ref by position.
    scale.remote(x=one)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def calls_as_callables() -> None:
    # Comparing such a call with other callables takes a checker no more than a moment.
    assert_type(inspect.signature(scale.remote), inspect.Signature)
    apply: Callable[..., object] = scale.remote
    for function in (scale, scale.remote, length.remote, apply):
        str(function)


# ---- several results, none, and streams


@ray.remote(num_returns=2)
def two(x: int) -> tuple[int, str]:
    return x, str(x)


@ray.remote(num_returns=0)
def silent(x: int) -> None: ...


@ray.remote
def count(n: int) -> Iterator[int]:
    yield from range(n)


@ray.remote
def generate(n: int) -> Generator[str, None, None]:
    yield from map(str, range(n))


@ray.remote(num_returns="streaming")
def streamed(n: int) -> Iterator[bytes]:
    yield b""


def numbers_of_results() -> None:
    assert_type(two.remote(1), list[ray.ObjectRef[Any]])
    _first, _second = two.remote(1)
    two.remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(two.options(num_cpus=2).remote(1), list[ray.ObjectRef[Any]])
    assert_type(length.options(num_returns=3).remote("x"), list[ray.ObjectRef[Any]])
    assert_type(length.options(num_returns=1).remote("x"), ray.ObjectRef[int])
    assert_type(length.options(num_cpus=2, name="other").remote("x"), ray.ObjectRef[int])
    length.options(num_cpus=2).remote(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    length.options(num_cpus="two")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    length.options(cpus=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def streams() -> None:
    assert_type(count.remote(3), ray.ObjectRefGenerator[int])
    assert_type(generate.remote(3), ray.ObjectRefGenerator[str])
    assert_type(streamed.remote(3), ray.ObjectRefGenerator[bytes])
    assert_type(count.options(num_cpus=1).remote(3), ray.ObjectRefGenerator[int])
    assert_type(count.options(num_returns="streaming").remote(3), ray.ObjectRefGenerator[int])
    assert_type(count.options(num_returns="dynamic").remote(3), ray.ObjectRef[ray.DynamicObjectRefGenerator])
    for ref in count.remote(length.remote("x")):
        assert_type(ray.get(ref), int)
    assert_type(ray.get(count.remote(3).completed()), None)
    assert_type(next(generate.remote(1)), ray.ObjectRef[str])
    assert_type(ray.get(count.remote(3)), ray.ObjectRefGenerator[int])


async def streams_awaited() -> None:
    async for ref in count.remote(3):
        assert_type(await ref, int)


# ---- the functions on refs


def waiting() -> None:
    refs = [length.remote("x"), length.remote("y")]
    ready, rest = ray.wait(refs, num_returns=1)
    assert_type(ready, list[ray.ObjectRef[int]])
    assert_type(rest, list[ray.ObjectRef[int]])
    ready_streams, _ = ray.wait([count.remote(1)])
    assert_type(ready_streams, list[ray.ObjectRefGenerator[int]])
    ray.wait([length.remote("x"), count.remote(1)])
    ray.wait(refs[0])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ray.get(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ray.get((refs[0],))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ray.cancel(length_of)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(ray.put([1]), ray.ObjectRef[list[int]])
    assert_type(refs[0] + 1, ray.ObjectRef[Any])


def completed() -> None:
    refs = [length.remote("x")]
    assert_type(list(as_completed(refs)), list[int])
    assert_type(list(as_completed(refs, yield_obj_refs=True)), list[ray.ObjectRef[int]])
    assert_type(list(map_unordered(length, ["x"])), list[int])
    assert_type(list(map_unordered(length, ["x"], yield_obj_refs=True)), list[ray.ObjectRef[int]])


# ---- actors


class Counter:
    LEAST = 0

    def __init__(self, start: int = 0) -> None:
        self.value = start

    @ray.method
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @ray.method(num_returns=2)
    def halves(self) -> tuple[int, int]:
        return self.value // 2, self.value - self.value // 2


RemoteCounter = ray.remote(Counter)


def actors() -> None:
    handle = RemoteCounter.remote(1)
    assert_type(handle, ray.ActorHandle[Counter])
    assert_type(RemoteCounter.options(name="counter").remote(start=1), ray.ActorHandle[Counter])
    assert_type(ray.remote(num_cpus=1)(Counter).remote(), ray.ActorHandle[Counter])
    RemoteCounter.remote(length.remote("x"))
    RemoteCounter.remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    RemoteCounter.options(num_cpus=1).remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    RemoteCounter.options(lifetimes="detached")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    annotated: ray.ActorHandle[Counter] = handle
    ray.kill(annotated)
    ray.kill(length.remote("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Counter(3).add(1), int)


def methods() -> None:
    handle = RemoteCounter.remote()
    # A handle has only names of methods, so its methods accept and return any type ...
    assert_type(handle.add.remote("anything"), Any)
    for part in handle.halves.remote():
        ray.get(part)
    # ... unless an annotation gives the class.
    add: ActorMethod[[int], int] = handle.add
    assert_type(ray.get(add.remote(1)), int)
    assert_type(ray.get(add.options(name="plus").remote(length.remote("x"))), int)
    assert_type(add.options(num_returns=2).remote(1), list[ray.ObjectRef[Any]])
    add.remote("x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


# ---- annotations that users write


def applied(function: ray.RemoteFunction[[int], float], value: int) -> ray.ObjectRef[float]:
    return function.remote(value)


def doubled(numbers: list[ray.ObjectRef[int]]) -> list[int]:
    return [2 * number for number in ray.get(numbers)]


def failed(ref: ray.ObjectRef[int]) -> str:
    try:
        return str(ray.get(ref))
    except TaskError as error:
        return assert_type(error.label, str)
