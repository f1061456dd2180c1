"""The parts of cases, and the profile of a case."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ipyremote.benchmark import engine_processes
from ipyremote.benchmark.cases import BY_NAME, QUICK, Setting, fresh_process, rate
from ipyremote.benchmark.child import outcome_of, samples_of
from ipyremote.benchmark.profiling import profile


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    """Return the module of the fake engine, loaded from its file as in a child process."""
    spec = importlib.util.spec_from_file_location("fake_engine", Path(__file__).with_name("fake_engine.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_rate_counts_each_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake clock advances by a quarter of a second with each operation."""
    now = 0.0

    def operation() -> None:
        nonlocal now
        now += 0.25

    monkeypatch.setattr("ipyremote.benchmark.cases.perf_counter", lambda: now)
    assert rate(operation, seconds=10) == 4.0
    assert 10 <= now < 20


def test_a_slow_operation_runs_once_for_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 8.0])
    monkeypatch.setattr("ipyremote.benchmark.cases.perf_counter", lambda: next(clock))
    assert rate(lambda: None, seconds=0.1) == 0.125


@pytest.mark.processes
def test_a_fresh_process_reports_the_duration_of_the_program_without_its_end() -> None:
    program = "import time; now = time.perf_counter(); time.perf_counter = lambda: now + 100; print('noise')"
    seconds = fresh_process(program, "time.perf_counter = lambda: now + 1000")
    assert 100 <= seconds < 1000


@pytest.mark.processes
def test_a_fresh_process_has_imported_no_module_of_ipyremote() -> None:
    fresh_process("import sys; assert 'ipyremote' not in sys.modules", "pass")


def setting(engine: object) -> Setting:
    return Setting(engine, QUICK, workers=2, token="none", driver_before=0.0)  # type: ignore[arg-type]


def test_a_case_is_closed_after_its_samples(fake: ModuleType) -> None:
    assert len(samples_of(BY_NAME["submit"], setting(fake.FakeEngine()))) == QUICK.repeats


def test_a_failed_case_is_an_outcome_and_not_an_exception(fake: ModuleType) -> None:
    outcome = outcome_of(BY_NAME["submit"], setting(fake.FakeEngine(task=fake.fail)))
    assert (outcome.status.value, outcome.detail) == ("error", "ValueError: first line")


def test_the_memory_of_an_engine_in_the_driver_is_the_growth_of_the_driver(fake: ModuleType) -> None:
    engine = fake.FakeEngine()
    (outside,) = samples_of(BY_NAME["memory"], setting(engine))
    engine.lives_in_driver = True
    (inside,) = samples_of(BY_NAME["memory"], setting(engine))
    assert inside - outside == pytest.approx(engine_processes.driver_memory(), rel=0.2)


def test_a_profile_names_the_functions_that_the_case_called(fake: ModuleType) -> None:
    text = profile(BY_NAME["submit"], fake.FakeEngine(), workers=2, quick=True)
    assert text.startswith("submission alone: ")
    assert "workloads.py" in text
    assert "(nothing)" in text
