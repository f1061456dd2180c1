"""Objects and refs on every engine: lifetimes, freeing by hand, and the methods of refs."""

from __future__ import annotations

import asyncio
import gc
import pickle
import warnings
from collections.abc import Callable
from typing import Any, get_origin

import numpy as np
import pytest

import ipyremote as ray
from ipyremote import exceptions
from tests.contract.engines import KeptObjects
from tests.support.waiting import until


@ray.remote
def echo(value: Any) -> Any:
    return value


# ---- free


@pytest.mark.needs("free")
@pytest.mark.parametrize("value", [1, b"x" * 1_000_000], ids=["small", "large"])
def test_a_freed_value_is_lost_for_all_holders(value: Any) -> None:
    ref = ray.put(value)
    holder = ray.put([ref])
    ray.free(ref)
    with pytest.raises(exceptions.ObjectFreedError, match=r"freed by hand, with free\(\)"):
        ray.get(ref)
    (inner,) = ray.get(holder)
    with pytest.raises(exceptions.ObjectLostError):
        ray.get(inner, timeout=30)
    with pytest.raises(exceptions.ObjectFreedError):
        ray.get(echo.remote(ref), timeout=30)
    assert ([ref], []) == ray.wait([ref], timeout=0)
    ray.free([ref, ref])


@pytest.mark.needs("free")
def test_an_array_that_was_fetched_stays_valid() -> None:
    ref = ray.put(np.arange(1_000_000))
    array = ray.get(ref)
    ray.free([ref])
    for i in range(5):
        assert ray.get(ray.put(np.full(1_000_000, i)))[0] == i
    assert (array == np.arange(1_000_000)).all()


@pytest.mark.needs("free")
def test_results_failures_and_empty_lists_can_be_freed() -> None:
    good = echo.remote(1)
    bad = ray.remote(lambda: 1 / 0).remote()
    ray.wait([good, bad], num_returns=2, timeout=30)
    ray.free([good, bad])
    ray.free([])
    with pytest.raises(exceptions.ObjectFreedError):
        ray.get(good, timeout=30)
    with pytest.raises(ZeroDivisionError):
        ray.get(bad, timeout=30)


@pytest.mark.needs("free")
def test_the_refs_in_a_freed_value_are_released(objects: KeptObjects) -> None:
    before = objects()
    outer = ray.put([ray.put(i) for i in range(3)])
    assert before + 4 == objects()
    ray.free(outer)
    objects.become(before + 1)


@pytest.mark.parametrize("wrong", [1, (), None, "x", [1]])
def test_free_takes_refs_only(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"free\(\) takes"):
        ray.free(wrong)


def test_free_is_in_ray_internal() -> None:
    import ipyremote.internal

    assert ray.internal.free is ipyremote.internal.free is ray.free


# ---- lifetimes


def test_objects_live_as_long_as_the_containers_and_closures_with_their_refs(objects: KeptObjects) -> None:
    before = objects()
    ref = ray.put(5)
    container = ray.put({"inner": [ref]})
    del ref
    assert before + 2 == objects()

    @ray.remote
    def first(box: dict[str, list[Any]]) -> Any:
        return ray.get(box["inner"][0])

    result = first.remote(container)
    del container
    assert 5 == ray.get(result, timeout=30)
    del result
    objects.become(before)


def test_a_ref_in_an_actor_keeps_its_object(objects: KeptObjects) -> None:
    before = objects()

    @ray.remote
    class Keeper:
        def keep(self, refs: list[Any]) -> None:
            self.refs = refs

        def value(self) -> Any:
            return ray.get(self.refs[0])

    keeper = Keeper.remote()
    ref = ray.put("kept")
    ray.get(keeper.keep.remote([ref]), timeout=30)
    del ref
    gc.collect()
    assert "kept" == ray.get(keeper.value.remote(), timeout=30)
    del keeper
    objects.become(before)


def test_a_function_keeps_the_refs_that_it_closes_over() -> None:
    ref = ray.put(6)

    @ray.remote
    def captured() -> Any:
        return ray.get(ref)

    assert 6 == ray.get(captured.remote(), timeout=30)
    value = ref
    del ref
    gc.collect()
    ref = value
    assert 6 == ray.get(captured.remote(), timeout=30)


# ---- refs


