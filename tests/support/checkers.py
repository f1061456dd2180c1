"""Checkers (ruff, mypy, pyright ...) run as tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.sources import ROOT

__all__ = ["run"]


def run(*command: str) -> None:
    """Run a checker of this Python's environment at the root; fail with the checker's output."""
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
