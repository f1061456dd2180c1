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
    """A case as the report names it."""

    name: str
    title: str
    unit: str
    #: True for rates; False for seconds and memory, where less is better.
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """One case on one engine in one round."""

    status: CaseStatus
    samples: tuple[float, ...] = ()
    #: What went wrong, in one line, or nothing.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case on one engine: its outcomes, one for each round that ran."""

    outcomes: tuple[CaseOutcome, ...]

    @property
    def status(self) -> CaseStatus:
        """MEASURED if every round was; otherwise that of the last round, because none follows a bad one."""
        return self.outcomes[-1].status

    @property
    def detail(self) -> str:
        """The detail of the last round."""
        return self.outcomes[-1].detail

    @property
    def samples(self) -> list[float]:
        """The samples of all rounds."""
        return [sample for outcome in self.outcomes for sample in outcome.samples]

    @property
    def round_medians(self) -> list[float]:
        """The median of each round."""
        return [median(outcome.samples) for outcome in self.outcomes]


@dataclass(frozen=True, slots=True)
class Column:
    """One engine: its cells by case name."""

    engine: str
    #: The installed version, or None where the engine is not installed.
    version: str | None
    cells: dict[str, CaseResult]


@dataclass(frozen=True, slots=True)
class Results:
    """All of one call; the first column is ipyremote."""

    workers: int
    rounds: int
    quick: bool
    rows: Sequence[Row]
    columns: Sequence[Column]


def ratio(row: Row, ours: CaseResult, theirs: CaseResult) -> float | None:
    """How many times better `ours` is than `theirs` (above 1: better), or None if one of them has no number.

    Each round is compared with itself and the median taken: a machine that slows down from one round to the
    next does not change it.
    """
    if ours.status is not CaseStatus.MEASURED or theirs.status is not CaseStatus.MEASURED:
        return None
    pairs = zip(ours.round_medians, theirs.round_medians, strict=False)
    ratios = [(a / b if row.more_is_better else b / a) for a, b in pairs if a > 0 and b > 0]
    return median(ratios) if ratios else None
