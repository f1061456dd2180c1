"""Formatting of results as text, and the ratio of two results."""

import json

import pytest

from ipyremote.benchmark.report import CELL_WIDTH, cell_text, number, table, to_json
from ipyremote.benchmark.results import CaseOutcome, CaseResult, CaseStatus, Column, Results, Row, ratio

RATE = Row("round-trip", "task round trip", "tasks/s", more_is_better=True)
SECONDS = Row("startup", "startup", "s", more_is_better=False)


def measured(*rounds: tuple[float, ...]) -> CaseResult:
    return CaseResult(tuple(CaseOutcome(CaseStatus.MEASURED, samples) for samples in rounds))


def without_number(status: CaseStatus, detail: str = "") -> CaseResult:
    return CaseResult((CaseOutcome(status, detail=detail),))


def results(
    ours: CaseResult, *peers: tuple[str, str | None, CaseResult], row: Row = RATE, quick: bool = False
) -> Results:
    columns = [Column("ipyremote", "1.0", {row.name: ours})]
    columns += [Column(name, version, {row.name: cell}) for name, version, cell in peers]
    return Results(workers=2, rounds=3, quick=quick, rows=[row], columns=columns)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23456.7, "23,457"),
        (100.0, "100"),
        (12.34, "12.3"),
        (4.4449, "4.44"),
        (0.1, "0.10"),
        (0.0123, "0.0123"),
    ],
)
def test_a_number_is_shown_with_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_measured_cell_shows_the_median_and_the_spread_of_all_rounds() -> None:
    assert cell_text(measured((10.0, 30.0), (20.0,))) == "20.0 (10.0..30.0)"


def test_a_single_sample_has_no_spread() -> None:
    assert cell_text(measured((10.0,))) == "10.0"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (CaseStatus.UNSUPPORTED, "-"),
        (CaseStatus.MISSING, "not installed"),
        (CaseStatus.TIMEOUT, "timeout"),
        (CaseStatus.ERROR, "error: x"),
    ],
)
def test_a_cell_without_a_number_says_why(status: CaseStatus, text: str) -> None:
    assert cell_text(without_number(status, "x")) == text


def test_a_long_error_is_cut_in_the_cell_and_complete_in_the_notes() -> None:
    cell = without_number(CaseStatus.ERROR, "ValueError: " + "long " * 20)
    assert len(cell_text(cell)) == CELL_WIDTH
    assert table(results(cell)).splitlines()[-1] == f"ipyremote, round-trip: error: {cell.detail}"


def test_an_equal_failure_of_several_cases_is_one_note() -> None:
    bad = without_number(CaseStatus.ERROR, "start: no")
    columns = [Column("ipyremote", "1.0", {RATE.name: bad, SECONDS.name: bad})]
    text = table(Results(workers=2, rounds=1, quick=False, rows=[RATE, SECONDS], columns=columns))
    assert text.splitlines()[-1] == "ipyremote, round-trip, startup: error: start: no"


def test_a_ratio_above_one_means_better_for_rates_and_for_seconds() -> None:
    assert ratio(RATE, measured((20.0,)), measured((10.0,))) == 2.0
    assert ratio(SECONDS, measured((20.0,)), measured((10.0,))) == 0.5


def test_a_ratio_compares_each_round_with_itself() -> None:
    """The machine has half its speed in the second round, and a quarter in the third round."""
    ours, theirs = measured((40.0,), (20.0,), (10.0,)), measured((20.0,), (10.0,), (5.0,))
    assert ratio(RATE, ours, theirs) == 2.0


@pytest.mark.parametrize("status", [status for status in CaseStatus if status is not CaseStatus.MEASURED])
def test_there_is_no_ratio_without_two_numbers(status: CaseStatus) -> None:
    assert ratio(RATE, measured((1.0,)), without_number(status)) is None
    assert ratio(RATE, without_number(status), measured((1.0,))) is None


def test_there_is_no_ratio_to_zero() -> None:
    assert ratio(RATE, measured((1.0,)), measured((0.0,))) is None


def test_the_last_round_without_a_number_decides_the_cell() -> None:
    cell = CaseResult(
        (CaseOutcome(CaseStatus.MEASURED, (1.0,)), CaseOutcome(CaseStatus.TIMEOUT, detail="late"))
    )
    assert cell.status is CaseStatus.TIMEOUT
    assert cell.detail == "late"


def test_the_table_is_aligned_and_followed_by_the_ratios_and_the_missing_engines() -> None:
    text = table(
        results(
            measured((4000.0, 5000.0, 6000.0)),
            ("ray", "2.60.0", measured((500.0,))),
            ("dask", None, without_number(CaseStatus.MISSING)),
        )
    )
    assert text.splitlines() == [
        "median (min..max), 2 workers, 3 rounds",
        "",
        "case                unit         ipyremote 1.0  ray 2.60.0           dask",
        "-------------------------------------------------------------------------",
        "task round trip  tasks/s  5,000 (4,000..6,000)         500  not installed",
        "",
        "ipyremote / peer (above 1: ipyremote is better)",
        "",
        "case               ray  dask",
        "----------------------------",
        "task round trip  10.0x     -",
        "",
        "dask: not installed",
    ]


def test_a_table_of_ipyremote_alone_has_no_ratios() -> None:
    assert "ipyremote /" not in table(results(measured((1.0,))))


def test_the_heading_of_a_quick_run_says_quick() -> None:
    assert "quick" in table(results(measured((1.0,)), quick=True)).splitlines()[0]


@pytest.mark.processes
def test_json_has_the_samples_of_each_round_and_the_ratios() -> None:
    record = json.loads(
        to_json(
            results(measured((20.0, 40.0), (30.0,)), ("pool", "", without_number(CaseStatus.TIMEOUT, "late")))
        )
    )
    assert record["versions"] == {"ipyremote": "1.0", "pool": ""}
    case = record["cases"][0]
    assert case["name"] == "round-trip"
    assert case["engines"]["ipyremote"] == {
        "status": "measured",
        "median": 30.0,
        "min": 20.0,
        "max": 40.0,
        "rounds": [[20.0, 40.0], [30.0]],
    }
    assert case["engines"]["pool"] == {"status": "timeout", "detail": "late"}
    assert case["ratios"] == {"pool": None}
