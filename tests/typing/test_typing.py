"""Types of the public API: type checkers infer the results of `.remote` and `get`, and refuse wrong calls."""

from __future__ import annotations

import sys
from typing import get_type_hints

import pytest

from ipyremote.call_types import RemoteCall
from ipyremote.declare import options
from ipyremote.declare.options import ACTOR_OPTIONS, METHOD_OPTIONS, TASK_OPTIONS
from tests.support.checkers import run


@pytest.mark.processes
def test_mypy_accepts_the_types_of_the_examples() -> None:
    run("-m", "mypy", "--warn-unused-ignores", "tests/typing/examples.py")


@pytest.mark.processes
def test_pyright_accepts_the_types_of_the_examples() -> None:
    # Without this option pyright takes the first Python of the search path, which may lack the packages.
    run("-m", "basedpyright", "--pythonpath", sys.executable)


def test_the_type_of_a_remote_call_is_a_class_and_not_a_protocol() -> None:
    # mypy would need minutes for a file that passes `f.remote` where a callable is expected.
    assert not getattr(RemoteCall, "_is_protocol", False)


@pytest.mark.parametrize(
    ("typed", "checked"),
    [
        (options.FunctionOptions, set(TASK_OPTIONS) - {"max_calls"}),
        (options.ClassOptions, set(ACTOR_OPTIONS) - {"concurrency_groups"}),
        (options.MethodOptions, set(METHOD_OPTIONS)),
        (options.AllOptions, {*TASK_OPTIONS, *ACTOR_OPTIONS}),
    ],
)
def test_each_option_has_a_type(typed: type, checked: set[str]) -> None:
    assert checked - {"num_returns"} == set(get_type_hints(typed))
