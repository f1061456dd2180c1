"""The checkers that pyproject.toml configures, each run as a test."""

from __future__ import annotations

import pytest

from tests.support.checkers import run

pytestmark = pytest.mark.processes


def test_ruff_finds_nothing() -> None:
    run("-m", "ruff", "check", "--no-cache", ".")


def test_each_file_is_formatted() -> None:
    run("-m", "ruff", "format", "--check", "--no-cache", ".")


@pytest.mark.timeout(300)  # the package and all tests, perhaps without a cache
def test_mypy_in_strict_mode_finds_nothing() -> None:
    run("-m", "mypy")


def test_modules_import_from_lower_layers_only() -> None:
    run("-c", "import sys; from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])")
