"""ipyremote with the defaults that a user gets."""

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.ray_api import RayApi


def engine() -> BenchmarkEngine:
    """Return an ipyremote engine on which only the number of workers is set."""
    return RayApi("ipyremote", {})
