"""The records of a benchmark, immutable: `rounds` fills them, and `report` reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class CaseStatus(StrEnum):
    """How a case ended on an engine."""

    MEASURED = "measured"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the report: the name, title and unit of a case."""

    name: str
    title: str
    unit: str
    #: Whether a larger number is better: True for rates, False for seconds and memory.
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """The outcome of one case on one engine in one round."""

    status: CaseStatus
    samples: tuple[float, ...] = ()
    #: Description of the failure in one line; empty if there was none.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The outcomes of one case on one engine, one for each round in which the case ran."""

    outcomes: tuple[CaseOutcome, ...]

    @property
    def status(self) -> CaseStatus:
        """Status of the last round; MEASURED therefore means all rounds, because no round follows a bad one."""
        return self.outcomes[-1].status

    @property
    def detail(self) -> str:
        """Detail of the last round."""
        return self.outcomes[-1].detail

    @property
    def samples(self) -> list[float]:
        """Samples of all rounds."""
        return [sample for outcome in self.outcomes for sample in outcome.samples]

    @property
    def round_medians(self) -> list[float]:
        """Median of each round."""
        return [median(outcome.samples) for outcome in self.outcomes]


@dataclass(frozen=True, slots=True)
class Column:
    """One engine's column of the report: its cells by name of the case."""

    engine: str
    #: Installed version; None if the engine is not installed.
    version: str | None
    cells: dict[str, CaseResult]


@dataclass(frozen=True, slots=True)
class Results:
    """All results of one run of the program; the first column is ipyremote."""

    workers: int
    rounds: int
    quick: bool
    rows: Sequence[Row]
    columns: Sequence[Column]


def ratio(row: Row, ours: CaseResult, theirs: CaseResult) -> float | None:
    """Return how many times better `ours` is than `theirs` (above 1: better), or None if a result has no number.

    The ratio is the median of the ratios of each round, so a machine that slows down between rounds does not change
    the ratio.
    """
    if ours.status is not CaseStatus.MEASURED or theirs.status is not CaseStatus.MEASURED:
        return None
    pairs = zip(ours.round_medians, theirs.round_medians, strict=False)
    ratios = [(a / b if row.more_is_better else b / a) for a, b in pairs if a > 0 and b > 0]
    return median(ratios) if ratios else None
