"""The command line of the benchmark, whose mistakes are reported before an engine starts."""

import pytest

from ipyremote.benchmark import arguments
from ipyremote.benchmark.arguments import exit_status, main
from ipyremote.benchmark.cases import CASES, FULL
from ipyremote.benchmark.results import CaseOutcome, CaseResult, CaseStatus, Column, Results
from ipyremote.benchmark.rounds import Plan


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--against", "ray,spark"], "no engine is called 'spark'; there are ray, dask"),
        (["--against", "ipyremote"], "no engine is called 'ipyremote'"),
        (["--against", ""], "name at least one engine"),
        (["--cases", "task-batch,coffee"], "no case is called 'coffee'; there are startup, memory"),
        (["--cases", ","], "name at least one case"),
        (["--rounds", "0"], "'0' is not a whole number above zero"),
        (["--rounds", "two"], "'two' is not a whole number above zero"),
        (["--workers", "-1"], "'-1' is not a whole number above zero"),
        (["--limit", "soon"], "'soon' is not a number of seconds above zero"),
        (["--limit", "nan"], "'nan' is not a number of seconds above zero"),
        (["--profile"], "--profile needs --cases with one case"),
        (["--profile", "--cases", "submit,task-batch"], "--profile needs --cases with one case"),
        (["--profile", "--cases", "startup"], "--profile needs --cases with one case, other than startup"),
        (["--profile", "--cases", "submit", "--against", "pool"], "--profile runs ipyremote alone"),
        (["--profile", "--cases", "submit", "--json"], "--profile runs ipyremote alone"),
    ],
)
def test_a_wrong_command_line_gives_a_clear_error(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_list_prints_each_case_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [case.name for case in CASES]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Return the plans that `main` makes; no plan is run."""
    made: list[Plan] = []

    def note(plan: Plan, progress: object) -> Results:
        made.append(plan)
        return results(CaseStatus.MEASURED)

    monkeypatch.setattr(arguments, "run", note)
    return made


def test_ipyremote_runs_each_case_in_three_rounds_without_options(plans: list[Plan]) -> None:
    main([])
    (plan,) = plans
    assert [spec.name for spec in plan.engines] == ["ipyremote"]
    assert list(plan.cases) == list(CASES)
    assert (plan.rounds, plan.workers, plan.quick) == (3, 2, False)


def test_quick_means_one_round_unless_rounds_are_given(plans: list[Plan]) -> None:
    main(["--quick"])
    main(["--quick", "--rounds", "2", "--limit", "7"])
    assert [(plan.rounds, plan.quick) for plan in plans] == [(1, True), (2, True)]
    assert plans[1].limit == 7.0


def test_peers_come_after_ipyremote_and_cases_are_in_the_order_of_the_report(plans: list[Plan]) -> None:
    main(["--against", "pool, ray,pool", "--cases", "submit,startup"])
    (plan,) = plans
    assert [spec.name for spec in plan.engines] == ["ipyremote", "pool", "ray"]
    assert [case.name for case in plan.cases] == ["startup", "submit"]


def results(ours: CaseStatus, theirs: CaseStatus = CaseStatus.MEASURED) -> Results:
    """Return results of one case on ipyremote and on one peer."""

    def column(engine: str, status: CaseStatus) -> Column:
        samples = (1.0,) if status is CaseStatus.MEASURED else ()
        return Column(engine, "1", {"submit": CaseResult((CaseOutcome(status, samples),))})

    rows = [case.row(FULL) for case in CASES if case.name == "submit"]
    return Results(2, 1, False, rows, [column("ipyremote", ours), column("pool", theirs)])


@pytest.mark.parametrize("status", CaseStatus)
def test_the_failure_of_a_peer_does_not_fail_the_benchmark(status: CaseStatus) -> None:
    assert exit_status(results(CaseStatus.MEASURED, status)) == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [(CaseStatus.ERROR, 1), (CaseStatus.TIMEOUT, 1), (CaseStatus.UNSUPPORTED, 0), (CaseStatus.MEASURED, 0)],
)
def test_the_failure_of_ipyremote_fails_the_benchmark(status: CaseStatus, code: int) -> None:
    assert exit_status(results(status)) == code
