"""Functions that the tests of pools and executors call in workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.waiting import until

__all__ = ["after", "square"]


def square(value: int) -> int:
    """Return the square of a number."""
    return value * value


def after(path: Path, value: Any = None) -> Any:
    """Report the start of the call, wait until a file exists, and return the value."""
    path.with_suffix(".began").touch()
    until(path.exists, f"{path} exists")
    return value
