"""Copies of directories, archives and modules for environments."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

import pytest

from ipyremote.client import snapshots


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "session"
    place.mkdir()
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "deep" / "b.txt").write_text("b")
    (root / "deep" / "er" / "c.txt").write_text("c")
    return root


def names(copy: Path) -> list[str]:
    return sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())


def test_a_copy_has_all_files_and_is_made_once_for_each_state(root: Path, place: Path) -> None:
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    copy = snapshots.copy_working_dir(root, place, ())
    assert names(copy) == ["a.txt", "deep/b.txt", "deep/er/c.txt", "run.sh"]
    assert os.access(copy / "run.sh", os.X_OK)
    assert snapshots.copy_working_dir(root, place, ()) == copy
    (root / "a.txt").write_text("changed")
    other = snapshots.copy_working_dir(root, place, ())
    assert (copy / "a.txt").read_text() == "a"
    assert (other / "a.txt").read_text() == "changed"
    assert [path for path in place.iterdir() if path.name.startswith(".")] == []


def test_a_copy_leaves_out_ignored_files_and_the_usual_directories(root: Path, place: Path) -> None:
    for name in (".git", ".venv", "venv", "__pycache__"):
        (root / "deep" / name).mkdir()
        (root / "deep" / name / "file").touch()
    (root / ".gitignore").write_text("a.txt\n")
    (root / "deep" / ".gitignore").write_text("/er/\n!a.txt\n")
    (root / "deep" / "a.txt").touch()
    copy = snapshots.copy_working_dir(root, place, ["b.*"])
    assert names(copy) == [".gitignore", "deep/.gitignore", "deep/a.txt"]


def test_links_are_copied_as_their_targets_and_circles_of_links_end(
    root: Path, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "nowhere").symlink_to(tmp_path / "absent")
    (root / "deep" / "circle").symlink_to(root)
    os.mkfifo(root / "pipe")
    copy = snapshots.copy_working_dir(root, place, ())
    assert (copy / "link.txt").read_text() == "outside"
    assert not (copy / "link.txt").is_symlink()
    assert names(copy) == ["a.txt", "deep/b.txt", "deep/er/c.txt", "link.txt"]


def test_a_file_whose_name_is_not_utf_8_is_copied(root: Path, place: Path) -> None:
    odd = os.fsdecode(b"\xff odd")
    (root / odd).write_text("odd")
    assert (snapshots.copy_working_dir(root, place, ()) / odd).read_text() == "odd"


def test_too_large_a_directory_is_refused_and_its_largest_files_are_named(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LIMIT_BYTES", 1 << 20)
    (root / "deep" / "large.bin").write_bytes(bytes(3 << 20))
    with pytest.raises(ValueError, match=r"has 3 MiB in 4 files; at most 1 MiB .*deep/large.bin \(3 MiB\)"):
        snapshots.copy_working_dir(root, place, ())
    snapshots.copy_working_dir(root, place, ["*.bin"])
    packed = root / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(root / "deep" / "large.bin")
    with pytest.raises(ValueError, match=r"large\.bin"):
        snapshots.copy_working_dir(packed, place, ())


def test_a_file_that_is_no_archive_is_refused(root: Path, place: Path) -> None:
    broken = root / "broken.zip"
    broken.write_text("no archive")
    with pytest.raises(ValueError, match="no archive"):
        snapshots.copy_working_dir(broken, place, ())


def test_an_archive_cannot_write_outside_its_copy(root: Path, place: Path) -> None:
    packed = root / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../escaped.txt", "x")
    snapshots.copy_working_dir(packed, place, ())
    assert not (place.parent / "escaped.txt").exists()
    assert not (place / "escaped.txt").exists()


def test_the_copy_of_a_package_has_a_directory_with_the_packages_name(root: Path, place: Path) -> None:
    package = snapshots.copy_module(root / "deep", place, ())
    assert names(package) == ["deep/b.txt", "deep/er/c.txt"]
    single = snapshots.copy_module(root / "a.txt", place, ())
    assert names(single) == ["a.txt"]


def test_a_wheel_is_unpacked_as_by_an_installer(place: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "x-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/__init__.py", "")
        archive.writestr("x-1.0.data/purelib/y.py", "")
        archive.writestr("x-1.0.data/scripts/x", "")
    found = snapshots.copy_module(wheel, place, ())
    assert {"x/__init__.py", "y.py"} <= set(names(found))


def test_threads_that_copy_at_the_same_time_get_the_same_copy(root: Path, place: Path) -> None:
    for number in range(200):
        (root / f"file-{number}").write_text(str(number))
    copies: list[Path] = []
    threads = [
        threading.Thread(target=lambda: copies.append(snapshots.copy_working_dir(root, place, ())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 4
    assert len(set(copies)) == 1
    assert len(names(copies[0])) == 203
    assert list(place.iterdir()) == [copies[0]]


def test_a_fingerprint_changes_with_the_files_at_its_path(root: Path) -> None:
    before = snapshots.fingerprint(root)
    assert snapshots.fingerprint(root) == before
    (root / "deep" / "b.txt").write_text("bb")
    assert snapshots.fingerprint(root) != before
    assert snapshots.fingerprint(root / "a.txt") != snapshots.fingerprint(root / "deep" / "b.txt")
