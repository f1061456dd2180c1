"""Ray on this machine only, without its dashboard and without copying the output of workers to the driver."""

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.ray_api import RayApi


def engine() -> BenchmarkEngine:
    """Return a Ray engine that starts a session of its own, even if another session runs."""
    return RayApi(
        "ray",
        {"address": "local", "include_dashboard": False, "log_to_driver": False, "logging_level": "error"},
    )
