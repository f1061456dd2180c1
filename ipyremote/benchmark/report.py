"""Formatting of results as a table for people or as JSON for programs, by pure functions from results to text."""

import json
import platform
from collections.abc import Sequence
from statistics import median
from typing import Any

from ipyremote.benchmark.results import CaseResult, CaseStatus, Column, Results, ratio

#: Maximum length of an error text in a cell, in characters; the notes under the table have the whole line.
CELL_WIDTH = 24


def number(value: float) -> str:
    """Return a number with about three significant digits, never in scientific notation."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def cell_text(cell: CaseResult) -> str:
    """Return `median (min..max)`, or the reason why there is no number."""
    match cell.status:
        case CaseStatus.MEASURED:
            samples = cell.samples
            if len(samples) == 1:
                return number(samples[0])
            return f"{number(median(samples))} ({number(min(samples))}..{number(max(samples))})"
        case CaseStatus.UNSUPPORTED:
            return "-"
        case CaseStatus.MISSING:
            return "not installed"
        case CaseStatus.TIMEOUT:
            return "timeout"
        case CaseStatus.ERROR:
            text = f"error: {cell.detail}"
            return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"


def table(results: Results) -> str:
    """Return the table of measures, the table of ratios, and a note for each engine or cell without numbers."""
    parts = [_heading(results), "", *_aligned(_measures(results))]
    if len(results.columns) > 1:
        parts += ["", "ipyremote / peer (above 1: ipyremote is better)", "", *_aligned(_ratios(results))]
    notes = _notes(results)
    if notes:
        parts += ["", *notes]
    return "\n".join(parts)


def to_json(results: Results) -> str:
    """Return the results as JSON, with each sample of each round."""
    ours = results.columns[0]
    return json.dumps(
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "workers": results.workers,
            "rounds": results.rounds,
            "quick": results.quick,
            "versions": {column.engine: column.version for column in results.columns},
            "cases": [
                {
                    "name": row.name,
                    "title": row.title,
                    "unit": row.unit,
                    "more_is_better": row.more_is_better,
                    "engines": {c.engine: _as_json(c.cells[row.name]) for c in results.columns},
                    "ratios": {
                        c.engine: ratio(row, ours.cells[row.name], c.cells[row.name])
                        for c in results.columns[1:]
                    },
                }
                for row in results.rows
            ],
        },
        indent=2,
    )


def _as_json(cell: CaseResult) -> dict[str, Any]:
    """Return the JSON record of a cell, with a summary only if there are samples."""
    record: dict[str, Any] = {"status": cell.status.value}
    if cell.detail:
        record["detail"] = cell.detail
    if cell.status is CaseStatus.MEASURED:
        samples = cell.samples
        record |= {"median": median(samples), "min": min(samples), "max": max(samples)}
        record["rounds"] = [list(outcome.samples) for outcome in cell.outcomes]
    return record


def _heading(results: Results) -> str:
    """Return the conditions of the run as one line."""
    times = "1 round" if results.rounds == 1 else f"{results.rounds} rounds"
    quick = ", quick (smaller sizes: compare with quick runs only)" if results.quick else ""
    return f"median (min..max), {results.workers} workers, {times}{quick}"


def _column_title(column: Column) -> str:
    """Return the engine's name and version."""
    return f"{column.engine} {column.version}" if column.version else column.engine


def _measures(results: Results) -> list[list[str]]:
    """Return the lines of the table of measures."""
    lines = [["case", "unit", *map(_column_title, results.columns)]]
    for row in results.rows:
        cells = [cell_text(column.cells[row.name]) for column in results.columns]
        lines.append([row.title, row.unit, *cells])
    return lines


def _ratios(results: Results) -> list[list[str]]:
    """Return the lines of the table of ratios."""
    ours, *peers = results.columns
    lines = [["case", *(peer.engine for peer in peers)]]
    for row in results.rows:
        values = [ratio(row, ours.cells[row.name], peer.cells[row.name]) for peer in peers]
        lines.append([row.title, *("-" if value is None else f"{number(value)}x" for value in values)])
    return lines


def _notes(results: Results) -> list[str]:
    """Return a note for each engine that is not installed, and for each failure with its cases and its whole text."""
    notes = [f"{c.engine}: not installed" for c in results.columns if c.version is None]
    for column in results.columns:
        failures: dict[str, list[str]] = {}
        for row in results.rows:
            cell = column.cells[row.name]
            if cell.status in (CaseStatus.ERROR, CaseStatus.TIMEOUT):
                failures.setdefault(f"{cell.status.value}: {cell.detail}", []).append(row.name)
        notes += [f"{column.engine}, {', '.join(names)}: {text}" for text, names in failures.items()]
    return notes


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines with a rule under the head and aligned columns: the first flush left, others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return [texts[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *texts[1:]]
