"""Arguments of calls: into a pickle with slots, and back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ipyremote.engine_kit.call_arguments import fill_slots, pack_arguments
from ipyremote.ids import ObjectId
from ipyremote.refs import ObjectRef
from ipyremote.serialization.pickling import loads


def ref(number: int) -> ObjectRef[Any]:
    return ObjectRef(ObjectId(number), None, f"f#{number}")


def number_of(ref: ObjectRef[Any]) -> ObjectId:
    return ref._id


def test_top_level_refs_become_slots_and_nested_refs_stay_refs() -> None:
    pickled, deps = pack_arguments((1, ref(11), ref(12)), {"a": ref(11), "b": "x"}, number_of)
    assert pickled is not None
    assert deps == (11, 12, 11)
    args, kwargs = fill_slots(loads(pickled.head, pickled.buffers), ["one", "two", "three"])
    assert (args, kwargs) == ((1, "one", "two"), {"a": "three", "b": "x"})


def test_a_call_without_arguments_has_no_pickle() -> None:
    assert pack_arguments((), {}, number_of) == (None, ())


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match="lock"):
        pack_arguments((), {"key": threading.Lock()}, number_of)


def test_a_ref_that_is_refused_stops_the_call() -> None:
    def refuse(ref: ObjectRef[Any]) -> ObjectId:
        raise ValueError("of another session")

    for args, kwargs in (((ref(1),), {}), ((), {"a": ref(1)})):
        with pytest.raises(ValueError, match="another session"):
            pack_arguments(args, kwargs, refuse)
