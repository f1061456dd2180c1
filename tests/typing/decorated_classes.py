"""Decorated actor classes, for pyright only: mypy treats a decorated class as the class itself."""

from __future__ import annotations

from typing import Any, TypeVar, assert_type

import ipyremote as ray

T = TypeVar("T")


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start


@ray.remote(num_cpus=1)
class Box:
    def __init__(self, text: str) -> None:
        self.text = text


@ray.remote
def first(values: list[T], at: int = 0) -> T:
    return values[at]


@ray.remote
def untyped(value, times=1):
    return [value] * times


def handles() -> None:
    handle: ray.ActorHandle[Any] = Counter.remote(1)
    ray.kill(handle)
    Counter.remote("x")  # pyright: ignore[reportCallIssue, reportArgumentType]
    Box.options(num_cpus=2).remote("text")
    Box.remote()  # pyright: ignore[reportCallIssue]


def generic_functions() -> None:
    assert_type(ray.get(first.remote([1, 2])), int)
    assert_type(ray.get(first.remote(["x"], 0)), str)


def functions_without_annotations() -> None:
    assert_type(ray.get(untyped.remote("x")), list[Any])
