"""Ray on this machine only: without its dashboard and without the copying of workers' output to ours."""

from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.engines.ray_api import RayApi


def engine() -> BenchmarkEngine:
    """A session of its own, even where another one runs."""
    return RayApi(
        "ray",
        {"address": "local", "include_dashboard": False, "log_to_driver": False, "logging_level": "error"},
    )
