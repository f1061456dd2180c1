"""The core is pure, as far as names that need no import go. The imports themselves are a contract of import-linter."""

from __future__ import annotations

import ast

from tests.support.sources import PACKAGE, modules

#: Builtins that reach out of the core, and those that run text as code.
IMPURE = {"__import__", "breakpoint", "compile", "eval", "exec", "exit", "input", "open", "print", "quit"}
#: What the core may take from `sys`: neither reads nor changes anything outside.
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


def test_nobody_takes_a_label_apart() -> None:
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
