"""The checkers that pyproject.toml configures are satisfied."""

from __future__ import annotations

from tests.meta.sources import run


def test_ruff_finds_nothing() -> None:
    run("-m", "ruff", "check", "--no-cache", ".")


def test_mypy_in_strict_mode_finds_nothing() -> None:
    run("-m", "mypy")


def test_modules_import_from_lower_layers_only() -> None:
    run("-c", "import sys; from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])")
