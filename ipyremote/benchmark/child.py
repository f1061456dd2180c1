"""The child process of the benchmark: runs the named cases on one engine and reports each step as a JSON line.

    {"doing": "start" | "stop" | "exit" | <case>}               before each step, so that a hang has a name
    {"case": <case>, "status": ..., "samples": [...], "detail": ...}    after each case
    {"failed": <one line>}                                      the engine did not start

The lines go to a file descriptor of their own, because engines write to stdout and stderr. Only the parent enforces
time limits. The process is started from a string (`COMMAND`), not with -m, so that engines that import the main module
again in their workers do not import this module.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import islice
from time import monotonic
from typing import Any, cast

from ipyremote.benchmark import engine_processes
from ipyremote.benchmark.cases import BY_NAME, FULL, QUICK, Case, Setting
from ipyremote.benchmark.engine import BenchmarkEngine, Unsupported
from ipyremote.benchmark.results import CaseOutcome, CaseStatus

COMMAND = "from ipyremote.benchmark.child import main; main()"


def one_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def samples_of(case: Case, setting: Setting) -> list[float]:
    """Return as many samples of a case as the sizes allow, and at least one."""
    sizes = setting.sizes
    end = monotonic() + sizes.budget
    samples: list[float] = []
    generator = case.samples(setting)
    try:
        for sample in islice(generator, sizes.repeats):
            samples.append(sample)
            if monotonic() > end:
                break
    finally:
        cast("Any", generator).close()
        gc.collect()
    return samples


def outcome_of(case: Case, setting: Setting) -> CaseOutcome:
    """Run a case and return its outcome; an exception of the case is an outcome too."""
    try:
        return CaseOutcome(CaseStatus.MEASURED, tuple(samples_of(case, setting)))
    except (Unsupported, NotImplementedError) as error:
        return CaseOutcome(CaseStatus.UNSUPPORTED, detail=one_line(error))
    except Exception as error:  # A case that fails must not stop the other cases.
        return CaseOutcome(CaseStatus.ERROR, detail=one_line(error))


def run_cases(cases: Sequence[Case], setting: Setting, report: Callable[[dict[str, Any]], None]) -> None:
    """Run the cases in order; the engine starts before the first case that needs the engine."""
    started = False
    for case in cases:
        if case.needs_engine and not started:
            report({"doing": "start"})
            try:
                setting.engine.start(setting.workers)
            except Exception as error:  # An engine may fail with any exception: the failure is the result.
                report({"failed": one_line(error)})
                return
            started = True
        report({"doing": case.name})
        outcome = outcome_of(case, setting)
        report({"case": case.name, **asdict(outcome)})
    if started:
        report({"doing": "stop"})
        setting.engine.stop()
    report({"doing": "exit"})


def main() -> None:
    """Run the child process with the arguments that `rounds.Child` makes."""
    adapter, pipe, workers, token, size, *names = sys.argv[1:]
    descriptor = int(pipe)
    os.set_inheritable(descriptor, False)

    def report(line: dict[str, Any]) -> None:
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    engine: BenchmarkEngine = import_module(adapter).engine()
    sizes = QUICK if size == "quick" else FULL
    setting = Setting(engine, sizes, int(workers), token, engine_processes.driver_memory())
    run_cases([BY_NAME[name] for name in names], setting, report)
