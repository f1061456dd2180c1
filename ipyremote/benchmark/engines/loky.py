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
    """The plain executor: the reusable one would time its idle workers out."""
    from loky import ProcessPoolExecutor

    return cast("Executor", ProcessPoolExecutor(workers))


def engine() -> BenchmarkEngine:
    """Defaults."""
    return ExecutorEngine(_make, PROGRAM)
