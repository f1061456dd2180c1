"""Calls of user code, and their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ipyremote.backend import TaskOptions
from ipyremote.engine_kit.failures import PickledFailure, exception_of
from ipyremote.engine_kit.outcomes import Outcome, PickledValue, outcomes_of, value_of
from ipyremote.serialization.pickling import loads_inline


def run(fn: Callable[..., Any], *args: Any, **options: Any) -> list[Outcome]:
    return outcomes_of(lambda: (fn, args, {}), "f#1", TaskOptions(**options), lambda any_id: None)


def values(outcomes: list[Outcome]) -> list[Any]:
    assert all(isinstance(outcome, PickledValue) for outcome in outcomes)
    return [loads_inline(outcome) for outcome in outcomes]  # type: ignore[arg-type]  # asserted above


def error(outcomes: list[Outcome]) -> BaseException:
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], PickledFailure)
    return exception_of(outcomes[0])


@pytest.mark.parametrize(("returns", "expected"), [(0, []), (1, [(1, 2)]), (2, [1, 2])])
def test_a_result_has_as_many_outcomes_as_the_call_has_returns(returns: int, expected: list[Any]) -> None:
    assert values(run(lambda: (1, 2), returns=returns)) == expected


def test_a_generator_gives_its_first_values_and_a_note_on_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def three() -> Iterator[int]:
        yield from range(3)

    assert values(run(three, returns=2)) == [0, 1]
    assert capsys.readouterr().err == "f#1 yielded 3 values, but num_returns=2: the rest is dropped.\n"


def test_a_wrong_number_of_items_is_one_failure_for_all_returns() -> None:
    failed = run(lambda: [1, 2, 3], returns=2)
    assert len(failed) == 2
    assert "Task returned 3 objects, but num_returns=2." in str(error(failed))


def test_a_failure_is_retried_as_often_as_the_options_say() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise KeyError("k")

    assert isinstance(error(run(fail, max_retries=2, retry_exceptions=(KeyError,))), KeyError)
    assert len(calls) == 3
    run(fail, max_retries=2, retry_exceptions=(ValueError,))
    assert len(calls) == 4
    run(fail, max_retries=2)
    assert len(calls) == 5


def test_an_exception_while_arguments_are_prepared_fails_the_task() -> None:
    def prepare() -> Any:
        raise OSError("no arguments")

    assert isinstance(error(outcomes_of(prepare, "f#1", TaskOptions(), lambda any_id: None)), OSError)


def test_a_system_exit_of_user_code_is_left_to_the_engine() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run(leave, max_retries=5, retry_exceptions=True)


def test_a_coroutine_is_awaited_and_its_failure_shows_no_event_loop() -> None:
    async def half(x: int) -> float:
        await asyncio.sleep(0)
        return 1 / x

    with asyncio.Runner() as runner:
        for x in (2, 0):
            found = outcomes_of(
                partial(lambda call: call, (half, (x,), {})),
                "f#1",
                TaskOptions(),
                lambda any_id: None,
                run_coroutine=runner.run,
            )
            if x:
                assert values(found) == [0.5]
            else:
                assert [frame.function for frame in error(found).frames] == ["half"]  # type: ignore[attr-defined]


def test_a_value_in_one_piece_contains_its_buffers() -> None:
    value = value_of([1, b"x" * 200_000])
    assert loads_inline(value) == [1, b"x" * 200_000]
