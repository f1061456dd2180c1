"""loky, the executor of joblib."""

from concurrent.futures import Executor
from typing import cast

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.executor_engine import ExecutorEngine

PROGRAM = """
from loky import ProcessPoolExecutor
executor = ProcessPoolExecutor(workers)
"""


def _make(workers: int) -> Executor:
    """Return a plain executor, because the reusable executor ends idle workers after a time."""
    from loky import ProcessPoolExecutor

    return cast("Executor", ProcessPoolExecutor(workers))


def engine() -> BenchmarkEngine:
    """Return a loky engine with default options."""
    return ExecutorEngine(_make, PROGRAM)
