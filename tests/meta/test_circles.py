"""Search for circles of imports: no two modules import each other, directly or indirectly, not even for types.

Imports inside functions do not count, because they run only when the function is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.sources import module_name, modules, syntax

#: Existing circles. A broken circle must be removed from the list; no circle may be added.
STILL: set[frozenset[str]] = set()


def at_module_level(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a module outside of functions, including imports under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import() | ast.ImportFrom():
                yield child
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.expr():
                pass
            case _:
                yield from at_module_level(child)


def imported(path: Path, names: set[str]) -> set[str]:
    """Return the names of modules of ipyremote that a file imports."""
    found: set[str] = set()
    for node in at_module_level(syntax(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            full = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
            found.update(name if name in names else module for name, module in full)
    return found & names - {module_name(path)}


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the strongly connected components of more than one module (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.add(frozenset(component))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    names = {module_name(path) for path in modules()}
    graph = {module_name(path): imported(path, names) for path in modules()}
    assert sum(map(len, graph.values())) > 500
    found = circles(graph)
    assert [] == [sorted(circle) for circle in found - STILL], "these import each other"
    assert [] == [sorted(circle) for circle in STILL - found], "this circle is broken: take it from STILL"


def test_the_search_finds_a_circle_of_imports() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set(), "e": {"f", "a"}, "f": {"e"}}
    assert circles(graph) == {frozenset("abc"), frozenset("ef")}
