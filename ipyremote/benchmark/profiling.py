"""One case of ipyremote under cProfile, in this process as the driver; only the calling thread is profiled."""

import cProfile
import pstats
from io import StringIO

from ipyremote.benchmark.cases import FULL, QUICK, Case, Setting
from ipyremote.benchmark.engine import BenchmarkEngine

#: Lines of the profile that are worth reading.
TOP = 30


def profile(case: Case, engine: BenchmarkEngine, workers: int, quick: bool) -> str:
    """The functions that take the most time of one sample, after a first sample that is not profiled."""
    sizes = QUICK if quick else FULL
    # No case that looks at processes is profiled, so there is no mark to look for.
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
