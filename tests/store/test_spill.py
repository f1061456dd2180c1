"""The store on disk: copies are complete or absent, mapped segments stay, and a full disk is an exception."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import Stored
from ipyremote.serialization import pickling
from ipyremote.store import spill as spill_module
from ipyremote.store.directory import SessionDirectory, sweep
from ipyremote.store.segments import SegmentLost, SegmentStore, reap, unlink
from ipyremote.store.spill import DiskFull
from tests.support.sources import ROOT

MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
VALUE = np.arange(100_000)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[SessionDirectory]:
    """A session directory in memory, with a spill directory on disk."""
    session = SessionDirectory.create(1 << 20, MEMORY or tmp_path)
    session.spill_to(tmp_path)
    yield session
    session.remove()


@pytest.fixture
def store(session: SessionDirectory) -> Iterator[SegmentStore]:
    store = SegmentStore(session.path, ClientId(7), 64 << 20)
    yield store
    store.close()


def put(store: SegmentStore, value: Any = VALUE) -> Stored:
    pickled = pickling.dumps(value)
    return store.write(pickled.head, pickled.buffers)


def get(store: SegmentStore, stored: Stored, object_id: int = 1) -> Any:
    head, buffers, _ = store.read(stored, ObjectId(object_id), deque())
    return pickling.loads(head, buffers)


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir() if "-" in file.name}


def on_disk(session: SessionDirectory) -> set[str]:
    return names(session.path / "spill")


def test_an_object_that_was_moved_is_read_from_disk(session: SessionDirectory, store: SegmentStore) -> None:
    stored = put(store)
    assert store.disk.copy(stored)
    store.evict([stored.segment])
    assert set() == names(session.path)
    assert {stored.segment} == on_disk(session)
    assert 0 == store.used_bytes()
    array = get(store, stored)
    np.testing.assert_array_equal(VALUE, array)
    assert not array.flags.writeable
    # Another process, and once more.
    np.testing.assert_array_equal(VALUE, get(SegmentStore(session.path, ClientId(8), 1), stored))


def test_the_copy_has_the_bytes_of_the_object_only(session: SessionDirectory, store: SegmentStore) -> None:
    stored = put(store)
    store.disk.copy(stored)
    end = max(start + length for start, length in stored.buffers)
    assert end <= (session.path / "spill" / stored.segment).stat().st_size <= stored.size


def test_an_object_can_be_made_on_disk(session: SessionDirectory, store: SegmentStore) -> None:
    pickled = pickling.dumps(VALUE)
    stored = store.disk.write(pickled.head, pickled.buffers)
    assert {"disk-7-1"} == {stored.segment} == on_disk(session)
    np.testing.assert_array_equal(VALUE, get(store, stored))
    assert not store.recycle(stored.segment)
    store.disk.remove([stored.segment, "seg-9-9", "../x", "lock"])
    assert set() == on_disk(session)
    with pytest.raises(SegmentLost):
        get(store, stored, 2)


def test_a_segment_that_this_process_has_mapped_is_not_moved(
    session: SessionDirectory, store: SegmentStore
) -> None:
    stored = put(store)
    array = get(store, stored)
    view = array[5:10]
    del array
    assert not store.disk.copy(stored)
    assert set() == on_disk(session)
    del view
    assert store.disk.copy(stored)


@pytest.mark.processes
def test_a_segment_that_another_process_has_mapped_is_not_moved_until_that_process_is_gone(
    session: SessionDirectory, store: SegmentStore
) -> None:
    stored = put(store)
    code = (
        "import sys; from collections import deque; from pathlib import Path\n"
        "from ipyremote.messages import Stored; from ipyremote.store.segments import SegmentStore\n"
        "store = SegmentStore(Path(sys.argv[1]), 8, 1)\n"
        f"kept = store.read({stored!r}, 1, deque())\n"
        "print('mapped', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(session.path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert "mapped\n" == reader.stdout.readline()
        assert not store.disk.copy(stored)
        reader.kill()
    assert store.disk.copy(stored)


def test_a_segment_that_is_mapped_while_it_is_copied_stays_in_memory(
    session: SessionDirectory, store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = put(store)
    kept = []

    def sendfile(*args: Any) -> int:
        kept.append(get(store, stored))
        return os.sendfile(*args)

    os_ = _Os(sendfile=sendfile, link=lambda *args, **kwargs: _raise(errno.EXDEV))
    monkeypatch.setattr(spill_module, "os", os_)
    assert not store.disk.copy(stored)
    assert set() == on_disk(session)


def test_evicted_memory_is_not_written_to_again(store: SegmentStore) -> None:
    for _ in range(3):
        store.recycle(put(store).segment)
    stored = put(store)
    array = get(store, stored)
    store.evict([stored.segment, "seg-7-99"])
    store.evict([stored.segment])
    for _ in range(5):
        store.recycle(put(store, np.zeros(100_000, dtype=int)).segment)
    np.testing.assert_array_equal(VALUE, array)


def test_a_segment_that_is_gone_is_not_moved(session: SessionDirectory, store: SegmentStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.disk.copy(Stored("seg-7-50", 10, 10))
    assert set() == on_disk(session)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_nothing_behind(
    session: SessionDirectory, store: SegmentStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    stored = put(store)
    os_ = _Os(link=lambda *a, **k: _raise(errno.EXDEV), sendfile=lambda *a: _raise(code))
    monkeypatch.setattr(spill_module, "os", os_)
    monkeypatch.setattr(spill_module, "write_all", lambda *args: _raise(code))
    with pytest.raises(DiskFull, match=r"are free, and at most 95% of a disk is filled"):
        store.disk.copy(stored)
    with pytest.raises(DiskFull):
        store.disk.write(b"head", [bytes(1000)])
    assert set() == on_disk(session)
    np.testing.assert_array_equal(VALUE, get(store, stored))


def test_a_disk_is_filled_to_its_threshold_only(
    session: SessionDirectory, store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYREMOTE_local_fs_capacity_threshold", "0")
    with pytest.raises(DiskFull, match="at most 0%"):
        store.disk.write(b"head", [bytes(1000)])
    monkeypatch.setenv("IPYREMOTE_local_fs_capacity_threshold", "1")
    store.disk.write(b"head", [bytes(1000)])


def test_an_interrupted_write_leaves_nothing(
    session: SessionDirectory, store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(spill_module, "write_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.disk.write(b"head", [bytes(1000)])
    assert set() == on_disk(session)


def test_a_session_without_a_spill_directory_says_so(tmp_path: Path) -> None:
    session = SessionDirectory.create(1, tmp_path)
    store = SegmentStore(session.path, ClientId(7), 64 << 20)
    assert not store.disk.exists
    stored = put(store)
    with pytest.raises(OSError, match="spill"):
        store.disk.copy(stored)
    store.disk.remove(["disk-7-1"])
    reap(session.path, ClientId(7), set())
    session.remove()


def test_segments_that_a_dead_process_leaves_on_disk_are_removed(
    session: SessionDirectory, store: SegmentStore
) -> None:
    disk = session.path / "spill"
    for name in ("part-8-seg-7-1", "seg-8-1", "seg-8-2", "disk-8-1", "disk-8-2", "part-9-x", "seg-88-1"):
        (disk / name).write_bytes(b"x")
    reap(session.path, ClientId(8), set(), {"seg-8-2", "disk-8-2"})
    assert {"seg-8-2", "disk-8-2", "part-9-x", "seg-88-1"} == on_disk(session)


@pytest.mark.parametrize(
    ("where", "left"),
    [("everywhere", (False, False)), ("memory", (False, True)), ("disk", (True, False))],
)
def test_segments_are_removed_from_memory_or_disk_as_asked(
    session: SessionDirectory, store: SegmentStore, where: Any, left: tuple[bool, bool]
) -> None:
    stored = put(store)
    store.disk.copy(stored)
    freed = unlink(session.path, [stored.segment], where)
    assert freed == (0 if left[0] else stored.size)
    places = (session.path / stored.segment, session.path / "spill" / stored.segment)
    assert left == tuple(path.exists() for path in places)


# ---- the directory


def test_the_spill_directory_is_private_and_goes_with_the_session(tmp_path: Path) -> None:
    session = SessionDirectory.create(1, tmp_path)
    spill = session.spill_to(tmp_path)
    (spill.path / "seg-1-1").write_bytes(b"x")
    assert 0o700 == spill.path.stat().st_mode & 0o777
    assert [] == sweep([tmp_path])
    session.remove()
    assert [] == list(tmp_path.iterdir())
    session.remove()


def test_the_spill_directory_of_a_dead_session_is_swept_wherever_it_is(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    session = SessionDirectory.create(1, here)
    session.spill_to(there)
    session.close()
    assert [session.path] == sweep([here])
    assert [] == list(there.iterdir())


def test_a_spill_directory_whose_session_directory_is_gone_is_swept(tmp_path: Path) -> None:
    session = SessionDirectory.create(1, tmp_path)
    spill = SessionDirectory.create(1, tmp_path)
    session.remove()
    assert [] == sweep([tmp_path])
    spill.close()
    assert [spill.path] == sweep([tmp_path])


@pytest.mark.parametrize("name", ["precious", "ipyremote-0123456789ab"])
def test_a_link_to_another_kind_of_directory_is_not_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    linked = tmp_path / name
    if linked != precious:
        linked.symlink_to(precious)
    session = SessionDirectory.create(1, tmp_path)
    (session.path / "spill").symlink_to(linked)
    session.remove()
    assert (precious / "file").exists()


class _Os:
    """The module `os` with some functions replaced."""

    def __init__(self, **replaced: Any) -> None:
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(os, name)


def _raise(code: int) -> Any:
    raise OSError(code, os.strerror(code))
