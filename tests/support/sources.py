"""The paths and syntax trees of the project's own files, for the tests of the project's rules."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "module_name", "modules", "relative", "syntax", "top_level"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ipyremote"


def modules(where: Path = PACKAGE) -> list[Path]:
    """Return the path of each Python file in a folder."""
    return sorted(path for path in where.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    """Return the name of a file as an imported module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def relative(path: Path) -> str:
    """Return a path relative to the project's root."""
    return str(path.relative_to(ROOT))


@cache
def syntax(path: Path) -> ast.Module:
    """Return the syntax tree of a file; each file is parsed only once."""
    return ast.parse(path.read_text())


def top_level() -> list[str]:
    """Return the names of the modules and packages at the top level of `ipyremote`."""
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    return sorted(names - {"__init__"})
