"""The store: objects are read as written, nobody writes under a reader, and a full store is an exception."""

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from ipyremote.ids import ClientId, ObjectId
from ipyremote.messages import Stored
from ipyremote.serialization import pickling
from ipyremote.store import segments as segments_module
from ipyremote.store.mapping import copy_into, map_file
from ipyremote.store.segment_pool import SMALLEST
from ipyremote.store.segments import SegmentLost, SegmentStore, StoreFull, reap, unlink
from ipyremote.store.usage import Usage
from tests.support.sources import ROOT

#: Numbers of clients.
C7, C8 = ClientId(7), ClientId(8)


CAPACITY = 64 << 20


@pytest.fixture
def path(tmp_path):
    """A directory in shared memory, if the machine has that."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    # Not `ipyremote-*`: tests that run at the same time would take it for a session that theirs left behind.
    path = Path("/dev/shm") / f"test-ipyremote-{os.getpid()}-{random.randrange(10**9)}"
    path.mkdir(0o700)
    try:
        yield path
    finally:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


@pytest.fixture
def store(path):
    store = SegmentStore(path, C7, CAPACITY)
    yield store
    store.close()


def put(store, value):
    pickled = pickling.dumps(value)
    return store.write(pickled.head, pickled.buffers)


def get(store, stored, object_id=1, released=None):
    head, buffers, _ = store.read(stored, object_id, deque() if released is None else released)
    return pickling.loads(head, buffers)


def files(path):
    return sorted(file.name for file in path.iterdir() if file.name.startswith("seg-"))


def total(path):
    return sum((path / name).stat().st_size for name in files(path))


def script(code, *args):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


# ---- writing and reading


def test_a_written_object_is_read_back(store):
    value = {
        "a": np.arange(100_000),
        "b": np.ones((300, 300), order="F"),
        "c": "text",
        "empty": np.ones((0, 3)),
    }
    stored = put(store, value)
    again = get(store, stored)
    assert again.keys() == value.keys()
    assert again["c"] == "text"
    for name in ("a", "b", "empty"):
        np.testing.assert_array_equal(again[name], value[name])


@pytest.mark.parametrize("round_", [0, 1, 2], ids=["fresh", "first reuse", "second reuse"])
def test_every_way_of_writing_gives_the_same_bytes(store, round_):
    value = [np.random.default_rng(0).bytes(size) for size in (1, 63, 64, 65, 100_000, 3 << 20)]
    for _ in range(round_):
        store.recycle(store.write(b"other" * 1000, [bytes(3_100_000)]).segment)
    stored = store.write(b"head", value)
    head, buffers, _ = store.read(stored, 1, deque())
    assert bytes(head) == b"head"
    assert [bytes(buffer) for buffer in buffers] == value


def test_buffers_are_aligned(store):
    stored = put(store, [np.arange(n) for n in (1, 3, 1001, 50_000)])
    assert [start % 64 for start, _ in stored.buffers] == [0, 0, 0, 0]
    for array in get(store, stored):
        assert array.ctypes.data % 64 == 0


def test_many_buffers_pass_the_limit_of_one_system_call(store):
    value = [np.full(10, n) for n in range(3_000)]
    assert [int(array[9]) for array in get(store, put(store, value))] == list(range(3_000))


def test_a_partial_write_goes_on_where_it_stopped(store, monkeypatch):
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: pwritev(fd, [parts[0][:1000]], at))
    value = np.arange(20_000)
    np.testing.assert_array_equal(get(store, put(store, value)), value)


def test_buffers_of_any_format_are_taken_and_size_is_that_of_the_file(store, path):
    stored = store.write(b"x", [np.arange(10.0).data, bytearray(b"abc"), np.ones((0, 2)).data])
    assert stored.size == (path / stored.segment).stat().st_size == SMALLEST
    _, buffers, _ = store.read(stored, 1, deque())
    assert [buffer.nbytes for buffer in buffers] == [80, 3, 0]


def test_a_fetched_array_cannot_be_written(store):
    array = get(store, put(store, np.arange(100_000)))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
        array.flags.writeable = True


def test_reading_twice_gives_the_same_memory(store):
    stored = put(store, np.arange(100_000))
    released: deque[int] = deque()
    first = get(store, stored, 1, released)
    second = get(store, stored, 1, released)
    assert first.ctypes.data == second.ctypes.data
    assert store.read(stored, 1, released)[2] is False
    assert get(store, stored, 2, released).ctypes.data != first.ctypes.data


def test_a_missing_short_or_foreign_segment_is_lost(store, path):
    stored = put(store, np.arange(100_000))
    with pytest.raises(SegmentLost, match="shorter"):
        store.read(Stored(stored.segment, 10**9, 10, ((64, 10**9),)), 1, deque())
    with pytest.raises(SegmentLost, match="not the name"):
        store.read(Stored("../../etc/passwd", 10, 10), 1, deque())
    (path / stored.segment).unlink()
    with pytest.raises(SegmentLost, match="gone"):
        get(store, stored)


@pytest.mark.processes
def test_another_process_reads_an_object(store, path):
    stored = put(store, np.arange(100_000))
    code = (
        "import sys; from collections import deque; from pathlib import Path\n"
        "from ipyremote.serialization import pickling as serialize; from ipyremote.messages import Stored\n"
        "from ipyremote.store.segments import SegmentStore\n"
        "store = SegmentStore(Path(sys.argv[1]), 8, 1 << 30)\n"
        "head, buffers, _ = store.read(eval(sys.argv[2]), 1, deque())\n"
        "print(serialize.loads(head, buffers).sum())"
    )
    child = script(code, path, repr(stored))
    assert int(child.communicate(timeout=30)[0]) == np.arange(100_000).sum()


# ---- pins


def views(array, head, buffers):
    return {
        "the array": array,
        "a slice": array[5:10],
        "a strided view": array[::7].reshape(-1, 1),
        "a view of another type": array.view(np.uint8),
        "a memoryview": memoryview(array)[3:4],
        "frombuffer": np.frombuffer(memoryview(array), dtype=np.int64),
        "an iterator": iter(array),
        "the raw buffer": buffers[0],
        "the pickle": head,
        "a slice of the pickle": head[1:2],
    }


@pytest.mark.parametrize("kind", list(views(np.arange(9), memoryview(b"ab"), [b""])))
def test_every_view_of_the_memory_pins_the_object_and_the_release_comes_once(store, kind):
    stored = put(store, np.arange(70_000))
    released: deque[int] = deque()
    head, buffers, fresh = store.read(stored, 42, released)
    assert fresh
    held = views(pickling.loads(head, buffers), head, buffers)[kind]
    del head, buffers
    gc.collect()
    assert list(released) == []
    del held
    gc.collect()
    assert list(released) == [42]


def test_a_value_without_buffers_is_released_at_once(store):
    released: deque[int] = deque()
    assert get(store, put(store, list(range(50_000))), 5, released) == list(range(50_000))
    assert list(released) == [5]


def test_each_new_mapping_is_reported_once(store):
    stored = put(store, np.arange(100_000))
    released: deque[int] = deque()
    for _ in range(3):
        first = get(store, stored, 1, released)
        second = get(store, stored, 1, released)
        del first, second
    assert list(released) == [1, 1, 1]
    assert len(store._pins) <= 1


def test_a_mapping_that_another_thread_is_unmapping_is_released_too(path):
    # While memory is unmapped, other threads run, and the mapping's weak reference is dead but not yet called.
    size = 256 << 20
    store = SegmentStore(path, C7, size + CAPACITY)
    stored = put(store, np.zeros(size, dtype=np.uint8))
    small = put(store, np.arange(100_000))
    released: deque[int] = deque()
    for number in range(1, 11):
        held = [get(store, stored, number, released)]
        assert held[0].max() == 0, "every page is mapped"
        dropper = threading.Thread(target=held.clear)
        dropper.start()
        while dropper.is_alive():
            store._next_burial = 0
            get(store, small, 1000 + number)
        assert list(released) == list(range(1, number + 1))
    store.close()


def test_an_object_that_is_mapped_while_its_mapping_dies_is_released_twice(path):
    size = 256 << 20
    store = SegmentStore(path, C7, size + CAPACITY)
    stored = put(store, np.zeros(size, dtype=np.uint8))
    released: deque[ObjectId] = deque()
    mapped = 0
    for _ in range(10):
        held = [get(store, stored, 1, released)]
        mapped += 1
        assert held[0].max() == 0, "every page is mapped"
        dropper = threading.Thread(target=held.clear)
        dropper.start()
        while dropper.is_alive():
            head, buffers, fresh = store.read(stored, ObjectId(1), released)
            mapped += fresh
            del head, buffers
        assert list(released) == [1] * mapped
    store.close()


def test_a_reader_keeps_its_mapping_after_its_store_closed(store, path):
    reader = SegmentStore(path, C8, CAPACITY)
    released: deque[int] = deque()
    array = get(reader, put(store, np.arange(100_000)), 1, released)
    reader.close()
    assert array.sum() == np.arange(100_000).sum()
    del array
    assert list(released) == [1]


def test_recycling_never_writes_under_a_reader(store):
    """1,000 objects come and go while readers hold views of some; a ledger obeys `released` as a client does."""
    rng = random.Random(1)
    released: deque[int] = deque()
    live = {}
    held = {}
    for object_id in range(1, 1001):
        size = rng.choice([9_000, 12_000, 20_000, 40_000])
        array = np.random.default_rng(object_id).integers(0, 1 << 60, size)
        live[object_id] = put(store, array)
        if rng.random() < 0.5:
            head, buffers, _ = store.read(live[object_id], object_id, released)
            view = rng.choice(list(views(pickling.loads(head, buffers), head, buffers).items()))
            held[object_id] = (view, object_id)
            del head, buffers, view
        else:
            store.recycle(live.pop(object_id).segment)
        if len(held) > 40:
            del held[rng.choice(list(held))]
        while released:
            store.recycle(live.pop(released.popleft()).segment)
        if object_id % 100 == 0:
            check(held)
    check(held)
    assert sorted(live) == sorted(held)
    held.clear()
    gc.collect()
    assert sorted(released) == sorted(live)


def check(held):
    for (kind, view), object_id in held.values():
        if kind in ("the array", "frombuffer"):
            expected = np.random.default_rng(object_id).integers(0, 1 << 60, len(view))
            np.testing.assert_array_equal(view, expected)
        elif kind == "the raw buffer":
            size = view.nbytes // 8
            expected = np.random.default_rng(object_id).integers(0, 1 << 60, size)
            assert view == memoryview(expected).cast("B")


# ---- recycling


def test_a_recycled_segment_is_used_again_under_a_new_name(store, path):
    first = put(store, np.arange(100_000))
    store.recycle(first.segment)
    used = store.used_bytes()
    second = put(store, np.arange(100_000))
    assert second.segment != first.segment
    assert files(path) == [second.segment]
    assert store.used_bytes() == used == total(path)
    with pytest.raises(SegmentLost):
        get(store, first)


def test_recycling_an_unknown_segment_or_one_twice_is_harmless(store, path):
    stored = put(store, np.arange(100_000))
    store.recycle("seg-7-999")
    store.recycle(stored.segment)
    store.recycle(stored.segment)
    assert len(files(path)) == 1
    a, b = put(store, np.arange(100_000)), put(store, np.arange(100_000))
    assert a.segment != b.segment


def test_trim_gives_the_memory_of_the_pool_back(store, path):
    kept = put(store, np.arange(100_000))
    store.recycle(put(store, np.arange(500_000)).segment)
    assert store.trim() >= 4_000_000
    assert store.trim() == 0
    assert files(path) == [kept.segment]
    assert store.used_bytes() == total(path)


def test_there_can_be_more_recycled_segments_than_mappings(store, monkeypatch):
    monkeypatch.setattr(segments_module, "_MOST_MAPPINGS", 1)
    for _ in range(3):
        stored = [put(store, np.full(20_000, n)) for n in range(3)]
        assert [int(get(store, one, n)[-1]) for n, one in enumerate(stored)] == [0, 1, 2]
        for one in stored:
            store.recycle(one.segment)
    assert store._mapped == 1


def test_an_interrupted_write_leaves_no_segment(store, path, monkeypatch):
    store.recycle(put(store, np.arange(100_000)).segment)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(segments_module, "_copy_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(store, np.arange(100_000))
    monkeypatch.setattr(segments_module, "write_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(store, np.arange(100_000))
    assert files(path) == []
    assert store.used_bytes() == 0
    assert store._mapped == 0


def test_threads_write_at_once(store, path):
    wrong = []

    def work(seed):
        for n in range(40):
            value = np.full(20_000 + 100 * seed, seed * 1000 + n)
            stored = put(store, value)
            if not np.array_equal(get(store, stored, seed * 1000 + n), value):
                wrong.append(seed)
            store.recycle(stored.segment)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert store.used_bytes() == total(path)


# ---- capacity


def test_above_the_capacity_the_store_is_full(path):
    store = SegmentStore(path, C7, 1 << 20)
    kept = put(store, bytes(600_000))
    with pytest.raises(StoreFull) as info:
        put(store, bytes(600_000))
    assert info.value.capacity == 1 << 20
    assert info.value.needed > 600_000
    assert info.value.used == kept.size
    assert "no room for 600," in str(info.value)
    assert files(path) == [kept.segment]
    store.recycle(kept.segment)
    # It does not fit into the pool's segment; the pool makes room for it.
    put(store, bytes(1_000_000))
    store.close()


def test_the_last_room_is_used_without_rounding_up(path):
    store = SegmentStore(path, C7, (1 << 20) + 8192)
    assert put(store, bytes((1 << 20) + 100)).size == (1 << 20) + 4096
    store.close()


@pytest.mark.processes
def test_two_processes_share_the_capacity(path):
    store = SegmentStore(path, C7, 3 << 20)
    code = (
        "import sys; from pathlib import Path; from ipyremote.store.segments import *\n"
        "store = SegmentStore(Path(sys.argv[1]), 8, 3 << 20); store.write(bytes(1 << 20))\n"
        "try: store.write(bytes(2 << 20))\n"
        "except StoreFull as full: print(full.used)"
    )
    put(store, bytes(1 << 20))
    child = script(code, path)
    assert int(child.communicate(timeout=30)[0]) == total(path) == store.used_bytes()
    with pytest.raises(StoreFull):
        put(store, bytes(2 << 20))
    store.close()


@pytest.mark.processes
def test_processes_that_write_and_unlink_at_once_keep_the_count(path):
    code = (
        "import sys; from pathlib import Path; from ipyremote.store.segments import *\n"
        "store = SegmentStore(Path(sys.argv[1]), int(sys.argv[2]), 1 << 30)\n"
        "for n in range(100):\n"
        "    store.recycle(store.write(bytes(70_000 + 20_000 * (n % 5))).segment)\n"
        "    if n % 7 == 0: store.trim()\n"
    )
    children = [script(code, path, number) for number in (2, 3, 4)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    for child in children:
        child.stdout.close()
    store = SegmentStore(path, ClientId(9), 1 << 30)
    assert store.used_bytes() == total(path) > 0
    store.close()


def test_a_count_that_is_wrong_is_repaired_before_the_store_is_called_full(path):
    store = SegmentStore(path, C7, 1 << 20)
    with store._usage.changing() as change:
        change.used = 10 << 20
    put(store, bytes(600_000))
    assert store.used_bytes() == total(path)
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from ipyremote.store import segments
store = segments.SegmentStore(Path(sys.argv[1]), 8, 64 << 20)
def die(*args): os.kill(os.getpid(), signal.SIGKILL)
kept = store.write(bytes(100_000))
print(kept.segment, flush=True)
if sys.argv[2] == "between accounting and create":
    segments.opened = die
elif sys.argv[2] == "between create and accounting":
    segments.os = type("Os", (), {**vars(os), "ftruncate": lambda *a: (os.ftruncate(*a), die())})
elif sys.argv[2] == "while copying":
    segments.write_all = die
elif sys.argv[2] == "while unlinking":
    store.recycle(kept.segment)
    segments.os = type("Os", (), {**vars(os), "unlink": lambda *a: (os.unlink(*a), die())})
    store.trim()
store.write(bytes(5 << 20))
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "moment",
    ["between accounting and create", "between create and accounting", "while copying", "while unlinking"],
)
def test_the_count_survives_a_kill(path, store, moment):
    child = script(KILLED, path, moment)
    segment = child.communicate(timeout=30)[0].strip()
    assert child.returncode == -signal.SIGKILL
    put(store, bytes(100_000))
    assert store.used_bytes() == total(path)
    reap(path, C8, {segment})
    assert [name for name in files(path) if name.startswith("seg-8-")] == (
        [] if moment == "while unlinking" else [segment]
    )
    assert store.used_bytes() == total(path)


def test_unlink_and_reap_clear_up_after_a_dead_creator(path, store):
    dead = SegmentStore(path, C8, CAPACITY)
    wanted, dropped, pooled = (put(dead, np.arange(100_000)) for _ in range(3))
    dead.recycle(pooled.segment)
    mine = put(store, np.arange(100_000))
    assert unlink(path, [dropped.segment, "seg-8-99", "lock", "../x"]) == dropped.size
    assert reap(path, C8, {wanted.segment}) == pooled.size
    assert files(path) == sorted([mine.segment, wanted.segment])
    assert store.used_bytes() == total(path)
    unlink(path, [wanted.segment])
    dead.close()


# ---- a full file system


def fill(file):
    with file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


@pytest.mark.processes
def test_a_full_file_system_is_an_exception(tmp_path):
    """On a full tmpfs, ftruncate and mmap succeed, and the first write would end the process with SIGBUS."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=False).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    try:
        store = SegmentStore(small, C7, 1 << 30)
        kept = put(store, np.full(100_000, 5))
        with pytest.raises(StoreFull) as info:
            put(store, np.arange(500_000))
        assert info.value.free < 2 << 20
        # Now a third party fills it up.
        with pytest.raises(OSError, match="No space"):
            fill(small / "filler")
        with pytest.raises(StoreFull):
            put(store, np.arange(50_000))
        array = get(store, kept)
        assert int(array.sum()) == 500_000
        del array
        store.recycle(kept.segment)
        for value in (6, 7):
            again = put(store, np.full(100_000, value))
            assert int(get(store, again)[-1]) == value
            store.recycle(again.segment)
        assert store.used_bytes() == total(small)
        store.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_pool_makes_room_on_a_full_file_system(store, path, monkeypatch):
    store.recycle(put(store, bytes(1 << 20)).segment)
    allocate = os.posix_fallocate
    full = [True]

    def once_full(*args):
        if full:
            full.pop()
            raise OSError(28, "No space left on device")
        allocate(*args)

    monkeypatch.setattr(os, "posix_fallocate", once_full)
    stored = put(store, bytes(4 << 20))
    assert files(path) == [stored.segment]
    assert store.used_bytes() == total(path)


