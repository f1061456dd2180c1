"""The names of a driver that its session keeps: values that count, and messages to the scheduler."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.backend import current
from ipyremote.client.detached import DetachedDriver, contents
from ipyremote.ids import NOBODY, ObjectId
from ipyremote.messages import Bind
from ipyremote.refs import ObjectRef
from ipyremote.serialization import pickling
from tests.client.fake_scheduler import scheduler_and_session
from tests.support import leaks


@pytest.fixture
def backend() -> Any:
    """The inline backend, which stands for any backend that makes refs."""
    ray.init(backend="inline")
    yield ray.put(1)._backend
    ray.shutdown()


def test_refs_handles_and_containers_of_them_count(backend: Any) -> None:
    one, two = ray.put(1), ray.put(2)

    class Counter:
        pass

    counter = ray.remote(Counter).remote()
    values: tuple[Any, ...] = (
        one,
        counter,
        [one, two],
        (one,),
        {"a": one, 2: [two, (counter,)]},
        [[], [one]],
    )
    for value in values:
        assert contents(value, backend) is not None


def test_other_values_do_not_count(backend: Any) -> None:
    one = ray.put(1)

    class Other(list[Any]):
        pass

    deep: Any = [one]
    for _ in range(5):
        deep = [deep]
    values: tuple[Any, ...] = (
        1,
        "x",
        [],
        {},
        [1, one],
        [one, 1],
        Other([one]),
        {one: one},
        {object(): one},
        {one},
        deep,
        [[]],
    )
    for value in values:
        assert contents(value, backend) is None


def test_refs_of_another_session_do_not_count(backend: Any) -> None:
    one = ray.put(1)
    assert contents(one, None) is None  # type: ignore[arg-type]


def test_containers_that_differ_are_told_apart(backend: Any) -> None:
    one, two = ray.put(1), ray.put(2)
    values = ([one, two], [two, one], (one, two), {"a": one, "b": two}, {"b": one, "a": two}, [[one], two])
    assert len({contents(value, backend) for value in values}) == len(values)


@pytest.fixture
def told() -> Iterator[tuple[Any, Any, DetachedDriver]]:
    """A scheduler that records the messages of a session, the session, and the follower of its names."""
    with leaks.leakless(), scheduler_and_session() as (scheduler, session, _):
        current.install(session)
        keeping = DetachedDriver(session, session.channel, session.requests)
        yield scheduler, session, keeping
        keeping.close()
        current.remove(session)


def _put(session: Any) -> ObjectRef[Any]:
    any_id, label = session.put(1)
    return ObjectRef(any_id, session, label)


def test_the_scheduler_is_told_of_changed_names_only(told: Any) -> None:
    scheduler, session, keeping = told
    one, two = _put(session), _put(session)
    names: dict[str, Any] = {"a": one, "b": [one, two, one], "_c": two, "n": 3, "Out": {1: one}, "In": [two]}
    keeping.watch([names])
    keeping.look()
    (first,) = scheduler.wait_heard(Bind)
    assert [(bound.name, bound.ids) for bound in first.bound] == [
        ("a", (one._id,)),
        ("b", (one._id, two._id)),
    ]
    assert first.unbound == ()
    names["b"].append(two)
    names["c"] = two
    del names["a"]
    keeping.look()
    second = scheduler.wait_heard(Bind, 2)[1]
    assert [bound.name for bound in second.bound] == ["b", "c"]
    assert second.unbound == ("a",)
    assert pickling.loads(second.bound[0].payload) == [one, two, one, two]


def test_a_new_name_is_found_without_a_call_of_look(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, session, keeping = told
    monkeypatch.setattr("ipyremote.client.detached.LOOK_SECONDS", 0.02)
    names: dict[str, Any] = {}
    keeping.watch([names])
    names["late"] = _put(session)
    (told_of,) = scheduler.wait_heard(Bind)
    assert [bound.name for bound in told_of.bound] == ["late"]


def test_other_names_are_kept_beside_a_value_that_cannot_be_pickled(told: Any) -> None:
    scheduler, session, keeping = told
    odd = _put(session)
    fine = {"odd": {("key",): odd}, "good": _put(session)}
    broken = object.__new__(ObjectRef)
    broken._id, broken._backend, broken._label = ObjectId(1), session, threading.Lock()  # type: ignore[assignment]
    broken._deferred, broken._task, broken._actor = False, ObjectId(1), NOBODY
    keeping.watch([fine, {"broken": broken}])
    (heard,) = scheduler.wait_heard(Bind)
    assert [bound.name for bound in heard.bound] == ["odd", "good"]


def test_the_scheduler_is_told_nothing_after_the_end_of_the_session(told: Any) -> None:
    scheduler, session, keeping = told
    keeping.watch([{}])
    session.shutdown()
    keeping.watch([{"late": 1}])
    keeping.look()
    assert [] == scheduler.all_of(Bind)