def test_a_ref_has_the_methods_of_ray() -> None:
    ref: ray.ObjectRef[int] = ray.put(1)
    assert (56, 28, 28) == (len(ref.hex()), len(ref.binary()), ray.ObjectRef.size())
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert not ref.is_nil()
    assert ray.ObjectRef.nil().is_nil()
    assert (48, 8) == (len(ref.task_id().hex()), len(ref.job_id().hex()))
    assert ref.owner_address()
    assert "" == ref.call_site()
    assert get_origin(ray.ObjectRef[int]) is ray.ObjectRef
    assert ray.get(echo.remote([ref]), timeout=30) == [ref]
    assert {ref} == {ray.get(echo.remote([ref]), timeout=30)[0]}
    assert 1 == ref.future().result(30)


def test_the_completion_callback_gets_the_value_or_the_error() -> None:
    told: list[Any] = []
    good, bad = echo.remote(2), ray.remote(lambda: [][0]).remote()
    good._on_completed(told.append)
    bad._on_completed(told.append)
    until(lambda: len(told) == 2, "both were told")
    assert 2 in told
    assert any(isinstance(error, IndexError) for error in told)


def test_as_future_works_with_a_deprecation_warning() -> None:
    async def main() -> Any:
        with pytest.warns(DeprecationWarning, match="await the ref itself"):
            future = echo.remote(3).as_future()
        return await future, await echo.remote(4)

    assert (3, 4) == asyncio.run(main())


@pytest.mark.parametrize("dumps", [pickle.dumps, ray.cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_other_picklers_refuse_refs_unless_allowed(
    dumps: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch, objects: KeptObjects
) -> None:
    before = objects()
    ref = ray.put(7)
    with pytest.raises(
        exceptions.OufOfBandObjectRefSerializationException, match="IPYREMOTE_allow_out_of_band"
    ):
        dumps([ref])
    monkeypatch.setenv("IPYREMOTE_allow_out_of_band_object_ref_serialization", "1")
    data = dumps([ref])
    del ref
    gc.collect()
    (again,) = pickle.loads(data)
    assert 7 == ray.get(again, timeout=30)
    del again
    gc.collect()
    # The object is never dropped, because no session knows the holders of its pickled ref.
    assert 7 == ray.get(pickle.loads(data)[0], timeout=30)
    objects.become(before + 1)


# ---- put, wait


def test_put_takes_neither_a_ref_nor_an_owner() -> None:
    with pytest.raises(TypeError, match="names a stored value already"):
        ray.put(ray.put(1))
    with pytest.raises(ValueError, match="_owner"):
        ray.put(1, _owner=object())


def test_wait_gives_at_most_the_requested_number_in_the_given_order() -> None:
    refs = [ray.put(i) for i in range(5)]
    assert ([refs[0]], refs[1:]) == ray.wait(refs)
    assert (refs[:3], refs[3:]) == ray.wait(refs, num_returns=3, timeout=0, fetch_local=False)
    assert ([], []) == ray.wait([])
    bad = ray.remote(lambda: 1 / 0).remote()
    assert ([bad], []) == ray.wait([bad], timeout=30)


@pytest.mark.parametrize(
    ("given", "options", "error"),
    [
        (lambda ref: ref, {}, TypeError),
        (lambda ref: (ref,), {}, TypeError),
        (lambda ref: {ref}, {}, TypeError),
        (lambda ref: [ref, 1], {}, TypeError),
        (lambda ref: [ref, ref], {}, ValueError),
        (lambda ref: [ref], {"num_returns": 0}, ValueError),
        (lambda ref: [ref], {"num_returns": 2}, ValueError),
        (lambda ref: [ref], {"num_returns": "1"}, TypeError),
        (lambda ref: [ref], {"timeout": -1}, ValueError),
    ],
)
def test_wait_refuses_the_arguments_that_ray_refuses(
    given: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ray.wait(given(ray.put(1)), **options)


# ---- large functions


def test_a_large_function_is_warned_of_at_the_users_line_and_a_larger_one_refused() -> None:
    big = bytes(11 << 20)

    @ray.remote
    def heavy() -> int:
        return len(big)

    with pytest.warns(UserWarning, match=r"heavy is very large \(11 MiB\).*put\(\)") as caught:
        ref = heavy.remote()
    assert __file__ == caught[0].filename
    assert len(big) == ray.get(ref, timeout=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heavy.remote()
    huge = bytes(101 << 20)
    with pytest.raises(ValueError, match="too large"):
        ray.remote(lambda: len(huge)).remote()
