"""Custom serializers, and the search for the part of a value that cannot be pickled."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import util


class Connection:
    """A class whose instances cannot be pickled because of their lock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()


@pytest.fixture(params=["inline", "local"])
def session(request: pytest.FixtureRequest) -> Iterator[str]:
    ray.init(backend=request.param, num_cpus=1)
    yield request.param
    ray.shutdown()
    util.deregister_serializer(Connection)


def register() -> None:
    util.register_serializer(
        Connection, serializer=lambda made: made.url, deserializer=lambda url: Connection(url)
    )


@pytest.mark.usefixtures("session")
def test_instances_of_a_registered_class_are_sent_by_their_serializer() -> None:
    register()
    url = ray.remote(lambda connection: connection.url)
    made = Connection("here")
    assert "here" == ray.get(url.remote(made), timeout=30)
    assert "here" == ray.get(ray.put({"a": [made]}))["a"][0].url
    again, twice = ray.get(ray.put((made, made)))
    assert again is twice


@pytest.mark.usefixtures("session")
def test_instances_are_refused_again_after_deregistration() -> None:
    register()
    ray.put(Connection("here"))
    util.deregister_serializer(Connection)
    util.deregister_serializer(Connection)
    with pytest.raises(TypeError, match="lock"):
        ray.put(Connection("here"))


def test_a_registered_serializer_is_local_to_its_process(session: str) -> None:
    register()

    @ray.remote
    def back(connection: Any) -> Any:
        return connection

    if session == "inline":
        assert "here" == ray.get(back.remote(Connection("here"))).url
        return
    with pytest.raises(TypeError, match="lock"):
        ray.get(back.remote(Connection("here")), timeout=30)

    @ray.remote
    def registered(connection: Any) -> Any:
        util.register_serializer(type(connection), serializer=lambda made: made.url, deserializer=str.upper)
        return connection

    assert "HERE" == ray.get(registered.remote(Connection("here")), timeout=30)


@pytest.mark.usefixtures("session")
def test_a_function_can_close_over_an_instance_of_a_registered_class() -> None:
    register()
    made = Connection("here")
    assert "here" == ray.get(ray.remote(lambda: made.url).remote(), timeout=30)


def test_a_registered_serializer_is_used_by_ray_cloudpickle_and_not_by_other_picklers() -> None:
    register()
    try:
        with pytest.raises(TypeError):
            pickle.dumps(Connection("here"))
        assert "here" == ray.cloudpickle.loads(ray.cloudpickle.dumps(Connection("here"))).url
    finally:
        util.deregister_serializer(Connection)


@pytest.mark.parametrize(
    ("args", "text"),
    [((3, str, str), "takes a class"), ((int, 1, str), "serializer"), ((int, str, None), "deserializer")],
)
def test_wrong_arguments_of_register_serializer_are_refused(args: Any, text: str) -> None:
    cls, serializer, deserializer = args
    with pytest.raises(TypeError, match=text):
        util.register_serializer(cls, serializer=serializer, deserializer=deserializer)


# ---- cloudpickle


def test_ray_cloudpickle_has_the_functions_of_cloudpickle() -> None:
    file = io.BytesIO()
    ray.cloudpickle.dump(lambda x: x + 1, file)
    assert 2 == ray.cloudpickle.loads(file.getvalue())(1)
    file.seek(0)
    assert 3 == ray.cloudpickle.load(file)(2)
    buffers: list[pickle.PickleBuffer] = []
    ray.cloudpickle.dumps(pickle.PickleBuffer(b"x"), protocol=5, buffer_callback=buffers.append)
    assert 1 == len(buffers)


# ---- inspection


def test_a_picklable_value_has_no_failures() -> None:
    report = io.StringIO()
    assert (True, set()) == util.inspect_serializability([1, lambda: 2], name="fine", print_file=report)
    assert "FAIL" not in report.getvalue()


def test_the_failure_names_the_variable_that_a_function_uses(capsys: pytest.CaptureFixture[str]) -> None:
    lock = threading.Lock()

    def test() -> Any:
        return lock

    ok, failures = util.inspect_serializability(test, name="test")
    (failure,) = failures
    assert not ok
    assert ("lock", lock, test) == (failure.name, failure.obj, failure.parent)
    assert repr(failure).startswith("FailTuple(lock [obj=<unlocked _thread.lock")
    printed = capsys.readouterr().out
    assert "Checking Serializability of <function" in printed
    assert "    Serializing 'lock' <unlocked" in printed
    assert "was found to be non-serializable" in printed


def test_each_unpicklable_part_is_found_down_to_the_depth() -> None:
    value = {"a": [threading.Lock()], "b": Connection("x"), "c": 1}
    _, failures = util.inspect_serializability(value, depth=3, print_file=io.StringIO())
    assert {"[0]", "lock"} == {failure.name for failure in failures}
    _, failures = util.inspect_serializability(value, depth=1, print_file=io.StringIO())
    assert {"['a']", "['b']"} == {failure.name for failure in failures}
    _, failures = util.inspect_serializability(value, name="value", depth=0, print_file=io.StringIO())
    assert [("value", None)] == [(failure.name, failure.parent) for failure in failures]
    with pytest.raises(ValueError, match="depth"):
        util.inspect_serializability(value, depth=-1)


def test_the_inspection_of_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = [threading.Lock()]
    value.append(value)
    ok, failures = util.inspect_serializability(value, print_file=io.StringIO())
    assert not ok
    assert "[0]" in {failure.name for failure in failures}
