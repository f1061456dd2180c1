"""An engine that runs each call at once in the driver, and fails in the methods that a test chooses.

Tests write one-line adapters that make the engine; see `adapter` in test_rounds.py.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


class FakeEngine:
    """An engine whose handles are the values. `trouble` maps names of methods to functions that are called before."""

    lives_in_driver = False

    def __init__(self, program: str = "pass", **trouble: Callable[[], Any]) -> None:
        self._program = program
        for name, make_trouble in trouble.items():
            setattr(self, name, self._troubled(getattr(self, name), make_trouble))

    @staticmethod
    def _troubled(method: Callable[..., Any], make_trouble: Callable[[], Any]) -> Callable[..., Any]:
        def troubled(*args: Any) -> Any:
            make_trouble()
            return method(*args)

        return troubled

    def first_result_program(self, workers: int) -> tuple[str, str]:
        return self._program, "pass"

    def start(self, workers: int) -> None:
        print("noise on stdout")

    def stop(self) -> None:
        print('{"case": "noise"}', flush=True)

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return fn

    def get(self, handle: Any) -> Any:
        return handle

    def get_all(self, handles: list[Any]) -> list[Any]:
        return list(handles)

    def wait_any(self, handles: list[Any]) -> list[Any]:
        return handles[1:]

    def put(self, value: Any) -> Any:
        return value

    def put_all(self, values: list[Any]) -> list[Any]:
        return values

    def actor(self, cls: type) -> Any:
        return cls()

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(actor, name)
        return method

    def tree(self, depth: int) -> int:
        return (1 << depth + 1) - 1


def hang() -> None:
    """Never return."""
    time.sleep(3600)


def crash() -> None:
    """End the process without cleaning up, as a segmentation fault does."""
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(3)


def refuse() -> None:
    """Raise the error of ipyremote for a missing feature."""
    raise NotImplementedError("not yet")


def fail() -> None:
    """Raise an error with a text of two lines."""
    raise ValueError("first line\nsecond line")


def leave_a_process(path: str) -> Callable[[], None]:
    """Start a process in its own process session, write its id to `path`, and hang."""

    def leave() -> None:
        command = [sys.executable, "-c", "import time; time.sleep(3600)"]
        process = subprocess.Popen(command, start_new_session=True)
        with open(path, "w") as file:
            file.write(str(process.pid))
        hang()

    return leave


def fork_and_crash(path: str) -> Callable[[], None]:
    """Fork a process that keeps all descriptors open, the report's too, write its id to `path`, and crash."""

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            hang()
        with open(path, "w") as file:
            file.write(str(pid))
        crash()

    return fork


def hold_a_semaphore(path: str) -> Callable[[], None]:
    """Make a named semaphore that a resource tracker unlinks, write its name to `path`, and hang.

    A second process keeps the tracker running after the end of this process.
    """

    def hold() -> None:
        context = multiprocessing.get_context("spawn")
        semaphore = context.Semaphore()
        context.Process(target=time.sleep, args=(3600,)).start()
        with open(path, "w") as file:
            file.write(semaphore._semlock.name)  # type: ignore[attr-defined]
        hang()

    return hold
