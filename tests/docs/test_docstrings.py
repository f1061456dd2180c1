"""Docstrings of public names: each has numpy's form, with parameters, returned value and an example."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from tests.support.public import exception_classes, public_objects

OBJECTS = public_objects()
FUNCTIONS = {name: value for name, value in OBJECTS.items() if not inspect.isclass(value)}
CLASSES = {name: value for name, value in OBJECTS.items() if inspect.isclass(value)}
#: Classes whose instances only other public functions make, never users.
MADE_ELSEWHERE = {
    "ActorClass",
    "ActorHandle",
    "ClusterContext",
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
}
#: Exceptions that programs often meet, each of which needs an example.
MAIN_ERRORS = {
    "ActorDiedError",
    "GetTimeoutError",
    "IPyRemoteError",
    "ObjectFreedError",
    "TaskCancelledError",
    "TaskError",
    "WorkerCrashedError",
}
_UNDERLINED = re.compile(r"^(\w[\w ]*)\n(-+)$", re.MULTILINE)


def sections(value: Any) -> dict[str, str]:
    """Return the sections of a docstring by title; the text before the first section has the empty title."""
    text = inspect.getdoc(value) or ""
    parts = _UNDERLINED.split(text)
    return {"": parts[0], **dict(zip(parts[1::3], parts[3::3], strict=True))}


def missing_parameters(value: Any) -> list[str]:
    """Return the parameters of a function that its docstring does not explain."""
    text = sections(value).get("Parameters", "")
    explained = {
        name.strip().lstrip("*")
        for line in re.findall(r"^(\S[^:\n]*?)(?: : .*)?$", text, re.MULTILINE)
        for name in line.split(",")
    }
    names = [name for name in inspect.signature(value).parameters if not name.startswith("_")]
    return [name for name in names if name != "self" and name not in explained]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_of_a_function_is_complete(name: str) -> None:
    value = FUNCTIONS[name]
    found = sections(value)
    assert [] == missing_parameters(value)
    result = inspect.signature(value).return_annotation
    assert ("Returns" in found or "Yields" in found) == (result not in (None, "None"))
    assert ">>> " in found["Examples"]


@pytest.mark.parametrize("name", CLASSES)
def test_the_docstring_of_a_class_is_complete(name: str) -> None:
    value = CLASSES[name]
    assert ">>> " in sections(value)["Examples"]
    is_record = "Attributes" in sections(value)
    if value.__name__ not in MADE_ELSEWHERE and not is_record:
        assert [] == missing_parameters(value)


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_method_of_a_class_has_a_docstring(name: str) -> None:
    own = {
        key: getattr(value, "__func__", value)
        for kind in CLASSES[name].__mro__
        if kind.__module__.startswith("ipyremote")
        for key, value in vars(kind).items()
    }
    public = [key for key, value in own.items() if not key.startswith("_") and inspect.isroutine(value)]
    assert [] == [key for key in public if not inspect.getdoc(getattr(CLASSES[name], key))]


@pytest.mark.parametrize("name", [*OBJECTS, *exception_classes()])
def test_the_first_line_of_a_docstring_is_one_sentence(name: str) -> None:
    value = {**OBJECTS, **exception_classes()}[name]
    first, _, rest = (inspect.getdoc(value) or "").partition("\n")
    assert first.endswith(".")
    assert not rest or rest.startswith("\n")


@pytest.mark.parametrize("name", exception_classes())
def test_the_docstring_of_an_exception_says_when_it_is_raised_and_main_exceptions_have_an_example(
    name: str,
) -> None:
    value = exception_classes()[name]
    assert "__doc__" in vars(value), "a docstring of its own"
    assert (inspect.getdoc(value) or "").startswith(("Raised ", "Base "))
    if name in MAIN_ERRORS:
        assert ">>> " in sections(value)["Examples"]
