"""Each wrong use raises a clear error at the place of the mistake, and errors of user code read like local errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import exceptions


@ray.remote
def add(a: int, b: int = 1) -> int:
    return a + b


@ray.remote
def fail(message: str) -> None:
    raise ValueError(message)


@pytest.mark.usefixtures("cluster")
def test_the_wrong_number_of_arguments_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="argument"):
        add.remote()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="argument"):
        add.remote(1, 2, 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="c"):
        add.remote(1, c=2)  # type: ignore[call-overload]


@pytest.mark.usefixtures("cluster")
def test_the_error_names_an_argument_that_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match=r"lock.*_thread\.lock"):
        add.remote({"lock": threading.Lock()})  # type: ignore[call-overload]


@pytest.mark.usefixtures("cluster")
def test_a_result_that_cannot_be_pickled_fails_the_task() -> None:
    @ray.remote
    def make_lock() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError, match=r"_thread\.lock"):
        ray.get(make_lock.remote(), timeout=30)


@pytest.mark.usefixtures("cluster")
def test_a_direct_call_of_a_remote_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"add\.remote\(\)"):
        add(1)


@pytest.mark.usefixtures("cluster")
def test_an_exception_of_user_code_has_both_types_and_its_frames() -> None:
    with pytest.raises(ValueError, match="bad luck") as caught:
        ray.get(fail.remote("bad luck"), timeout=30)
    assert isinstance(caught.value, exceptions.TaskError)
    assert "raise ValueError(message)" in str(caught.value)
    assert "ipyremote/worker" not in str(caught.value)


@pytest.mark.usefixtures("cluster")
def test_a_task_with_a_failed_argument_fails_with_the_error_of_the_argument() -> None:
    with pytest.raises(ValueError, match="upstream"):
        ray.get(add.remote(fail.remote("upstream")), timeout=30)  # type: ignore[arg-type]


@pytest.mark.usefixtures("cluster")
def test_get_raises_the_first_failure_without_waiting_for_the_other_values() -> None:
    @ray.remote
    def forever() -> None:
        time.sleep(1000)

    stuck = forever.remote()
    with pytest.raises(ValueError, match="early"):
        ray.get([stuck, fail.remote("early")], timeout=30)
    ray.cancel(stuck, force=True)


@pytest.mark.usefixtures("cluster")
def test_an_exception_class_of_the_caller_is_caught_as_that_class() -> None:
    class Mine(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code

    @ray.remote
    def raise_mine() -> None:
        raise Mine(7)

    with pytest.raises(exceptions.TaskError) as caught:
        ray.get(raise_mine.remote(), timeout=30)
    assert isinstance(caught.value.cause, Mine)
    assert caught.value.cause.code == 7
    assert isinstance(caught.value, Mine)


@pytest.mark.usefixtures("cluster")
def test_an_exception_that_cannot_be_pickled_arrives_as_text() -> None:
    @ray.remote
    def raise_lock() -> None:
        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(exceptions.TaskError, match="with a lock"):
        ray.get(raise_lock.remote(), timeout=30)


@pytest.mark.usefixtures("cluster")
def test_get_raises_after_its_timeout() -> None:
    @ray.remote
    def forever() -> None:
        time.sleep(1000)

    ref = forever.remote()
    for timeout in (0, 0.05):
        with pytest.raises(exceptions.GetTimeoutError):
            ray.get(ref, timeout=timeout)
    with pytest.raises(TimeoutError):
        ray.get([ref], timeout=0.01)
    ray.cancel(ref, force=True)


@pytest.mark.usefixtures("cluster")
def test_too_few_and_too_many_items_for_num_returns_fail_the_task() -> None:
    @ray.remote(num_returns=2)
    def three() -> Any:
        return 1, 2, 3

    @ray.remote(num_returns=2)
    def one_from_a_generator() -> Any:
        yield 1

    for ref in [*three.remote(), *one_from_a_generator.remote()]:
        with pytest.raises(ValueError, match="num_returns=2"):
            ray.get(ref, timeout=30)


@pytest.mark.usefixtures("cluster")
def test_a_task_with_an_impossible_resource_request_waits_and_says_why(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from ipyremote.backend import current

    ref = add.options(num_cpus=1000).remote(1)
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.2)
    assert "1000" in current.backend().explain(ref._id)
    assert "CPU" in current.backend().explain(ref._id)
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)


def test_refs_of_an_ended_session_are_refused(start: Callable[..., Any]) -> None:
    start(num_cpus=1)
    old = add.remote(1)
    assert ray.get(old, timeout=30) == 2
    ray.shutdown()
    start(num_cpus=1)
    with pytest.raises((exceptions.IPyRemoteError, ValueError), match="session"):
        ray.get(old, timeout=5)
    with pytest.raises((exceptions.IPyRemoteError, ValueError), match="session"):
        add.remote(old)
    assert ray.get(add.remote(2), timeout=30) == 3


@ray.remote
class Holder:
    def hold(self, value: Any) -> Any:
        return value


def test_the_error_says_where_a_value_has_a_ref_or_handle_of_an_ended_session(
    start: Callable[..., Any],
) -> None:
    start(num_cpus=1)
    ref, handle = ray.put(1), Holder.remote()
    ray.shutdown()
    start(num_cpus=1)
    holder = Holder.remote()

    @ray.remote
    def closed_over() -> Any:
        return ref

    found: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: add.remote([ref]), exceptions.ObjectLostError, "args[0][0]"),  # type: ignore[call-overload]
        (lambda: add.remote(handle), exceptions.ActorHandleNotFoundError, "args[0]"),
        (lambda: holder.hold.remote(value={"a": ref}), exceptions.ObjectLostError, "kwargs['value']['a']"),
        (lambda: holder.hold.remote(ref), exceptions.ObjectLostError, ""),
        (lambda: ray.put([1, handle]), exceptions.ActorHandleNotFoundError, "value[1]"),
        (closed_over.remote, exceptions.ObjectLostError, "closed_over -> ref"),
        (lambda: handle.hold.remote(1), exceptions.ActorHandleNotFoundError, ""),
        (lambda: ray.kill(handle), exceptions.ActorHandleNotFoundError, ""),
        (lambda: ray.wait([ref]), exceptions.ObjectLostError, ""),
        (lambda: ray.cancel(ref), exceptions.ObjectLostError, ""),
        (lambda: ref + 1, exceptions.ObjectLostError, ""),
        (ref.future, exceptions.ObjectLostError, ""),
    ]
    for use, kind, place in found:
        with pytest.raises(kind, match="session") as caught:
            use()
        assert place in "".join(getattr(caught.value, "__notes__", []))
    assert ray.get(holder.hold.remote(2), timeout=30) == 2


@pytest.mark.usefixtures("cluster")
def test_an_unknown_method_is_an_attribute_error_at_the_call() -> None:
    @ray.remote
    class Empty:
        def known(self) -> int:
            return 1

    actor = Empty.remote()
    with pytest.raises(AttributeError, match="unknown"):
        actor.unknown.remote()
    with pytest.raises(TypeError, match="argument"):
        actor.known.remote(1)
    assert ray.get(actor.known.remote(), timeout=30) == 1
