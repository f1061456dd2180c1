"""The rows of the benchmark, written once for all engines.

A case is a generator of samples. The code before its first `yield` sets up and warms up and is not timed. The runner
takes as many samples as there is time for and closes the generator. Closing drops all objects and actors of the case,
so the next case begins with an idle engine.
"""

import gc
import os
import posixpath
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from ipyremote.benchmark import engine_processes, workloads
from ipyremote.benchmark.engine import BenchmarkEngine
from ipyremote.benchmark.results import Row

GIB_IN_MIB = 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all cases."""

    #: Maximum number of samples of one case in one round.
    repeats: int = 5
    #: Time after which a case takes no further sample, in seconds; a case always takes one sample.
    budget: float = 4.0
    #: Time over which the rate of a single operation is measured, in seconds.
    window: float = 0.3
    #: Number of tasks or calls in a batch.
    batch: int = 1_000
    #: Number of tasks in a burst.
    burst: int = 50_000
    #: Number of reference arguments of one task.
    refs: int = 10_000
    #: Size of the large array, in MiB.
    mib: int = 100
    #: Number of large objects stored and dropped before one is timed: a store on fresh memory is ten times slower, and
    #: Ray's store needs more than a dozen objects of 100 MiB until its memory is warm.
    warming: int = 20
    #: Number of actors created together.
    actors: int = 10
    #: Depth of the nested tree, which has 2 ** (depth + 1) - 1 tasks.
    depth: int = 5


FULL = Sizes()
QUICK = Sizes(
    repeats=1, budget=1.0, window=0.1, batch=200, burst=1_000, refs=500, mib=10, warming=5, actors=4, depth=3
)


@dataclass(frozen=True, slots=True)
class Setting:
    """The engine, sizes and process data that a case runs with."""

    engine: BenchmarkEngine
    sizes: Sizes
    workers: int
    #: Value of the environment variable that marks the engine's processes.
    token: str
    #: Memory of the driver before the engine was imported, in MiB.
    driver_before: float


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the report: its name on the command line, its title with placeholders of sizes, and its samples."""

    name: str
    title: str
    unit: str
    samples: Callable[[Setting], Iterator[float]]
    more_is_better: bool = True
    #: Whether the engine must be started before the case; False if the case starts the engine by itself.
    needs_engine: bool = True

    def row(self, sizes: Sizes) -> Row:
        """Return the row of the case in the report, with the sizes in its title."""
        title = self.title.format(**asdict(sizes), tree=2 ** (sizes.depth + 1) - 1)
        return Row(self.name, title, self.unit, self.more_is_better)


def rate(operation: Callable[[], Any], seconds: float) -> float:
    """Return the number of operations per second, measured over about `seconds`.

    Runs of operations grow, and the clock is read only between runs.
    """
    done, run = 0, 1
    start = perf_counter()
    while True:
        for _ in range(run):
            operation()
        done += run
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return done / elapsed
        run = max(1, min(2 * run, int(done / elapsed * (seconds - elapsed))))


def seconds_of(operation: Callable[[], Any]) -> float:
    """Return the duration of one operation, in seconds."""
    start = perf_counter()
    operation()
    return perf_counter() - start


def warm(engine: BenchmarkEngine, call: Callable[[], Any]) -> None:
    """Make enough calls that each worker has imported and run the function."""
    engine.get_all([call() for _ in range(100)])


def startup(setting: Setting) -> Iterator[float]:
    """Measure a fresh interpreter from `import` to the first result, without the interpreter's own start."""
    program, stop = setting.engine.first_result_program(setting.workers)
    while True:
        yield fresh_process(program, stop)


def fresh_process(program: str, stop: str) -> float:
    """Run the program in an interpreter that has imported nothing, and return its duration, in seconds.

    The program runs from a string, so engines that import the main module again in their workers find no module to
    import. The program reports through a pipe, because engines write to stdout.
    """
    reader, writer = os.pipe()
    text = (
        "import os as _os, time as _time\n"
        "_start = _time.perf_counter()\n"
        f"{program}\n"
        "_seconds = _time.perf_counter() - _start\n"
        f"{stop}\n"
        f"_os.write({writer}, str(_seconds).encode())\n"
    )
    os.set_blocking(reader, False)
    try:
        # stderr is a file, because a process that the engine leaves behind would hold a pipe open.
        with tempfile.TemporaryFile() as errors:
            command = [sys.executable, "-c", text]
            status = subprocess.run(
                command, pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=errors, check=False
            ).returncode
            if status:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"the program ended with status {status}")
        return float(os.read(reader, 64))
    finally:
        os.close(writer)
        os.close(reader)


