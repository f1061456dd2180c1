"""Code above the door never asks which engine runs the work: `Capabilities` and optional parts describe the engine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ipyremote.backend import Backend
from ipyremote.backend.registry import Engine
from ipyremote.backends import local
from ipyremote.backends.inline import backend as inline
from ipyremote.client.session import Session
from tests.support.sources import PACKAGE, modules, relative, syntax

#: Modules and packages above the door, as names inside `ipyremote`.
ABOVE = {
    "__init__",
    "actor",
    "api",
    "cloudpickle",
    "compat",
    "internal",
    "notebook",
    "refs",
    "remote",
    "runtime_context",
    "session",
    "streams",
    "util",
}
PROBES = {"getattr", "hasattr", "isinstance", "issubclass", "type"}


def _is_backend(node: ast.expr) -> bool:
    """Return whether an expression looks like a backend: `backend`, `ref._backend`, `current.peek()` and the like."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_") == "backend"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="current"), attr="peek" | "backend")):
            return True
        case ast.Call(func=ast.Name(id="owner"), args=[_]):
            return True
    return False


def _probes(module: Path) -> Iterator[str]:
    for node in ast.walk(syntax(module)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in PROBES and _is_backend(first):
                yield f"{relative(module)}:{node.lineno} asks a backend by {name}()"


def test_no_code_above_the_door_probes_a_backend() -> None:
    above = [path for path in modules() if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in ABOVE]
    assert len(above) > 60
    assert [] == [probe for path in above for probe in _probes(path)]


def test_the_search_for_probes_finds_a_probe() -> None:
    found = ast.parse("getattr(self._backend, 'x', None)\nisinstance(current.peek(), Session)").body
    assert all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) for line in found)
    assert all(_is_backend(line.value.args[0]) for line in found)  # type: ignore[attr-defined]


def test_engines_of_the_package_satisfy_the_protocols_of_the_door() -> None:
    # mypy checks the types, because mypy reads the tests too.
    engines: list[Engine] = [local.ENGINE, inline.ENGINE]
    backends: list[type[Backend]] = [Session, inline.InlineBackend]
    assert ["local", "inline"] == [engine.capabilities.engine for engine in engines]
    assert all(hasattr(kind, "submit") for kind in backends)
