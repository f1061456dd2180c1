"""The standard library's ProcessPoolExecutor, started by a fork server."""

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
    """The executor; its workers start with its first tasks."""
    return ProcessPoolExecutor(workers, mp_context=get_context("forkserver"))


def engine() -> BenchmarkEngine:
    """The fork server, because forking a program that has threads is not safe."""
    return ExecutorEngine(_make, PROGRAM)