def memory(setting: Setting) -> Iterator[float]:
    """Measure the engine's memory at rest, after results of a function that imports nothing of ipyremote."""
    engine = setting.engine
    call = engine.task(posixpath.basename)
    engine.get_all([call("a/b") for _ in range(4 * setting.workers)])
    inside = (
        max(0.0, engine_processes.driver_memory() - setting.driver_before) if engine.lives_in_driver else 0.0
    )
    yield engine_processes.idle_memory(setting.token) + inside


def task_round_trip(setting: Setting) -> Iterator[float]:
    """Measure one task at a time, each waited for."""
    engine = setting.engine
    call = engine.task(workloads.nothing)
    warm(engine, call)
    while True:
        yield rate(lambda: engine.get(call()), setting.sizes.window)


def _batch(engine: BenchmarkEngine, call: Callable[[], Any], size: int) -> float:
    """Return the number of calls per second of a batch: all calls are submitted, then all results are waited for."""
    return size / seconds_of(lambda: engine.get_all([call() for _ in range(size)]))


def task_batch(setting: Setting) -> Iterator[float]:
    """Measure a batch of tasks up to all their values."""
    call = setting.engine.task(workloads.nothing)
    warm(setting.engine, call)
    while True:
        yield _batch(setting.engine, call, setting.sizes.batch)


def task_burst(setting: Setting) -> Iterator[float]:
    """Measure a burst of tasks up to all their values: so many tasks that queues and tables grow."""
    call = setting.engine.task(workloads.nothing)
    warm(setting.engine, call)
    while True:
        yield _batch(setting.engine, call, setting.sizes.burst)


def submit(setting: Setting) -> Iterator[float]:
    """Measure only the driver's part of a submission; the results are fetched outside the measured time."""
    engine, size = setting.engine, setting.sizes.batch
    call = engine.task(workloads.nothing)
    warm(engine, call)
    handles: list[Any] = []
    while True:
        seconds = seconds_of(lambda: handles.extend(call() for _ in range(size)))
        engine.get_all(handles)
        handles.clear()
        yield size / seconds


def actor_round_trip(setting: Setting) -> Iterator[float]:
    """Measure one actor call at a time, each waited for."""
    engine = setting.engine
    call = _actor_call(engine, workloads.CountingActor)
    while True:
        yield rate(lambda: engine.get(call()), setting.sizes.window)


def actor_batch(setting: Setting) -> Iterator[float]:
    """Measure a batch of calls of one actor up to all their values."""
    call = _actor_call(setting.engine, workloads.CountingActor)
    while True:
        yield _batch(setting.engine, call, setting.sizes.batch)


def async_actor_batch(setting: Setting) -> Iterator[float]:
    """Measure a batch of calls of one coroutine method up to all their values."""
    call = _actor_call(setting.engine, workloads.AsyncCounter)
    while True:
        yield _batch(setting.engine, call, setting.sizes.batch)


def _actor_call(engine: BenchmarkEngine, cls: type) -> Callable[[], Any]:
    """Return a method of a new actor that has answered once; the actor lives as long as the callable."""
    actor = engine.actor(cls)
    call = engine.method(actor, "add")

    def held(_actor: Any = actor) -> Any:
        return call()

    engine.get(held())
    return held


def get_small(setting: Setting) -> Iterator[float]:
    """Measure repeated `get` calls of one small object that is ready."""
    engine = setting.engine
    handle = engine.put(b"x" * 100)
    engine.get(handle)
    while True:
        yield rate(lambda: engine.get(handle), setting.sizes.window)


def put_small(setting: Setting) -> Iterator[float]:
    """Measure `put` of a small object whose handle is dropped at once."""
    engine, value = setting.engine, b"x" * 100
    engine.put(value)
    while True:
        yield rate(lambda: engine.put(value), setting.sizes.window)


def put_large(setting: Setting) -> Iterator[float]:
    """Measure `put` of a large array whose handle is dropped at once, after warming up the engine's memory."""
    engine, sizes, array = setting.engine, setting.sizes, _array(setting)
    for _ in range(sizes.warming):
        engine.put(array)
    while True:
        yield sizes.mib / GIB_IN_MIB * rate(lambda: engine.put(array), sizes.window)


def get_large(setting: Setting) -> Iterator[float]:
    """Measure repeated `get` calls of one large array."""
    engine = setting.engine
    handle = engine.put(_array(setting))
    engine.get(handle)
    while True:
        yield rate(lambda: engine.get(handle), setting.sizes.window)


