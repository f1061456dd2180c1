"""Behaviours of tasks: calls, arguments, numbers of returns, options, streams, retries, cancellation."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ipyremote as ray
from tests.differential.behaviours import Program, caught, comes_true, raised

program = Program()

#: Global that a behaviour changes.
factor = 2


def scratch() -> Path:
    """Return an unused path in the current directory of the program."""
    return Path(tempfile.mkdtemp(dir=Path.cwd())) / "file"


def twice(number: int, plus: int = 0) -> int:
    return 2 * number + plus


def runs_of(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


def note_run(path: Path) -> int:
    with path.open("a") as file:
        file.write("x")
    return runs_of(path)


@program
def a_task_returns_its_value() -> Any:
    f = ray.remote(twice)
    return (
        ray.get(f.remote(2)),
        ray.get(f.remote(2, plus=1)),
        ray.get(f.options(name="other").remote(plus=3, number=1)),
    )


@program
def a_direct_call_is_refused() -> Any:
    return ray.remote(twice)(1)


@program
def arguments_are_checked_at_the_call() -> Any:
    f = ray.remote(twice)
    return raised(f.remote), raised(f.remote, 1, 2, 3), raised(f.remote, 1, other=2)


@program
def options_are_checked() -> Any:
    f = ray.remote(twice)
    return [
        raised(f.options, colour="red"),
        raised(f.options, num_cpus=-1),
        raised(f.options, num_returns=-1),
        raised(f.options, resources={"CPU": 1}),
        raised(f.options, max_retries="many"),
        raised(lambda: ray.remote(colour="red")(twice)),  # type: ignore[call-overload]
    ]


@program
def decorating_is_checked() -> Any:
    async def coroutine() -> None: ...

    return raised(ray.remote), raised(ray.remote, coroutine)


@program
def decorating_a_number_is_refused() -> Any:
    return raised(ray.remote, 3), raised(ray.remote(num_cpus=1), 3)


@program
def remote_takes_options_or_a_function() -> Any:
    @ray.remote(num_cpus=0.5, max_retries=0)
    def half() -> str:
        return "half"

    return ray.get(half.remote()), type(half).__name__


@program
def several_returns_are_several_refs() -> Any:
    @ray.remote(num_returns=3)
    def three() -> Any:
        return 1, 2, 3

    refs = three.remote()
    return type(refs), len(refs), ray.get(refs), ray.get(three.options(num_returns=1).remote())


@program
def no_returns_are_none() -> Any:
    return ray.remote(num_returns=0)(twice).remote(1)


@program
def a_wrong_number_of_returns_fails_the_task() -> Any:
    @ray.remote(num_returns=2)
    def three() -> Any:
        return 1, 2, 3

    return [raised(ray.get, ref) for ref in three.remote()]


@program
def a_tuple_stays_a_tuple() -> Any:
    @ray.remote
    def pair() -> Any:
        return 1, 2

    return type(ray.get(pair.remote())).__name__


@program
def refs_at_the_top_are_values_and_those_inside_are_refs() -> Any:
    @ray.remote
    def kinds(*args: Any, **named: Any) -> Any:
        return [type(arg).__name__ for arg in args], type(named["key"]).__name__, type(args[1][0]).__name__

    ref = ray.put(1)
    return ray.get(kinds.remote(ref, [ref], key=ref))


@program
def arguments_are_copies() -> Any:
    @ray.remote
    def change(items: list[int]) -> list[int]:
        items.append(1)
        return items

    mine = [0]
    return ray.get(change.remote(mine)), mine


@program
def a_task_waits_for_its_arguments() -> Any:
    @ray.remote
    def slow() -> int:
        time.sleep(0.2)
        return 3

    f = ray.remote(twice)
    return ray.get(f.remote(f.remote(slow.remote())))


@program
def nested_tasks_do_not_deadlock() -> Any:
    @ray.remote
    def nested(depth: int) -> int:
        return depth if not depth else 1 + ray.get(nested.remote(depth - 1))

    return ray.get(nested.remote(5), timeout=60)


@program
def refs_can_be_returned() -> Any:
    @ray.remote
    def gives_ref() -> Any:
        return ray.remote(twice).remote(4)

    ref = ray.get(gives_ref.remote())
    return type(ref), ray.get(ref)


@program
def a_failed_argument_fails_the_task_without_running_it() -> Any:
    @ray.remote
    def fail() -> None:
        raise KeyError("first")

    @ray.remote
    def after(value: Any, log: Path) -> None:
        log.touch()

    log = scratch()
    return raised(ray.get, after.remote(fail.remote(), log)), log.exists()


@program
def globals_are_taken_at_the_first_call() -> Any:
    global factor

    @ray.remote
    def times() -> int:
        return factor

    factor = 2
    first = ray.get(times.remote())
    factor = 3
    return first, ray.get(times.remote())


@program
def a_redefinition_counts() -> Any:
    answers = []
    for answer in (1, 2):

        @ray.remote
        def f(answer: int = answer) -> int:
            return answer

        answers.append(ray.get(f.remote()))
    return answers


@program
def a_generator_streams() -> Any:
    @ray.remote
    def count() -> Any:
        yield 0
        yield 1

    stream = count.remote()
    refs = list(stream)
    return type(stream), [type(ref) for ref in refs], ray.get(refs), raised(next, stream)


@program
def a_generator_that_delegates_streams() -> Any:
    @ray.remote
    def count() -> Any:
        yield from range(3)

    return [ray.get(ref) for ref in count.remote()]


@program
def a_stream_that_fails_ends_with_the_error() -> Any:
    @ray.remote
    def count() -> Any:
        yield 1
        raise ValueError("late")

    stream = count.remote()
    first = ray.get(next(stream))
    return first, raised(ray.get, next(stream)), raised(next, stream)


@program
def a_generator_with_a_number_of_returns_gives_its_values() -> Any:
    @ray.remote(num_returns=2)
    def pair() -> Any:
        yield 1
        yield 2

    return ray.get(pair.remote())


@program
def a_stream_can_be_waited_for() -> Any:
    @ray.remote
    def one() -> Any:
        yield 1

    stream = one.remote()
    ready, rest = ray.wait([stream], timeout=30)
    return len(ready), len(rest), ready[0] is stream


@program
def get_takes_a_stream_but_no_list_of_streams() -> Any:
    @ray.remote
    def one() -> Any:
        yield 1

    stream = one.remote()
    return ray.get(stream) is stream, raised(ray.get, [stream])


@program
def a_stream_cannot_be_pickled() -> Any:
    @ray.remote
    def one() -> Any:
        yield 1

    return ray.put(one.remote())


@program
def streaming_is_for_generators() -> Any:
    return raised(ray.remote(num_returns="streaming"), twice)


@program
def a_request_that_cannot_be_met_waits() -> Any:
    ref = ray.remote(twice).options(num_cpus=1000).remote(1)
    ready, rest = ray.wait([ref], timeout=0.3)
    ray.cancel(ref)
    return len(ready), len(rest), raised(ray.get, ref)


@program
def no_cpus_are_fine() -> Any:
    return ray.get(ray.remote(num_cpus=0)(twice).remote(1))


@program
def exceptions_are_retried_on_demand() -> Any:
    def flaky(log: Path) -> int:
        runs = note_run(log)
        if runs < 3:
            raise ValueError(runs)
        return runs

    f = ray.remote(flaky)
    outcomes = []
    for options in (
        {"max_retries": 5, "retry_exceptions": True},
        {"max_retries": 5, "retry_exceptions": [ValueError]},
        {"max_retries": 5, "retry_exceptions": [KeyError]},
        {"max_retries": 5},
        {"max_retries": 1, "retry_exceptions": True},
    ):
        log = scratch()
        outcomes.append((raised(ray.get, f.options(**options).remote(log)), runs_of(log)))
    return outcomes


@program
def a_crash_is_retried_and_then_told() -> Any:
    def crash(log: Path) -> None:
        note_run(log)
        os._exit(1)

    log = scratch()
    return raised(ray.get, ray.remote(crash).options(max_retries=1).remote(log)), runs_of(log)


@program
def a_task_that_has_not_started_is_cancelled() -> Any:
    @ray.remote
    def sleep() -> None:
        time.sleep(1000)

    busy = [sleep.remote() for _ in range(2)]
    waiting = sleep.remote()
    ray.cancel(waiting)
    told = raised(ray.get, waiting, timeout=30)
    for ref in busy:
        ray.cancel(ref, force=True)
    return told


@program
def a_running_task_is_interrupted() -> Any:
    @ray.remote
    def sleep(log: Path) -> None:
        log.touch()
        for _ in range(10_000):
            time.sleep(0.01)

    log = scratch()
    ref = sleep.remote(log)
    started = comes_true(log.exists)
    ray.cancel(ref)
    return started, caught(ray.exceptions.TaskCancelledError, ray.get, ref, timeout=30)


@program
def cancelling_is_for_refs_and_comes_too_late_without_harm() -> Any:
    ref = ray.remote(twice).remote(1)
    ray.get(ref)
    ray.cancel(ref)
    return ray.get(ref), raised(ray.cancel, 1)


@program
def a_function_that_cannot_be_pickled_is_refused() -> Any:
    import threading

    lock = threading.Lock()

    @ray.remote
    def locked() -> None:
        lock.acquire()

    return raised(locked.remote)


@program
def an_argument_that_cannot_be_pickled_is_refused() -> Any:
    import threading

    return raised(ray.remote(twice).remote, threading.Lock())


if __name__ == "__main__":
    ray.init(num_cpus=2, log_to_driver=False)
    program.report()
    ray.shutdown()
