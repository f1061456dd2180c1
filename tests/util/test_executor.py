"""`Executor`, with the behaviour that `concurrent.futures` documents for executors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

import ipyremote as ray
from ipyremote.exceptions import ActorDiedError, TaskError, WorkerCrashedError
from ipyremote.util import Executor
from tests.support.sources import ROOT
from tests.support.waiting import until
from tests.util.calls import after, square

pytestmark = pytest.mark.usefixtures("cluster")


def test_futures_have_the_values_of_their_calls() -> None:
    with Executor() as executor:
        assert executor.submit(square, 3).result() == 9
        assert executor.submit(pow, 2, 5, mod=7).result() == 4
        assert executor.submit(partial(square, 4)).result() == 16
        assert executor.submit("abc".upper).result() == "ABC"
        assert executor.submit(lambda *, key: key, key=1).result() == 1
        assert executor.submit(os.getpid).result() != os.getpid()


def test_a_future_has_the_exception_of_its_call() -> None:
    with Executor() as executor:
        future = executor.submit(lambda: 1 / 0)
        error = future.exception()
    assert type(error) is ZeroDivisionError
    assert error.args == ("division by zero",)
    assert isinstance(error.__cause__, TaskError)
    assert "lambda" in str(error.__cause__)
    assert error.__traceback__ is None
    assert error.__cause__.__traceback__ is None
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_wrong_arguments_of_a_call_are_the_exception_of_its_future() -> None:
    with Executor() as executor:
        with pytest.raises(TypeError):
            executor.submit(square).result()
        with pytest.raises(TypeError, match="lock"):
            executor.submit(square, threading.Lock()).result()
        with pytest.raises(TypeError, match="plain function"):
            executor.submit(ray.remote(square), 1)
        with pytest.raises(TypeError):
            executor.submit()  # type: ignore[call-arg]
        assert executor.submit(square, 2).result() == 4


def test_executor_map_behaves_like_the_built_in_map() -> None:
    with Executor() as executor:
        assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
        assert list(executor.map(square, range(20), chunksize=7)) == [i * i for i in range(20)]
        assert list(executor.map(pow, [2, 3], [1, 2, 3], chunksize=2)) == [2, 9]
        assert list(executor.map(square, [])) == []
        divided = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert [next(divided), next(divided)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError):
            next(divided)
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(square, range(3), chunksize=-1)


def test_executor_map_has_a_timeout(tmp_path: Path) -> None:
    with Executor() as executor:
        assert list(executor.map(square, [1, 2], timeout=60)) == [1, 4]
        values = executor.map(after, [tmp_path / "late"], timeout=0.2)
        with pytest.raises(futures.TimeoutError):
            next(values)
        (tmp_path / "late").touch()


def test_executor_map_takes_no_more_items_than_its_buffer_size() -> None:
    drawn: list[int] = []

    def items() -> Any:
        for i in range(10):
            drawn.append(i)
            yield i

    with Executor() as executor:
        values = executor.map(square, items(), buffersize=3)
        assert len(drawn) == 3
        assert next(values) == 0
        assert len(drawn) == 4
        assert list(values) == [i * i for i in range(1, 10)]
        for buffersize, error in ((0, ValueError), ("3", TypeError)):
            with pytest.raises(error, match="buffersize"):
                executor.map(square, range(3), buffersize=buffersize)  # type: ignore[arg-type]


def test_a_call_that_is_cancelled_before_its_start_never_runs(tmp_path: Path) -> None:
    with Executor(max_workers=1) as executor:
        first = executor.submit(after, tmp_path / "go", 1)
        until((tmp_path / "go.began").exists, "the first call runs")
        second = executor.submit(after, tmp_path / "other", 2)
        assert first.running()
        assert not first.cancel()
        assert not second.running()
        assert second.cancel()
        assert second.cancelled()
        with pytest.raises(futures.CancelledError):
            second.result()
        (tmp_path / "go").touch()
        assert first.result() == 1
    assert not (tmp_path / "other.began").exists()


def test_shutdown_waits_for_running_calls_only_if_requested(tmp_path: Path) -> None:
    executor = Executor(max_workers=1)
    running = executor.submit(after, tmp_path / "go", 1)
    waiting = executor.submit(square, 5)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    assert not running.done()
    (tmp_path / "go").touch()
    assert [running.result(), waiting.result()] == [1, 25]
    executor.shutdown()


def test_shutdown_can_cancel_waiting_calls(tmp_path: Path) -> None:
    executor = Executor(max_workers=1)
    running = executor.submit(after, tmp_path / "go", 1)
    until((tmp_path / "go.began").exists, "the first call runs")
    waiting = [executor.submit(square, i) for i in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    (tmp_path / "go").touch()
    executor.shutdown()
    assert running.result() == 1


def test_futures_work_with_wait_and_as_completed_and_asyncio(tmp_path: Path) -> None:
    with Executor() as executor:
        late = executor.submit(after, tmp_path / "go", "late")
        early = [executor.submit(square, i) for i in range(4)]
        done, rest = futures.wait([late, *early], return_when=futures.FIRST_COMPLETED)
        assert done <= set(early)
        assert late in rest
        (tmp_path / "go").touch()
        assert {f.result() for f in futures.as_completed([late, *early])} == {0, 1, 4, 9, "late"}
        called: list[Any] = []
        early[1].add_done_callback(called.append)
        assert called == [early[1]]

        async def awaited() -> Any:
            loop = asyncio.get_running_loop()
            return [
                await asyncio.wrap_future(executor.submit(square, 6)),
                await loop.run_in_executor(executor, square, 7),
            ]

        assert asyncio.run(awaited()) == [36, 49]


def test_a_callback_that_raises_does_not_break_the_executor(caplog: pytest.LogCaptureFixture) -> None:
    with Executor() as executor:
        future = executor.submit(square, 2)
        future.add_done_callback(lambda _: 1 / 0)
        assert future.result() == 4
        assert executor.submit(square, 3).result() == 9


def test_a_call_whose_process_dies_fails_alone(tmp_path: Path) -> None:
    with Executor() as executor:
        with pytest.raises(WorkerCrashedError):
            executor.submit(os._exit, 1).result()
        assert executor.submit(square, 3).result() == 9


def test_a_call_runs_once_even_if_its_process_dies(tmp_path: Path) -> None:
    def die(log: Path) -> None:
        with log.open("a") as file:
            file.write("x")
        os._exit(1)

    with Executor() as executor, pytest.raises(WorkerCrashedError):
        executor.submit(die, tmp_path / "log").result()
    assert (tmp_path / "log").read_text() == "x"


def test_max_workers_limits_the_number_of_concurrent_calls(tmp_path: Path) -> None:
    with Executor(max_workers=1) as executor:
        began = executor.submit(after, tmp_path / "go")
        until((tmp_path / "go.began").exists, "the first call runs")
        executor.submit(after, tmp_path / "next")
        (tmp_path / "go").touch()
        began.result()
        (tmp_path / "next").touch()
    # The executor runs more calls at a time than there are CPUs.
    with Executor(max_workers=5) as executor:
        waiting = [executor.submit(after, tmp_path / f"all{i}", i) for i in range(5)]
        until(lambda: len(list(tmp_path.glob("all*.began"))) == 5, "all calls run")
        for i in range(5):
            (tmp_path / f"all{i}").touch()
        assert [future.result() for future in waiting] == list(range(5))
    assert executor._max_workers == 5


def test_an_executor_inside_a_task_does_not_wait_for_its_own_cpu() -> None:
    @ray.remote(num_cpus=2)
    def inside() -> list[int]:
        with Executor() as executor:
            return list(executor.map(square, range(5)))

    assert ray.get(inside.remote(), timeout=60) == [0, 1, 4, 9, 16]


#: Set by an initializer in a worker process.
prepared: list[int]


def test_an_initializer_runs_once_in_each_worker_process() -> None:
    def prepare(value: int) -> None:
        global prepared
        prepared = [value]

    def use(item: int) -> list[int]:
        prepared.append(item)
        return prepared

    with Executor(1, initializer=prepare, initargs=(7,)) as executor:
        assert list(executor.map(use, [1, 2])) == [[7, 1], [7, 1, 2]]
        assert executor.submit(os.getpid).result() == executor.submit(os.getpid).result()
        with pytest.raises(ActorDiedError):
            executor.submit(os._exit, 1).result()
        assert executor.submit(use, 3).result() == [7, 3]


def test_an_initializer_that_fails_breaks_the_executor(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise ValueError("not today")

    with Executor(2, initializer=refuse) as executor:
        future = executor.submit(square, 1)
        with pytest.raises(futures.BrokenExecutor):
            future.result()
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(square, 1)
    assert "not today" in caplog.text


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
@pytest.mark.parametrize("initializer", [None, square])
def test_an_executor_can_kill_all_workers_at_once(tmp_path: Path, how: str, initializer: Any) -> None:
    executor = Executor(2, initializer=initializer, initargs=(1,))
    running = executor.submit(after, tmp_path / "never")
    until((tmp_path / "never.began").exists, "the first call runs")
    waiting = [executor.submit(after, tmp_path / "never") for _ in range(3)]
    getattr(executor, how)()
    assert running.exception(timeout=20) is not None
    done = futures.wait(waiting, timeout=20).done
    assert done == set(waiting)
    executor.shutdown()


def test_refs_among_arguments_of_a_call_arrive_as_values() -> None:
    with Executor() as executor:
        assert executor.submit(square, ray.put(5)).result() == 25


def test_an_executor_accepts_options_of_its_tasks() -> None:
    with Executor(remote_args={"num_cpus": 0.5, "max_retries": 2}) as executor:
        assert executor.submit(square, 5).result() == 25
    for given, error in (({"num_returns": 2}, ValueError), ({"no_such": 1}, ValueError)):
        with pytest.raises(error):
            Executor(remote_args=given)
    with pytest.raises(ValueError, match="max_workers"):
        Executor(0)
    with pytest.raises(TypeError, match="initializer"):
        Executor(initializer=5)  # type: ignore[arg-type]


def test_futures_of_a_lost_session_fail(tmp_path: Path) -> None:
    executor = Executor(1)
    running = executor.submit(after, tmp_path / "never")
    waiting = executor.submit(square, 1)
    until((tmp_path / "never.began").exists, "the first call runs")
    ray.shutdown()
    assert isinstance(running.exception(timeout=20), ray.exceptions.IPyRemoteError)
    assert waiting.exception(timeout=20) is not None
    executor.shutdown()


def test_a_dropped_executor_ends_its_threads() -> None:
    executor = Executor(2)
    assert executor.submit(square, 2).result() == 4
    del executor
    until(
        lambda: not [t for t in threading.enumerate() if "ipyremote-executor" in t.name], "no thread is left"
    )


def test_progress_bars_of_tqdm_work_with_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread would outlive the test
    with Executor() as executor, open(os.devnull, "w") as nowhere:
        assert list(tqdm(executor.map(square, range(5)), total=5, file=nowhere)) == [0, 1, 4, 9, 16]


def test_submitted_calls_are_finished_at_the_end_of_the_program(tmp_path: Path) -> None:
    at_end = tmp_path / "at_end"
    program = f"""
import os, threading, time
from ipyremote.util import Executor

def slow(word):
    deadline = time.monotonic() + 30
    while not os.path.exists({str(at_end)!r}):
        assert time.monotonic() < deadline, "the program has not come to its end"
        time.sleep(0.005)
    return word

Executor(1).submit(slow, "apple").add_done_callback(lambda future: print(future.result()))
# Called when the main thread has come to its end, before the threads of executors are joined.
threading._register_atexit(lambda: open({str(at_end)!r}, "w").close())
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "apple\n"
    assert time.monotonic() - began < 60
