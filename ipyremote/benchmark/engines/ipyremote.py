"""ipyremote, as a user has it."""

from ipyremote.benchmark.engine import Engine
from ipyremote.benchmark.engines.ray_api import RayApi


def engine() -> Engine:
    """Nothing but the number of workers is set."""
    return RayApi("ipyremote", {})
