"""The adapter of engines that are a `concurrent.futures.Executor`, which have tasks only."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from functools import partial
from typing import Any

from ipyremote.benchmark.engine import Unsupported


class ExecutorEngine:
    """A `BenchmarkEngine` that uses `Executor.submit`; `make` returns an executor with the given number of workers."""

    lives_in_driver = False

    def __init__(self, make: Callable[[int], Executor], program: str) -> None:
        self._make = make
        #: Source text that makes `executor` from `workers`.
        self._program = program
        self._executor: Executor | None = None

    def first_result_program(self, workers: int) -> tuple[str, str]:
        return (
            f"import posixpath\n"
            f"workers = {workers}\n"
            f"{self._program}\n"
            f"assert executor.submit(posixpath.basename, 'a/b').result() == 'b'\n",
            "executor.shutdown()\n",
        )

    def start(self, workers: int) -> None:
        self._executor = self._make(workers)

    def stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        assert self._executor is not None, "start comes first"
        return partial(self._executor.submit, fn)

    def get(self, handle: Any) -> Any:
        return handle.result()

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def wait_any(self, handles: list[Any]) -> list[Any]:
        ready = next(iter(wait(handles, return_when=FIRST_COMPLETED).done))
        return [handle for handle in handles if handle is not ready]

    def put(self, value: Any) -> Any:
        raise Unsupported("an executor has no object store")

    def put_all(self, values: list[Any]) -> list[Any]:
        raise Unsupported("an executor has no object store")

    def actor(self, cls: type) -> Any:
        raise Unsupported("an executor has no actors")

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        raise Unsupported("an executor has no actors")

    def tree(self, depth: int) -> int:
        raise Unsupported("a task cannot submit to the executor it runs in")
