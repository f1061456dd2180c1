"""The shape of the source tree: one config file, a docstring and a clear name for each module, no open to-dos."""

from __future__ import annotations

import ast
import re
import tomllib
from fnmatch import fnmatch

from tests.support.sources import PACKAGE, ROOT, modules, relative, syntax

SHAPELESS = {"utils", "util_", "helpers", "common", "misc", "manager", "base", "core_utils"}
OTHER_CONFIG = [
    "setup.py",
    "setup.cfg",
    "tox.ini",
    "pytest.ini",
    "mypy.ini",
    ".mypy.ini",
    "ruff.toml",
    ".ruff.toml",
    ".importlinter",
    ".coveragerc",
    ".flake8",
]
OWN = [*modules(), *modules(ROOT / "tests")]


def test_each_module_has_a_docstring() -> None:
    silent = [path for path in OWN if syntax(path).body and not ast.get_docstring(syntax(path))]
    assert [] == [relative(path) for path in silent]


def test_no_file_has_an_open_to_do() -> None:
    marks = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    assert [] == [relative(path) for path in OWN if marks.search(path.read_text())]


def test_no_module_has_a_name_without_a_meaning() -> None:
    parts = {
        path: {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts} for path in modules()
    }
    assert [] == [relative(path) for path, names in parts.items() if names & SHAPELESS]


def test_each_directory_of_the_package_is_a_package() -> None:
    assert [] == [relative(path.parent) for path in modules() if not (path.parent / "__init__.py").exists()]


def test_pyproject_is_the_only_config_file() -> None:
    assert [] == [name for name in OTHER_CONFIG if (ROOT / name).exists()]


def test_files_that_are_not_python_are_shipped() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = config["tool"]["hatch"]["build"]["targets"]["wheel"]["artifacts"]
    others = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    shipped = [path for path in others if any(fnmatch(relative(path), pattern) for pattern in patterns)]
    assert (PACKAGE / "py.typed") in others
    assert {PACKAGE / "py.typed", *shipped} == set(others)
    assert {".js", ".css"} <= {path.suffix for path in shipped}


def test_each_extra_of_the_readme_exists() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = set(re.findall(r"\"\.\[(\w+)\]\"", (ROOT / "README.md").read_text()))
    assert {"lab", "test"} <= asked <= set(config["project"]["optional-dependencies"])
