"""Refs: identity, refused uses, pickling, lifetimes."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import refs
from ipyremote.backend import current
from ipyremote.backends.inline.backend import InlineBackend
from ipyremote.exceptions import ObjectLostError, OufOfBandObjectRefSerializationException
from ipyremote.ids import NOBODY, ObjectId


@pytest.fixture
def backend() -> Iterator[InlineBackend]:
    """Start an inline session."""
    ray.shutdown()
    inline = InlineBackend(num_cpus=1)
    current.install(inline)
    yield inline
    ray.shutdown()


def _live(backend: InlineBackend) -> int:
    """Return the number of objects that the session keeps."""
    gc.collect()
    backend.explain(NOBODY)
    return len(backend._objects._objects)


def test_the_ids_of_refs_have_the_lengths_of_rays_ids(backend: InlineBackend) -> None:
    ref = ray.put(1)
    assert (len(ref.hex()), len(ref.binary()), ref.size()) == (56, 28, 28)
    assert len(ref.task_id().hex()) == 48
    assert len(ref.job_id().binary()) == 4
    assert ref.owner_address() == (1).to_bytes(8, "big")
    assert ref.call_site() == ""


def test_the_return_refs_of_a_task_share_its_task_id(backend: InlineBackend) -> None:
    @ray.remote(num_returns=2)
    def two() -> tuple[int, int]:
        return 1, 2

    a, b = two.remote()
    assert a != b
    assert a.task_id() == b.task_id()
    assert a.task_id() != ray.put(1).task_id()


def test_nil_and_random_refs_refer_to_no_object() -> None:
    assert ray.ObjectRef.nil().is_nil()
    assert not ray.ObjectRef.from_random().is_nil()
    assert ray.ObjectRef.from_random() != ray.ObjectRef.from_random()
    with pytest.raises(ObjectLostError, match="names no object"):
        ray.get(ray.ObjectRef.from_random())


def test_equality_and_hash_of_refs_are_those_of_their_ids(backend: InlineBackend) -> None:
    a, b = ray.put(1), ray.put(1)
    assert a == a
    assert a != b
    assert a != 1
    assert {a: 1}[ray.get(ray.put([a]))[0]] == 1


def test_a_copy_of_a_ref_is_the_ref_itself(backend: InlineBackend) -> None:
    ref = ray.put(1)
    assert copy.copy(ref) is ref
    assert copy.deepcopy([ref])[0] is ref


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda ref: iter(ref), "not iterable"),
        (lambda ref: list(ref), "not iterable"),
        (lambda ref: 1 in ref, "not iterable"),
        (lambda ref: len(ref), "len"),
        (lambda ref: ref(), "not callable"),
        (lambda ref: ref < 2, "not supported"),
        (lambda ref: int(ref), "int"),
    ],
)
def test_a_use_of_a_ref_that_needs_its_value_is_a_type_error(
    backend: InlineBackend, use: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        use(ray.put([1]))


def test_operators_on_refs_give_deferred_refs_and_other_calls_plain_refs(backend: InlineBackend) -> None:
    ref = ray.put(1)
    total = ref + 1
    assert (ref._deferred, total._deferred, repr(total)) == (False, True, "ObjectRef(add#1)")


def test_a_deferred_ref_inside_a_value_becomes_a_plain_ref(backend: InlineBackend) -> None:
    inner = ray.get(ray.put([ray.put(1) + 1]))[0]
    assert not inner._deferred
    assert ray.get(inner) == 2


def test_a_ref_cannot_be_pickled_outside_of_ipyremote(backend: InlineBackend) -> None:
    with pytest.raises(OufOfBandObjectRefSerializationException, match="outside of ipyremote"):
        pickle.dumps(ray.put(1))


def test_a_value_is_dropped_with_its_last_ref(backend: InlineBackend) -> None:
    before = _live(backend)
    ref = ray.put(1)
    outer = ray.put([ref])
    assert _live(backend) == before + 2
    del ref
    assert _live(backend) == before + 2
    inner = ray.get(outer)[0]
    del outer
    assert _live(backend) == before + 1
    assert ray.get(inner) == 1
    del inner
    assert _live(backend) == before


def test_intermediate_results_are_dropped_too(backend: InlineBackend) -> None:
    before = _live(backend)
    refs_of_numbers = [ray.put(i) for i in range(5)]
    total: Any = sum(refs_of_numbers)
    assert ray.get(total) == 10
    del refs_of_numbers, total
    assert _live(backend) == before


def test_a_long_chain_of_nested_values_is_dropped_at_once(backend: InlineBackend) -> None:
    before = _live(backend)
    ref: ray.ObjectRef[Any] = ray.put(0)
    for _ in range(3000):
        ref = ray.put([ref])
    assert _live(backend) == before + 3001
    del ref
    assert _live(backend) == before


def test_each_use_of_a_ref_after_shutdown_is_a_clear_error(backend: InlineBackend) -> None:
    ref = ray.put(1)
    ray.shutdown()
    uses: list[Any] = [
        lambda: ray.get(ref),
        lambda: ray.get([ref]),
        lambda: ray.wait([ref]),
        lambda: ray.cancel(ref),
        lambda: ref + 1,
        ref.future,
    ]
    for use in uses:
        with pytest.raises(ObjectLostError, match=r"put#1.*shut down"):
            use()
    assert not ray.is_initialized()


def test_a_ref_of_an_earlier_session_is_refused_as_an_argument(backend: InlineBackend) -> None:
    @ray.remote
    def take(x: Any) -> Any:
        return x

    ref = ray.put(1)
    ray.shutdown()
    ray.init(backend="inline")
    with pytest.raises(ObjectLostError, match="shut down"):
        take.remote(ref)
    with pytest.raises((ObjectLostError, TypeError), match="shut down"):
        take.remote([ref])


def test_a_ref_pickled_in_another_session_is_refused(backend: InlineBackend) -> None:
    with pytest.raises(ObjectLostError, match="another session"):
        refs._rebuild("feed", 5, "far#1", ObjectId(5), NOBODY)


def test_dropping_an_incomplete_or_late_ref_raises_nothing(backend: InlineBackend) -> None:
    ray.ObjectRef.__new__(ray.ObjectRef).__del__()
    ray.ObjectRef.nil().__del__()