def test_a_file_above_the_size_limit_is_an_exception(store, path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StoreFull):
            put(store, bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(path) == []
    assert store.used_bytes() == 0


def test_writing_into_a_directory_that_is_gone_is_no_full_store(path):
    store = SegmentStore(path, C7, CAPACITY)
    store.recycle(put(store, np.arange(100_000)).segment)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            put(store, np.arange(100_000))
    store.close()
    path.mkdir()


# ---- descriptors


def test_neither_readers_nor_writers_keep_descriptors(path):
    before = len(os.listdir("/proc/self/fd"))
    store = SegmentStore(path, C7, CAPACITY)
    for _ in range(2):
        stored = [put(store, np.full(10_000, n)) for n in range(100)]
        arrays = [get(store, one, n) for n, one in enumerate(stored)]
        # Only the file with the count.
        assert len(os.listdir("/proc/self/fd")) == before + 1
        del arrays
        for one in stored:
            store.recycle(one.segment)
    store.close()
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_mapping_shows_the_file_and_dies_with_its_last_user(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"a" * 5000)
    fd = os.open(file, os.O_RDWR)
    writable = map_file(fd, 5000, writable=True, populate=True)
    readable = map_file(fd, 5000, writable=False)
    os.close(fd)
    writable[4999:5000] = b"z"
    copy_into(writable, 0, memoryview(b"bc"))
    with pytest.raises(ValueError, match="do not fit"):
        copy_into(writable, 4999, memoryview(b"bc"))
    view = memoryview(readable)
    assert view.readonly
    assert bytes(view[:3]) == b"bca"
    assert file.read_bytes()[-1:] == b"z"
    gone = weakref.ref(readable)
    del readable
    assert gone() is not None
    view.release()
    assert gone() is None


def test_a_mapping_that_cannot_be_made_is_an_error(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match=r".+"):
        map_file(fd, 4096, writable=False)
    os.close(fd)


def test_the_count_is_zero_in_a_new_directory(tmp_path):
    usage = Usage(tmp_path)
    assert usage.bytes_used() == 0
    usage.close()
    usage.close()
