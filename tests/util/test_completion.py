"""`as_completed` and `map_unordered`, as in Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.util import as_completed, map_unordered
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def square(value: int) -> int:
    return value * value


@ray.remote(num_cpus=0)
def after(path: Path, value: Any) -> Any:
    until(path.exists, f"{path} exists")
    return value


@ray.remote
def fail() -> None:
    raise ValueError("no")


def test_as_completed_yields_the_values_of_all_refs() -> None:
    assert sorted(as_completed([square.remote(i) for i in range(25)])) == [i * i for i in range(25)]
    assert list(as_completed([])) == []


def test_as_completed_yields_a_late_value_last(tmp_path: Path) -> None:
    refs = [after.remote(tmp_path / "go", "late"), *(square.remote(i) for i in range(4))]
    values = as_completed(refs, chunk_size=2)
    assert {next(values) for _ in range(4)} == {0, 1, 4, 9}
    (tmp_path / "go").touch()
    assert list(values) == ["late"]


def test_as_completed_can_yield_refs_instead_of_values() -> None:
    refs = [square.remote(2), fail.remote()]
    assert set(as_completed(refs, yield_obj_refs=True)) == set(refs)
    with pytest.raises(ValueError, match="no"):
        list(as_completed(refs))


def test_as_completed_yields_only_the_ready_values_at_its_timeout(tmp_path: Path) -> None:
    ready = square.remote(3)
    ray.wait([ready])
    values = as_completed([after.remote(tmp_path / "go", "late"), ready], timeout=0.05)
    assert next(values) == 9
    (tmp_path / "go").touch()
    assert list(values) == ["late"]


def test_map_unordered_takes_items_only_as_results_arrive() -> None:
    drawn: list[int] = []

    def items() -> Any:
        for i in range(50):
            drawn.append(i)
            yield i

    values = map_unordered(square, items(), backpressure_size=5, chunk_size=2)
    assert drawn == []
    next(values)
    assert len(drawn) == 5
    rest = list(values)
    assert len(rest) == 49
    assert len(drawn) == 50
    assert sorted(map_unordered(square, range(30), backpressure_size=None)) == [i * i for i in range(30)]
    assert len(list(map_unordered(square, range(5), yield_obj_refs=True))) == 5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: as_completed([], chunk_size=0), ValueError, "chunk_size"),
        (lambda: as_completed([], num_returns=2), ValueError, "chunk_size"),  # type: ignore[call-overload]
        (lambda: as_completed([], timeuot=2), TypeError, "timeuot"),  # type: ignore[call-overload]
        (lambda: as_completed(square.remote(1)), TypeError, "list of ObjectRefs"),
        (lambda: list(as_completed([1])), TypeError, "ObjectRefs"),  # type: ignore[arg-type]
        (lambda: map_unordered(square, [], chunk_size=0), ValueError, "chunk_size"),
        (lambda: map_unordered(square, [], backpressure_size=0), ValueError, "backpressure_size"),
        (lambda: map_unordered(square, [], num_returns=0), ValueError, "chunk_size"),  # type: ignore[call-overload]
        (lambda: map_unordered(len, []), TypeError, "@remote"),
    ],
)
def test_wrong_arguments_of_as_completed_and_map_unordered_are_refused(
    call: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()
