"""Fresh processes, turns and time limits of the runner, with a fake engine and once with a real engine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from ipyremote.benchmark import rounds as runner
from ipyremote.benchmark.cases import BY_NAME, CASES, FULL
from ipyremote.benchmark.engines import SPECS, Spec
from ipyremote.benchmark.results import CaseOutcome, CaseStatus, Results
from ipyremote.benchmark.rounds import Plan, one_round, run
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes

HERE = Path(__file__).parent


class Adapter(Protocol):
    """Writes an adapter of a FakeEngine with given arguments, and returns the name of the adapter's module."""

    def __call__(self, arguments: str = "") -> str: ...


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """Return a function that writes an adapter of a FakeEngine with given arguments and returns its module's name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, HERE, ROOT))))

    def write(arguments: str = "") -> str:
        text = f"from fake_engine import *\ndef engine():\n    return FakeEngine({arguments})\n"
        (tmp_path / "troubled.py").write_text(text)
        return "troubled"

    return write


def plan(*names: str, engines: list[Spec] | None = None, rounds: int = 1, limit: float = 30.0) -> Plan:
    return Plan(engines or [], [BY_NAME[name] for name in names], rounds, workers=2, quick=True, limit=limit)


def outcomes_of(module: str, *names: str, limit: float = 30.0) -> dict[str, CaseOutcome]:
    return one_round(module, names, plan(*names, limit=limit))


def statuses_of(module: str, *names: str, limit: float = 30.0) -> dict[str, str]:
    return {name: outcome.status.value for name, outcome in outcomes_of(module, *names, limit=limit).items()}


def test_each_case_has_a_number_on_a_complete_engine(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter(), *BY_NAME)
    assert {name: outcome.status for name, outcome in outcomes.items()} == dict.fromkeys(
        BY_NAME, CaseStatus.MEASURED
    )
    assert all(sample >= 0 for outcome in outcomes.values() for sample in outcome.samples)


def test_a_case_that_raises_is_an_error_of_one_line_and_other_cases_continue(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter("put=fail"), "put-small", "submit")
    assert outcomes["put-small"] == CaseOutcome(CaseStatus.ERROR, detail="ValueError: first line")
    assert outcomes["submit"].status is CaseStatus.MEASURED


def test_a_case_that_is_not_implemented_is_unsupported(adapter: Adapter) -> None:
    assert statuses_of(adapter("tree=refuse"), "nested-tree") == {"nested-tree": "unsupported"}


def test_a_case_that_hangs_is_a_timeout_and_a_new_child_runs_the_other_cases(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter("put=hang"), "submit", "put-small", "nested-tree", limit=2.0)
    assert [outcome.status.value for outcome in outcomes.values()] == ["measured", "timeout", "measured"]
    assert outcomes["put-small"].detail == "case took longer than 2 s"


def test_a_case_that_ends_the_process_is_an_error_with_the_last_line_of_stderr(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter("put=crash"), "put-small", "submit")
    detail = "the process ended with status 3: last words"
    assert outcomes["put-small"] == CaseOutcome(CaseStatus.ERROR, detail=detail)
    assert outcomes["submit"].status is CaseStatus.MEASURED


def test_a_forked_process_that_holds_the_pipe_open_does_not_hide_the_end_of_the_child(
    adapter: Adapter, tmp_path: Path
) -> None:
    start = time.monotonic()
    module = adapter(f"put=fork_and_crash({str(tmp_path / 'pid')!r})")
    assert statuses_of(module, "put-small", limit=60.0) == {"put-small": "error"}
    assert time.monotonic() - start < 30


def test_a_failed_start_is_the_outcome_of_each_case_that_needs_the_engine(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter("start=fail"), "startup", "submit", "put-small")
    assert outcomes["startup"].status is CaseStatus.MEASURED
    failed = CaseOutcome(CaseStatus.ERROR, detail="start: ValueError: first line")
    assert (outcomes["submit"], outcomes["put-small"]) == (failed, failed)


def test_a_start_that_hangs_uses_up_the_limit_once(adapter: Adapter) -> None:
    outcomes = outcomes_of(adapter("start=hang"), "submit", "put-small", limit=2.0)
    late = CaseOutcome(CaseStatus.TIMEOUT, detail="start took longer than 2 s")
    assert outcomes == {"submit": late, "put-small": late}


def test_a_stop_that_hangs_does_not_change_a_result(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.5)
    assert statuses_of(adapter("stop=hang"), "submit") == {"submit": "measured"}


def test_an_adapter_that_cannot_be_imported_is_an_error(adapter: Adapter) -> None:
    adapter()
    outcome = outcomes_of("no_such_adapter", "submit")["submit"]
    assert outcome.status is CaseStatus.ERROR
    assert "No module named 'no_such_adapter'" in outcome.detail


def test_a_program_that_fails_to_start_up_says_why(adapter: Adapter) -> None:
    outcome = outcomes_of(adapter("'1/0'"), "startup")["startup"]
    assert outcome == CaseOutcome(
        CaseStatus.ERROR, detail="RuntimeError: ZeroDivisionError: division by zero"
    )


def is_running(path: Path) -> bool:
    """Return whether the process whose id is in the file runs; a zombie does not run."""
    try:
        return psutil.Process(int(path.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_processes_of_a_hanging_engine_are_ended(adapter: Adapter, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    module = adapter(f"put=leave_a_process({str(path)!r})")
    assert statuses_of(module, "put-small", limit=3.0) == {"put-small": "timeout"}
    assert not is_running(path)


def test_processes_of_an_engine_whose_driver_is_gone_are_ended(adapter: Adapter, tmp_path: Path) -> None:
    """The processes have no parent any more, but still the mark in their environment."""
    path = tmp_path / "pid"
    module = adapter(f"put=fork_and_crash({str(path)!r})")
    assert statuses_of(module, "put-small") == {"put-small": "error"}
    assert not is_running(path)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="named semaphores are files on Linux only")
def test_named_semaphores_of_a_hanging_engine_are_unlinked(adapter: Adapter, tmp_path: Path) -> None:
    path = tmp_path / "name"
    module = adapter(f"put=hold_a_semaphore({str(path)!r})")
    assert statuses_of(module, "put-small", limit=3.0) == {"put-small": "timeout"}
    assert not Path("/dev/shm/sem." + path.read_text().lstrip("/")).exists()


def test_an_engine_that_is_not_installed_is_missing(adapter: Adapter) -> None:
    there, absent = Spec("there", adapter()), Spec("absent", "nothing", ("no_such_engine",))
    results = run(plan("submit", engines=[there, absent]), lambda text: None)
    assert [column.version for column in results.columns] == ["", None]
    assert [column.cells["submit"].status.value for column in results.columns] == ["measured", "missing"]


def turns(monkeypatch: pytest.MonkeyPatch, answers: dict[str, CaseOutcome]) -> tuple[list[str], Results]:
    """Run three rounds of two engines and two cases with given outcomes; return the order of runs, and the results."""
    ran: list[str] = []

    def note(module: str, names: list[str], _plan: Plan) -> dict[str, CaseOutcome]:
        ran.append(f"{module}: {' '.join(names)}")
        return {
            name: answers.get(f"{module} {name}", CaseOutcome(CaseStatus.MEASURED, (1.0,))) for name in names
        }

    monkeypatch.setattr(runner, "one_round", note)
    engines = [Spec("a", "a"), Spec("b", "b")]
    return ran, run(plan("submit", "put-small", engines=engines, rounds=3), lambda text: None)


def test_engines_run_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, results = turns(monkeypatch, {})
    assert ran == ["a: submit put-small", "b: submit put-small"] * 3
    assert [len(cell.outcomes) for column in results.columns for cell in column.cells.values()] == [3] * 4


def test_a_case_without_a_number_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, _ = turns(
        monkeypatch,
        {"b submit": CaseOutcome(CaseStatus.TIMEOUT), "b put-small": CaseOutcome(CaseStatus.UNSUPPORTED)},
    )
    assert ran == ["a: submit put-small", "b: submit put-small"] + ["a: submit put-small"] * 2


def test_the_pool_of_the_standard_library_runs_in_its_own_process() -> None:
    names = ("task-round-trip", "large-result", "actor-batch")
    results = run(plan(*names, engines=[SPECS["pool"]]), lambda text: None)
    statuses = [results.columns[0].cells[name].status.value for name in names]
    assert statuses == ["measured", "measured", "unsupported"]


def test_case_names_are_unique_and_titles_contain_sizes() -> None:
    assert len(BY_NAME) == len(CASES)
    assert not [row for row in (case.row(FULL) for case in CASES) if "{" in row.title]


def test_the_processes_of_a_terminated_benchmark_end() -> None:
    command = [sys.executable, "-m", "ipyremote.benchmark", "--cases", "task-batch", "--rounds", "1"]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        # The child, the scheduler, and the processes that the scheduler starts.
        while len(engine := psutil.Process(program.pid).children(recursive=True)) < 4:
            assert time.monotonic() < deadline
            assert program.poll() is None
        program.terminate()
        assert program.wait(30) == 128 + signal.SIGTERM
        _, alive = psutil.wait_procs(engine, 10)
        assert [] == alive
    finally:
        program.kill()
