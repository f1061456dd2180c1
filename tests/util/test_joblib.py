"""The joblib backend: joblib's own features, scikit-learn, nesting, failures, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

import ipyremote as ray
from ipyremote.backend import current
from ipyremote.exceptions import WorkerCrashedError
from ipyremote.util.joblib import register_ipyremote, register_ray
from tests.support.sources import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("cluster")


#: Skips tests of generators with joblib 1.3, which does not have them.
UNORDERED = tuple(map(int, joblib.__version__.split(".")[:2])) >= (1, 4)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    known = dict(joblib.parallel.BACKENDS)
    register_ipyremote()
    yield
    joblib.parallel.BACKENDS.clear()
    joblib.parallel.BACKENDS.update(known)


def square(value: int) -> int:
    return value * value


def after(path: Path, value: Any = None) -> Any:
    path.with_suffix(".began").touch()
    until(path.exists, f"{path} exists")
    return value


@pytest.mark.parametrize("use", [joblib.parallel_backend, joblib.parallel_config])
def test_calls_run_on_the_cluster_and_results_are_in_order(use: Callable[[str], Any]) -> None:
    with use("ipyremote"):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(500)) == [i * i for i in range(500)]
        pids = joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(20))
    assert os.getpid() not in pids


def test_the_backend_can_be_named_at_the_call_and_under_rays_name() -> None:
    register_ray()
    for name in ("ipyremote", "ray"):
        parallel = joblib.Parallel(n_jobs=2, backend=name)
        assert parallel(joblib.delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]


def test_short_calls_are_batched_into_one_task() -> None:
    with joblib.parallel_config("ipyremote"):
        parallel = joblib.Parallel()
        parallel(joblib.delayed(square)(i) for i in range(2000))
    assert parallel.n_dispatched_batches < 500


def test_results_can_be_returned_in_order_of_completion(tmp_path: Path) -> None:
    paths = [tmp_path / "late", tmp_path / "early"]
    with joblib.parallel_config("ipyremote"):
        if UNORDERED:
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
            values = parallel(joblib.delayed(after)(path, path.name) for path in paths)
            paths[1].touch()
            assert next(values) == "early"
            paths[0].touch()
            assert next(values) == "late"
        ordered = joblib.Parallel(return_as="generator")(joblib.delayed(square)(i) for i in range(10))
        assert list(ordered) == [i * i for i in range(10)]


def test_one_parallel_object_can_be_called_many_times() -> None:
    with joblib.parallel_config("ipyremote"), joblib.Parallel() as parallel:
        for _ in range(3):
            assert parallel(joblib.delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
        with pytest.raises(ZeroDivisionError):
            parallel(joblib.delayed(divmod)(1, i) for i in (1, 0))
        assert parallel(joblib.delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_the_exception_of_a_call_is_raised_and_stops_the_other_calls(tmp_path: Path) -> None:
    def fail_or_wait(fails: bool) -> None:
        if fails:
            until((tmp_path / "never.began").exists, "the other call runs")
            raise KeyError("mine")
        after(tmp_path / "never")

    with joblib.parallel_config("ipyremote"):
        with pytest.raises(KeyError, match="mine"):
            joblib.Parallel(batch_size=1)(joblib.delayed(fail_or_wait)(i == 0) for i in range(6))
        with pytest.raises(WorkerCrashedError):
            joblib.Parallel()(joblib.delayed(os._exit)(1) for _ in range(2))
        with pytest.raises(TypeError, match="lock"):
            joblib.Parallel()(joblib.delayed(square)(threading.Lock()) for _ in range(2))
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_a_timeout_and_an_interrupt_stop_all_calls(tmp_path: Path) -> None:
    with joblib.parallel_config("ipyremote"):
        with pytest.raises((TimeoutError, joblib.parallel.TimeoutError)):
            joblib.Parallel(timeout=0.2)(joblib.delayed(after)(tmp_path / "never") for _ in range(2))
        main = threading.get_ident()

        def interrupt() -> None:
            until((tmp_path / "still.began").exists, "the call runs")
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            joblib.Parallel()(joblib.delayed(after)(tmp_path / "still") for _ in range(4))
        thread.join()


def test_a_call_can_use_joblib_itself() -> None:
    def outer(count: int) -> list[int]:
        values: list[int] = joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(count))
        return values

    with joblib.parallel_config("ipyremote"):
        values = joblib.Parallel()(joblib.delayed(outer)(i) for i in range(6))
    assert values == [[i * i for i in range(count)] for count in range(6)]


def test_the_backend_inside_a_task_does_not_wait_for_its_own_cpu() -> None:
    @ray.remote
    def outer() -> int:
        register_ipyremote()
        with joblib.parallel_config("ipyremote"):
            return sum(joblib.Parallel()(joblib.delayed(square)(i) for i in range(10)))

    assert ray.get([outer.remote() for _ in range(4)], timeout=90) == [285] * 4


def test_large_arguments_are_stored_once_and_small_arguments_are_writable() -> None:
    def look(large: np.ndarray, small: np.ndarray, *, key: np.ndarray) -> tuple[float, bool]:
        small += 1
        return float(large[0]) + float(key[-1]) + float(small.sum()), large.flags.writeable

    large = np.ones(300_000)
    with joblib.parallel_config("ipyremote"):
        before = ray.available_resources()
        values = joblib.Parallel(batch_size=1)(
            joblib.delayed(look)(large, np.zeros(10), key=large) for _ in range(20)
        )
    assert values == [(12.0, False)] * 20
    until(lambda: ray.available_resources() == before, "everything is given back")


def test_n_jobs_limits_the_number_of_concurrent_calls(tmp_path: Path) -> None:
    with joblib.parallel_config("ipyremote"):
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.Parallel(n_jobs=0)(joblib.delayed(square)(i) for i in range(2))
        # With one job, calls run in this process, as with joblib's own backends.
        assert joblib.Parallel(n_jobs=1)(joblib.delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
        assert joblib.effective_n_jobs(-2) == 1
        assert joblib.effective_n_jobs(5) == 5


def test_numerical_libraries_share_the_cpus() -> None:
    def threads() -> set[int]:
        import threadpoolctl

        np.ones(2).dot(np.ones(2))
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    with joblib.parallel_config("ipyremote", inner_max_num_threads=1):
        assert joblib.Parallel()(joblib.delayed(threads)() for _ in range(2))[0] <= {1}


def test_the_backend_accepts_options_of_its_tasks() -> None:
    with joblib.parallel_config("ipyremote", remote_args={"num_cpus": 2}):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]
    with (
        joblib.parallel_config("ipyremote", remote_args={"no_such": 2}),
        pytest.raises(ValueError, match="no_such"),
    ):
        joblib.Parallel()(joblib.delayed(square)(i) for i in range(5))


def test_a_grid_search_of_scikit_learn_works() -> None:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    features, labels = load_iris(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=3)
    expected = search.fit(features, labels).best_score_
    with joblib.parallel_config("ipyremote"):
        assert search.fit(features, labels).best_score_ == expected
        forest = RandomForestClassifier(10, n_jobs=-1, random_state=0).fit(features, labels)
    assert forest.score(features, labels) > 0.9


def test_the_error_without_joblib_names_the_package_to_install() -> None:
    program = (
        "import sys; sys.modules['joblib'] = None\n"
        "from ipyremote.util.joblib import register_ipyremote\n"
        "try: register_ipyremote()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert 'pip install -U "joblib>=1.3"' in done.stdout


def test_tasks_of_joblib_calls_are_named_after_their_functions(capfd: pytest.CaptureFixture[str]) -> None:
    def loud() -> None:
        print("here")

    with joblib.parallel_config("ipyremote"):
        joblib.Parallel()(joblib.delayed(loud)() for _ in range(2))
    out: list[str] = []

    def printed() -> int:
        out.append(capfd.readouterr().out)
        return "".join(out).count("here")

    until(lambda: printed() >= 2, "both calls have printed", 10)
    assert "loud#1" in "".join(out)


class _Looker:
    """A view that shows the calls that a cell waits for."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.counts: list[dict[str, int]] = []
        self.ends = 0

    def begin(self, refs: Any) -> None:
        """Do nothing; the tests here do not use the method."""

    def end(self, wait: Any = None) -> None:
        self.ends += wait is None

    def interrupted(self, error: KeyboardInterrupt, function: str, refs: Any) -> None:
        """Do nothing; nothing is interrupted."""

    def work(self, name: str) -> _Looker:
        self.names.append(name)
        return self

    def on_counts(self, counts: Mapping[str, int]) -> None:
        self.counts.append(dict(counts))


def test_a_view_of_waiting_calls_is_told_of_their_progress() -> None:
    looker = _Looker()
    current.set_waiting(looker)
    try:
        with joblib.parallel_config("ipyremote"):
            joblib.Parallel()(joblib.delayed(square)(i) for i in range(30))
            with pytest.raises(ZeroDivisionError):
                joblib.Parallel()(joblib.delayed(divmod)(1, 0) for _ in range(1))
    finally:
        current.set_waiting(None)
    assert looker.names == ["square", "divmod"]
    assert {"pending": 0, "running": 0, "resolved": 30, "failed": 0} in looker.counts
    assert looker.ends == 2
