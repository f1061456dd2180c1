"""Behaviours of exceptions on their way from a task to `get`."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from typing import Any

import ipyremote as ray
from tests.differential.behaviours import Program, caught, raised

program = Program()


class WithCode(Exception):
    """Exception with a field and its own `__init__`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return WithCode, (self.code,)


class Final(Exception):
    """Exception class that forbids subclasses."""

    def __init_subclass__(cls) -> None:
        raise TypeError("final")


def _explode() -> None:
    raise RuntimeError("cannot be unpickled")


class Explosive(Exception):
    """Exception that can be pickled but not unpickled."""

    def __reduce__(self) -> Any:
        return _explode, ()


@ray.remote(max_retries=0)
def run(function: Any, *args: Any) -> Any:
    return function(*args)


def throw(error: BaseException) -> Any:
    raise error


def got(raised: BaseException) -> Any:
    """Return the exception that `get` raises for a task that raised `error`."""
    try:
        ray.get(run.remote(throw, raised), timeout=60)
    except BaseException as error:
        return error
    return None


@program
def an_error_is_its_own_class_and_a_task_error() -> Any:
    return [
        got(error) for error in (ValueError("a"), KeyError("k"), OSError(2, "no file"), ZeroDivisionError())
    ]


@program
def the_cause_and_the_arguments_are_the_original() -> Any:
    error = got(ValueError("a", 1))
    return (
        error.cause,
        error.cause.args,
        error.args == (error.cause,),
        isinstance(error, ray.exceptions.RayTaskError),
    )


@program
def the_text_has_the_message_and_the_line() -> Any:
    text = str(got(ValueError("the message")))
    return "the message" in text, "raise error" in text, "ValueError" in text


@program
def fields_of_the_cause_are_found() -> Any:
    error = got(WithCode(7))
    return error.code, error.cause.code, isinstance(error, WithCode)


@program
def numbers_of_system_errors_are_found() -> Any:
    error = got(FileNotFoundError(2, "no file", "name"))
    return error.errno, error.filename


@program
def a_caught_error_can_be_pickled() -> Any:
    again = pickle.loads(pickle.dumps(got(ValueError("a"))))
    return again, again.cause, isinstance(again, ValueError)


@program
def a_class_that_forbids_inheritance_leaves_a_plain_task_error() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return got(Final("no"))


@program
def an_error_that_cannot_be_pickled_leaves_its_text() -> Any:
    def locked() -> None:
        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    try:
        ray.get(run.remote(locked), timeout=60)
    except ray.exceptions.RayTaskError as error:
        return error, "with a lock" in str(error)
    return "nothing"


@program
def an_error_that_cannot_be_unpickled_says_so() -> Any:
    def explosive() -> None:
        raise Explosive("original text")

    try:
        ray.get(run.remote(explosive), timeout=60)
    except ray.exceptions.RayError as error:
        return error, "original text" in str(error)
    return "nothing"


@program
def a_group_arrives_as_a_group() -> Any:
    error = got(ExceptionGroup("several", [ValueError(1), KeyError(2)]))
    return isinstance(error, ExceptionGroup), isinstance(error, ray.exceptions.RayTaskError)


@program
def a_nested_failure_keeps_its_class() -> Any:
    @ray.remote
    def outer() -> Any:
        return ray.get(run.remote(throw, KeyError("inner")))

    return raised(ray.get, outer.remote(), timeout=60)


@program
def an_error_caught_in_a_task_can_be_handled_there() -> Any:
    @ray.remote
    def outer() -> Any:
        try:
            return ray.get(run.remote(throw, ValueError("inner")))
        except ValueError as error:
            return str(error.cause)  # it is a task's error, too

    return ray.get(outer.remote(), timeout=60)


@program
def causes_are_told() -> Any:
    def chained() -> None:
        try:
            raise KeyError("the first")
        except KeyError as error:
            raise ValueError("the second") from error

    try:
        ray.get(run.remote(chained), timeout=60)
    except ValueError as error:
        return "the first" in str(error), "the second" in str(error)
    return "nothing"


@program
def an_exit_is_the_end_of_the_worker() -> Any:
    return raised(ray.get, run.remote(sys.exit, 3), timeout=60), raised(
        ray.get, run.remote(os._exit, 3), timeout=60
    )


@program
def what_is_raised_may_be_no_exception() -> Any:
    class Mine(BaseException):
        pass

    def throw_mine() -> None:
        raise Mine

    return raised(ray.get, run.remote(throw_mine), timeout=60)


@program
def an_interrupt_of_its_own_is_a_cancellation() -> Any:
    return caught(
        ray.exceptions.TaskCancelledError, ray.get, run.remote(throw, KeyboardInterrupt()), timeout=60
    )


@program
def what_ends_a_generator_is_none_itself() -> Any:
    return got(GeneratorExit())


@program
def an_exit_is_the_end_of_an_actor() -> Any:
    @ray.remote
    class Leaves:
        def leave(self) -> None:
            sys.exit(0)

    return raised(ray.get, Leaves.remote().leave.remote(), timeout=60)


@program
def a_failure_passes_through_actors() -> Any:
    @ray.remote
    class Same:
        def same(self, value: Any) -> Any:
            return value

    return raised(ray.get, Same.remote().same.remote(run.remote(throw, KeyError("k"))), timeout=60)


@program
def a_cancelled_coroutine_is_a_cancelled_task() -> Any:
    @ray.remote
    class Sleeps:
        async def sleep(self) -> None:
            await asyncio.sleep(1000)

        async def ready(self) -> bool:
            return True

    sleeps = Sleeps.remote()
    ref = sleeps.sleep.remote()
    ray.get(sleeps.ready.remote())
    ray.cancel(ref)
    return caught(ray.exceptions.TaskCancelledError, ray.get, ref, timeout=60)


@program
def the_tree_is_the_same() -> Any:
    names = [
        "ActorAlreadyExistsError ActorDiedError ActorHandleNotFoundError ActorPlacementGroupRemoved",
        "ActorUnavailableError ActorUnschedulableError AsyncioActorExit AuthenticationError CrossLanguageError",
        "GetTimeoutError LocalRayletDiedError NodeDiedError ObjectFetchTimedOutError ObjectFreedError ObjectLostError",
        "ObjectReconstructionFailedError ObjectRefStreamEndOfStreamError ObjectStoreFullError OutOfDiskError",
        "OutOfMemoryError OufOfBandObjectRefSerializationException OwnerDiedError PendingCallsLimitExceeded",
        "PlasmaObjectNotAvailable RayActorError RayError RaySystemError RayTaskError ReferenceCountingAssertionError",
        "RpcError RuntimeEnvSetupError TaskCancelledError TaskPlacementGroupRemoved TaskUnschedulableError",
        "UnserializableException UserCodeException WorkerCrashedError",
    ]
    tree = {}
    for name in " ".join(names).split():
        kind = getattr(ray.exceptions, name)
        bases = [base for base in kind.__mro__[1:] if issubclass(base, Exception) and base is not Exception]
        tree[name.removeprefix("Ray")] = {
            base.__name__.removeprefix("Ray").removeprefix("IPyRemote") for base in bases
        }
    return tree


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    program.report()
    ray.shutdown()
