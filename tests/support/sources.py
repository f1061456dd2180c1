"""Where the project's own files are, for the tests of its rules."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "modules", "top_level"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ipyremote"


def modules(where: Path = PACKAGE) -> list[Path]:
    """Every Python file there."""
    return sorted(path for path in where.rglob("*.py") if "__pycache__" not in path.parts)


def top_level() -> list[str]:
    """Names of the modules and packages right inside `ipyremote`."""
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    return sorted(names - {"__init__"})
