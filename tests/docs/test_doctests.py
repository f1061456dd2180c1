"""The examples in docstrings, which run and print the shown output.

One session runs all examples, so their functions have different names: labels such as `square#1` count by name.
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
    """Return the examples of public names, of their methods, and of exceptions, by name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found: dict[str, doctest.DocTest] = {}
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
    """Object with the docstring of another object, so that doctest does not search the other object's members."""

    def __init__(self, text: str) -> None:
        self.__doc__ = text


EXAMPLES = _examples()


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """Start the session in which the examples run, with the labels that the examples show."""
    ray.shutdown()
    ray.init(num_cpus=4, namespace="examples")
    yield
    ray.shutdown()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_prints_its_shown_output(name: str) -> None:
    example = EXAMPLES[name]
    globs: dict[str, Any] = {"__name__": "__main__", "ray": ray}
    example.globs = globs
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=_FLAGS).run(example, out=report.append)
    assert failed == 0, "".join(report)
    assert ray.is_initialized(), "an example leaves the session running"
