"""ipyremote, as a user has it."""

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.ray_api import RayApi


def engine() -> BenchmarkEngine:
    """Nothing but the number of workers is set."""
    return RayApi("ipyremote", {})
