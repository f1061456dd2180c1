"""The argument `keep_alive` of `init`; the other arguments are tested through `init`."""

from __future__ import annotations

from typing import Any

import pytest

import ipyremote as ray
from ipyremote.session.init_arguments import seconds_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (0, None),
        ("0s", None),
        (90, 90.0),
        (0.5, 0.5),
        ("90s", 90.0),
        ("10m", 600.0),
        (" 1h 30m ", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
    ],
)
def test_durations_are_numbers_or_texts(given: Any, expected: float | None) -> None:
    assert expected == seconds_of(given)


@pytest.mark.parametrize(
    "given", ["", "10", "10 minutes", "m", "1h30", "-5s", -1, float("inf"), float("nan")]
)
def test_a_wrong_duration_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="keep_alive"):
        seconds_of(given)


@pytest.mark.parametrize("given", [True, [1], b"10m"])
def test_a_duration_of_another_type_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="keep_alive"):
        seconds_of(given)


def test_an_inline_session_cannot_outlive_its_process() -> None:
    with pytest.raises(ValueError, match="keep_alive needs worker processes"):
        ray.init(backend="inline", keep_alive="10m")
    assert not ray.is_initialized()
