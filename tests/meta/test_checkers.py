"""The checkers that pyproject.toml configures are satisfied."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.sources import ROOT

pytestmark = pytest.mark.processes


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


def test_ruff_finds_nothing() -> None:
    run("-m", "ruff", "check", "--no-cache", ".")


def test_every_file_is_formatted() -> None:
    run("-m", "ruff", "format", "--check", "--no-cache", ".")


def test_mypy_in_strict_mode_finds_nothing() -> None:
    run("-m", "mypy")


def test_modules_import_from_lower_layers_only() -> None:
    run("-c", "import sys; from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])")
