"""Packages that tests install without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ["make_wheel", "slow_package"]


def make_wheel(directory: Path, name: str, version: str, *, requires: str = "") -> Path:
    """Write a wheel with one module of this name, which has a VERSION, and return its path."""
    wheel = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD")))
    return wheel


def slow_package(directory: Path, *, seconds: float) -> Path:
    """Write the source of a package that is slow to build; the build writes its process id to the file `building`."""
    source = directory / "slow"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1.0"\n'
    )
    (source / "backend.py").write_text(
        "import os, time\n"
        "def build_wheel(*args, **kwargs):\n"
        f"    open({str(directory / 'building')!r}, 'w').write(str(os.getpid()))\n"
        f"    time.sleep({seconds})\n"
        "prepare_metadata_for_build_wheel = build_wheel\n"
    )
    return source
