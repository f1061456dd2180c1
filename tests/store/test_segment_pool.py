"""The pool of recycled segments: which segment fits an object, which ones stay, and which are pushed out."""

import pytest

from ipyremote.store.segment_pool import MOST_OF_A_SIZE, SMALLEST, Segment, SegmentPool, size_class


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 100_000, 1 << 20, (1 << 20) + 1, 100 << 20, 3**20])
def test_a_size_class_is_large_enough_and_wastes_little(size):
    length = size_class(size)
    assert length >= size
    assert length <= max(SMALLEST, size * 1.125 + 1)
    assert length % 4096 == 0
    assert size_class(length) == length


def taken(pool: SegmentPool, size: int) -> Segment:
    segment = pool.take(size)
    assert segment is not None
    return segment


def test_the_smallest_fitting_segment_is_taken():
    pool = SegmentPool(1 << 30)
    for size in (1 << 20, 2 << 20, 4 << 20):
        pool.add(Segment(f"{size}", size))
    assert taken(pool, 1_500_000).size == 2 << 20
    assert pool.take(1_500_000) is None
    assert pool.bytes == 5 << 20


def test_any_small_object_fits_into_the_smallest_segment():
    pool = SegmentPool(1 << 30)
    pool.add(Segment("a", SMALLEST))
    assert taken(pool, 10).name == "a"
    assert pool.bytes == 0


def test_the_last_recycled_segment_is_taken_first_and_the_oldest_is_pushed_out_first():
    pool = SegmentPool(3 << 20)
    names = "abcd"
    gone = [pool.add(Segment(name, 1 << 20)) for name in names]
    assert [[segment.name for segment in some] for some in gone] == [[], [], [], ["a"]]
    assert taken(pool, 1 << 20).name == "d"


def test_segments_of_one_size_are_limited():
    pool = SegmentPool(1 << 40)
    gone = [segment for _ in range(MOST_OF_A_SIZE + 3) for segment in pool.add(Segment("x", 1 << 20))]
    assert len(gone) == 3
    assert pool.bytes == MOST_OF_A_SIZE << 20


def test_one_segment_above_the_limit_is_kept_but_not_a_huge_one():
    pool = SegmentPool(1 << 20)
    assert pool.add(Segment("large", 2 << 20)) == []
    gone = pool.add(Segment("huge", 3 << 20))
    assert [segment.name for segment in gone] == ["large", "huge"]
    assert pool.bytes == 0


def test_clear_returns_all_segments():
    pool = SegmentPool(1 << 30)
    pool.add(Segment("a", 1 << 20))
    pool.add(Segment("b", 2 << 20))
    assert sorted(segment.name for segment in pool.clear()) == ["a", "b"]
    assert pool.bytes == 0
    assert pool.take(1 << 20) is None
