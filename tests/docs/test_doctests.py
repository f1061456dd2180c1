"""The examples in the docstrings run, and print what they say.

One session runs them all, so their functions have different names: labels such as `square#1` count by name.
"""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from tests.support.public import exception_classes, public_objects

pytestmark = pytest.mark.processes

_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def _examples() -> dict[str, doctest.DocTest]:
    """Return the examples by name: those of public names, of their methods, and of exceptions."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {}
    for name, value in {**public_objects(), **exception_classes()}.items():
        inner = vars(value) if inspect.isclass(value) else {}
        members = {f"{name}.{key}": member for key, member in inner.items() if not key.startswith("_")}
        for key, target in {name: value, **members}.items():
            text = inspect.getdoc(target) or ""
            if ">>> " in text and not any(test.docstring == text for test in found.values()):
                (test,) = finder.find(_Explained(text), key, module=False, globs={"__name__": "__main__"})
                found[key] = test
    return found


class _Explained:
    """An object with the docstring of another one, which doctest need not look into."""

    def __init__(self, text: str) -> None:
        self.__doc__ = text


EXAMPLES = _examples()


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """The session in which the examples run, which has the labels that they show."""
    ray.shutdown()
    ray.init(num_cpus=4, namespace="examples")
    yield
    ray.shutdown()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_prints_what_it_says(name: str) -> None:
    example = EXAMPLES[name]
    globs: dict[str, Any] = {"__name__": "__main__", "ray": ray}
    example.globs = globs
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=_FLAGS).run(example, out=report.append)
    assert failed == 0, "".join(report)
    assert ray.is_initialized(), "an example leaves the session running"
