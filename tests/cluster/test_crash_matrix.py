"""The crash matrix as data: {killed, exit, sys.exit, raise} x {place of the crash} -> the error of the caller.

All cases run in one session, whose CPUs must all be free again after each case.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.support import leaks
from tests.support.waiting import until

End = Callable[[], Any]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_at_once() -> None:
    os._exit(3)


def sys_exit() -> None:
    sys.exit(4)


def fail() -> None:
    raise ZeroDivisionError("no")


@pytest.fixture(scope="module")
def shared() -> Iterator[None]:
    with leaks.leakless():
        ray.init(num_cpus=2, object_store_memory=64 << 20)
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def _unharmed(shared: None) -> Iterator[None]:
    yield
    until(lambda: ray.available_resources().get("CPU") == 2.0, "both CPUs are free")


class WhenPickled:
    """Object that crashes while the object is being pickled."""

    def __init__(self, end: End) -> None:
        self.end = end

    def __reduce__(self) -> Any:
        self.end()
        return (int, (0,))


class WhenUnpickled:
    """Object that crashes the process that unpickles the object."""

    def __init__(self, end: End) -> None:
        self.end = end

    def __reduce__(self) -> Any:
        return (self.end, ())


@ray.remote(max_retries=0)
def task(before: Any, end: End | None, wrap: Any) -> Any:
    if end is not None and wrap is None:
        end()
    return wrap(end) if wrap is not None else before


class Plain:
    """Actor that crashes in its `__init__` or in a method."""

    def __init__(self, end: End | None) -> None:
        if end is not None:
            end()

    def call(self, end: End, wrap: Any = None) -> Any:
        if wrap is None:
            end()
            return None
        return wrap(end)


Actor = ray.remote(Plain)


def in_a_function_that_is_unpickled(end: End) -> Any:
    held = WhenUnpickled(end)

    @ray.remote(max_retries=0)
    def uses_it() -> Any:
        return held

    return uses_it.remote()


#: Place of the crash in a worker -> function that returns the ref of the result, and the error if the process dies.
IN_A_TASK: dict[str, Callable[[End], Any]] = {
    "unpickling the function": in_a_function_that_is_unpickled,
    "unpickling an argument": lambda end: task.remote(WhenUnpickled(end), None, None),
    "unpickling a dependency": lambda end: task.remote(ray.put(WhenUnpickled(end)), None, None),
    "running": lambda end: task.remote(None, end, None),
    "pickling the result": lambda end: task.remote(None, end, WhenPickled),
}
IN_AN_ACTOR: dict[str, Callable[[End], Any]] = {
    "unpickling an argument of the creation": lambda end: Actor.remote(WhenUnpickled(end)).call.remote(int),  # type: ignore[call-overload]
    "running __init__": lambda end: Actor.remote(end).call.remote(int),
    "unpickling an argument of a method": lambda end: Actor.remote(None).call.remote(WhenUnpickled(end)),
    "running a method": lambda end: Actor.remote(None).call.remote(end),
    "pickling the result of a method": lambda end: Actor.remote(None).call.remote(end, WhenPickled),
}
#: Way in which the process ends -> text of the error.
DEATHS: list[tuple[End, str]] = [
    (kill, r"signal 9 \(SIGKILL\)"),
    (exit_at_once, "exit code 3"),
    (sys_exit, "exit code 4"),
]


@pytest.mark.parametrize(("end", "reason"), DEATHS, ids=["killed", "exit", "sys.exit"])
@pytest.mark.parametrize("place", IN_A_TASK)
def test_a_task_whose_worker_dies_fails_as_crashed_with_the_reason(place: str, end: End, reason: str) -> None:
    with pytest.raises(exceptions.WorkerCrashedError, match=reason) as caught:
        ray.get(IN_A_TASK[place](end), timeout=30)
    assert "(pid " in str(caught.value)


@pytest.mark.parametrize(("end", "reason"), DEATHS, ids=["killed", "exit", "sys.exit"])
@pytest.mark.parametrize("place", IN_AN_ACTOR)
def test_an_actor_whose_worker_dies_is_dead_with_the_reason(place: str, end: End, reason: str) -> None:
    with pytest.raises(exceptions.ActorDiedError, match=reason):
        ray.get(IN_AN_ACTOR[place](end), timeout=30)


@pytest.mark.parametrize("place", IN_A_TASK)
def test_an_exception_in_a_task_reaches_the_caller_and_the_worker_continues(place: str) -> None:
    if place == "pickling the result":
        expected: tuple[type[Exception], str] = (TypeError, "Could not serialize value")
    else:
        expected = (ZeroDivisionError, "no")
    with pytest.raises(expected[0], match=expected[1]) as caught:
        ray.get(IN_A_TASK[place](fail), timeout=30)
    assert isinstance(caught.value, exceptions.TaskError)


@pytest.mark.parametrize("place", IN_AN_ACTOR)
def test_an_exception_in_an_actor_reaches_the_caller(place: str) -> None:
    expected: type[Exception] = ZeroDivisionError
    if "creation" in place or "__init__" in place:
        expected = exceptions.ActorDiedError
    elif place.startswith("pickling"):
        expected = TypeError
    with pytest.raises(expected, match="no"):
        ray.get(IN_AN_ACTOR[place](fail), timeout=30)


def test_an_exception_in_the_driver_is_raised_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"Could not serialize args\[0\].*no"):
        task.remote(WhenPickled(fail), None, None)
    with pytest.raises(TypeError, match=r"Could not serialize value.*no"):
        ray.put(WhenPickled(fail))
    ref = ray.put(WhenUnpickled(fail))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="no"):
            ray.get(ref, timeout=30)
