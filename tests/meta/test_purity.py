"""The purity of the core with respect to names that need no import. import-linter checks the imports."""

from __future__ import annotations

import ast

from tests.support.sources import PACKAGE, modules

#: Builtins that read or change the outside of the core, and builtins that run text as code.
IMPURE = {"__import__", "breakpoint", "compile", "eval", "exec", "exit", "input", "open", "print", "quit"}
#: Names of `sys` that the core may use, because they neither read nor change anything outside.
FROM_SYS = {"intern", "maxsize"}


def test_the_core_calls_no_builtin_that_reaches_outside() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.id}"
        for path in modules(PACKAGE / "core")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id in IMPURE
    ]
    assert [] == found


def test_the_core_takes_only_harmless_names_from_sys() -> None:
    found = []
    for path in modules(PACKAGE / "core"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module="sys", names=names):
                    found += [
                        f"{path.relative_to(PACKAGE)}: {name.name}"
                        for name in names
                        if name.name not in FROM_SYS
                    ]
                case ast.Attribute(value=ast.Name(id="sys"), attr=attr) if attr not in FROM_SYS:
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: sys.{attr}")
                case _:
                    pass
    assert [] == found


def test_no_code_splits_a_label_into_its_parts() -> None:
    """A label is a name and a number; a name may contain any character, "#" included."""
    cutters = {"partition", "rpartition", "split", "rsplit", "find", "rfind", "index", "rindex"}
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in cutters
        and any(isinstance(argument, ast.Constant) and argument.value == "#" for argument in node.args)
    ]
    assert [] == found
