"""Where the project's own files are, for the tests of its rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["PACKAGE", "ROOT", "modules", "run", "top_level"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ipyremote"


def modules(where: Path = PACKAGE) -> list[Path]:
    """Every Python file there."""
    return sorted(path for path in where.rglob("*.py") if "__pycache__" not in path.parts)


def top_level() -> list[str]:
    """Names of the modules and packages right inside `ipyremote`."""
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    return sorted(names - {"__init__"})


def run(*command: str) -> None:
    """Run a checker of this Python's environment at the root; its output is the failure."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
