"""Copies of directories, archives and modules as they are when an environment asks for them.

Copies lie in the session's directory, and are removed with it. A copy is named by the paths, sizes and times of change
of its source, so there is one copy of each state, however many tasks and processes ask for it, and edited files make
another copy. Processes share a copy, including the files that they write there, as in Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ipyremote.client.exclusions import Exclusions

__all__ = ["copy_module", "copy_working_dir", "fingerprint"]

#: Largest size of a copy, in bytes, as in Ray.
LIMIT_BYTES: Final = 500 << 20
#: Names of files and directories that are left out at any depth, as in Ray.
EXCLUDED_NAMES: Final = (".git", ".venv", "venv", "__pycache__")
_IGNORE_FILE: Final = ".gitignore"
#: Number of large files that the error about too large a copy names.
_FILES_IN_ERROR: Final = 3
#: Directories in a wheel's data whose files an installer puts beside the modules.
_WHEEL_DATA: Final = ("purelib", "platlib")


class _File(NamedTuple):
    #: Path relative to the copied directory.
    path: str
    #: Size in bytes.
    size: int
    #: Time of the last change, in nanoseconds.
    changed: int
    mode: int


def copy_working_dir(path: Path, place: Path, excludes: Sequence[str]) -> Path:
    """Return a copy of a directory or of a .zip file's content. Raises OSError, and ValueError if it is too large."""
    if path.is_dir():
        return _copy_directory(path, place, excludes, "working_dir", "")
    return _copy_archive(path, place, "working_dir")


def copy_module(path: Path, place: Path, excludes: Sequence[str]) -> Path:
    """Return a directory with a copy of a package, a .py file, or a wheel's content. Raises OSError and ValueError."""
    if path.is_dir():
        return _copy_directory(path, place, excludes, "py_modules", path.name)
    if path.suffix == ".whl":
        return _copy_archive(path, place, "py_modules")
    status = path.stat()
    file = _File(path.name, status.st_size, status.st_mtime_ns, status.st_mode)
    return _ensure_copy(
        place, _digest(path.parent, [file], ""), lambda into: _copy_files(path.parent, [file], into)
    )


def fingerprint(path: Path) -> str:
    """Return digits that change with the file or directory at a path."""
    if path.is_dir():
        return _digest(path, sorted(_files(path, Exclusions(EXCLUDED_NAMES))), "")
    status = path.stat()
    return _digest(path, [_File("", status.st_size, status.st_mtime_ns, status.st_mode)], "")


def _copy_directory(path: Path, place: Path, excludes: Sequence[str], option: str, below: str) -> Path:
    files = sorted(_files(path, Exclusions((*EXCLUDED_NAMES, *excludes))))
    _check_size(option, path, [(file.size, file.path) for file in files])
    return _ensure_copy(
        place, _digest(path, files, below), lambda into: _copy_files(path, files, into / below)
    )


def _copy_archive(path: Path, place: Path, option: str) -> Path:
    status = path.stat()
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(option, path, [(item.file_size, item.filename) for item in archive.infolist()])
            file = _File("", status.st_size, status.st_mtime_ns, 0)
            return _ensure_copy(place, _digest(path, [file], ""), lambda into: _unpack(archive, into))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{option}={str(path)!r} is no archive, or a broken archive: {error}") from None


def _files(
    root: Path, exclusions: Exclusions, below: str = "", inside: tuple[str, ...] = ()
) -> Iterator[_File]:
    """Yield the files of a directory that are not left out. Links are followed, except those back to a parent."""
    real = os.path.realpath(root / below)
    if real in inside:
        return
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = (root / below / _IGNORE_FILE).read_text(encoding="utf-8").splitlines()
        exclusions = exclusions.copy()
        exclusions.add(lines, below)
    for entry in os.scandir(root / below):
        path = f"{below}/{entry.name}" if below else entry.name
        if exclusions.excludes(path, is_directory=entry.is_dir()):
            continue
        if entry.is_dir():
            yield from _files(root, exclusions, path, (*inside, real))
            continue
        # The file may be gone meanwhile, or be a link that leads nowhere.
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                yield _File(path, status.st_size, status.st_mtime_ns, status.st_mode)


def _check_size(option: str, path: Path, sizes: list[tuple[int, str]]) -> None:
    total = sum(size for size, _ in sizes)
    if total <= LIMIT_BYTES:
        return
    largest = ", ".join(
        f"{name} ({size >> 20} MiB)" for size, name in sorted(sizes, reverse=True)[:_FILES_IN_ERROR]
    )
    raise ValueError(
        f"{option}={str(path)!r} has {total >> 20} MiB in {len(sizes):,} files; at most {LIMIT_BYTES >> 20} MiB can be "
        f"copied. Leave files out by runtime_env['excludes'] or a .gitignore. The largest files: {largest}."
    )


def _digest(path: Path, files: list[_File], below: str) -> str:
    text = repr((os.fspath(path), below, files)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=10).hexdigest()


def _ensure_copy(place: Path, digest: str, fill: Callable[[Path], object]) -> Path:
    """Return the copy with this digest, which `fill` makes if it is not there. Only a whole copy has its name."""
    copy = place / f"env-{digest}"
    if copy.is_dir():
        return copy
    hidden = Path(tempfile.mkdtemp(prefix=f".env-{digest}-", dir=place))
    try:
        fill(hidden)
        os.rename(hidden, copy)
    except OSError:
        # Another process may have been faster.
        if not copy.is_dir():
            raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return copy


def _copy_files(root: Path, files: list[_File], into: Path) -> None:
    into.mkdir(exist_ok=True)
    made: set[str] = set()
    for file in files:
        target = into / file.path
        parent = os.path.dirname(file.path)
        if parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            shutil.copy2(root / file.path, target)


def _unpack(archive: zipfile.ZipFile, into: Path) -> None:
    archive.extractall(into)
    for data in into.glob("*.data"):
        for part in _WHEEL_DATA:
            if (data / part).is_dir():
                shutil.copytree(data / part, into, dirs_exist_ok=True)
