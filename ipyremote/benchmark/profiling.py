"""Profile of one case of ipyremote with cProfile: this process is the driver, and only the calling thread counts."""

import cProfile
import pstats
from io import StringIO

from ipyremote.benchmark.cases import FULL, QUICK, Case, Setting
from ipyremote.benchmark.engine import BenchmarkEngine

#: Number of functions that the profile shows.
TOP = 30


def profile(case: Case, engine: BenchmarkEngine, workers: int, quick: bool) -> str:
    """Return a table of the functions that take most of the time of one sample.

    The first sample is not profiled.
    """
    sizes = QUICK if quick else FULL
    # The cases that look for marked processes cannot be profiled, so the setting needs no token.
    setting = Setting(engine, sizes, workers, token="", driver_before=0.0)
    profiler = cProfile.Profile()
    engine.start(workers)
    try:
        samples = case.samples(setting)
        next(samples)
        sample = profiler.runcall(next, samples)
    finally:
        engine.stop()
    text = StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(TOP)
    row = case.row(sizes)
    return f"{row.title}: {sample:,.2f} {row.unit} while profiled\n{text.getvalue()}"