def large_argument(setting: Setting) -> Iterator[float]:
    """Measure one task at a time that takes a large array by its handle."""
    engine = setting.engine
    handle = engine.put(_array(setting))
    call = engine.task(workloads.size)
    engine.get_all([call(handle) for _ in range(4 * setting.workers)])
    while True:
        yield rate(lambda: engine.get(call(handle)), setting.sizes.window)


def large_result(setting: Setting) -> Iterator[float]:
    """Measure one task at a time that makes and returns a large array; the time includes making the array."""
    engine, sizes = setting.engine, setting.sizes
    call = engine.task(workloads.fresh_array)
    engine.get_all([call(1) for _ in range(4 * setting.workers)])
    for _ in range(sizes.warming):
        engine.get(call(sizes.mib))
    while True:
        yield sizes.mib / GIB_IN_MIB * rate(lambda: engine.get(call(sizes.mib)), sizes.window)


def _array(setting: Setting) -> Any:
    """Return the large array; only the cases that use the array import numpy."""
    import numpy as np

    return np.ones(setting.sizes.mib * workloads.MIB // 8)


def wait_each(setting: Setting) -> Iterator[float]:
    """Measure a batch of tasks whose results are taken in order of completion, with one wait for each."""
    engine, size = setting.engine, setting.sizes.batch
    call = engine.task(workloads.nothing)
    engine.wait_any([call()])
    warm(engine, call)

    def one_round() -> None:
        handles = [call() for _ in range(size)]
        while handles:
            handles = engine.wait_any(handles)

    while True:
        yield 1 / seconds_of(one_round)


def many_refs(setting: Setting) -> Iterator[float]:
    """Measure one task that takes many small objects by their handles."""
    engine = setting.engine
    handles = engine.put_all(list(range(setting.sizes.refs)))
    call = engine.task(workloads.count)
    engine.get(call(handles[0]))
    while True:
        yield 1 / seconds_of(lambda: engine.get(call(*handles)))


def actor_creation(setting: Setting) -> Iterator[float]:
    """Measure the creation of actors up to one answer of each; the actors are dropped outside the measured time."""
    engine, size = setting.engine, setting.sizes.actors
    actors: list[Any] = []

    def create() -> None:
        actors.extend(engine.actor(workloads.CountingActor) for _ in range(size))
        engine.get_all([engine.method(actor, "add")() for actor in actors])

    while True:
        seconds = seconds_of(create)
        actors.clear()
        gc.collect()
        yield size / seconds


def nested_tree(setting: Setting) -> Iterator[float]:
    """Measure tasks that start tasks and wait for them, nested more deeply than there are workers."""
    engine, depth = setting.engine, setting.sizes.depth
    engine.tree(1)
    while True:
        yield seconds_of(lambda: engine.tree(depth))


CASES = (
    Case("startup", "import + init -> first result", "s", startup, more_is_better=False, needs_engine=False),
    Case("memory", "idle memory", "MiB", memory, more_is_better=False),
    Case("task-round-trip", "task round trip", "tasks/s", task_round_trip),
    Case("task-batch", "{batch:,} tasks, then get", "tasks/s", task_batch),
    Case("task-burst", "burst of {burst:,} tasks", "tasks/s", task_burst),
    Case("submit", "submission alone", "calls/s", submit),
    Case("actor-round-trip", "actor round trip", "calls/s", actor_round_trip),
    Case("actor-batch", "{batch:,} actor calls, then get", "calls/s", actor_batch),
    Case("async-actor-batch", "{batch:,} async-actor calls, then get", "calls/s", async_actor_batch),
    Case("get-small", "get of a small object", "calls/s", get_small),
    Case("put-small", "put of a small object", "calls/s", put_small),
    Case("put-large", "put of a {mib} MiB array", "GiB/s", put_large),
    Case("get-large", "get of a {mib} MiB array", "calls/s", get_large),
    Case("large-argument", "task with a {mib} MiB argument", "tasks/s", large_argument),
    Case("large-result", "task returning {mib} MiB", "GiB/s", large_result),
    Case("wait-each", "wait one by one over {batch:,}", "rounds/s", wait_each),
    Case("many-refs", "task with {refs:,} ref arguments", "tasks/s", many_refs),
    Case("actor-creation", "actors created and answering", "actors/s", actor_creation),
    Case("nested-tree", "nested tree of {tree} tasks", "s", nested_tree, more_is_better=False),
)
BY_NAME = {case.name: case for case in CASES}
