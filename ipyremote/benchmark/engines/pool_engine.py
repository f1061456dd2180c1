"""The standard library's ProcessPoolExecutor with the fork server."""

from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.executor_engine import ExecutorEngine

PROGRAM = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
executor = ProcessPoolExecutor(workers, mp_context=get_context('forkserver'))
"""


def _make(workers: int) -> Executor:
    """Return an executor, whose workers start with the first tasks."""
    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))


def engine() -> BenchmarkEngine:
    """Return a pool engine with the fork server, because forking a program with threads is not safe."""
    return ExecutorEngine(_make, PROGRAM)
