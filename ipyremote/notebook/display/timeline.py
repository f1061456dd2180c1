"""The runs of a session as a Chrome trace, a file that chrome://tracing and Perfetto open, with a lane for each worker.

A trace has complete events ("X") with times in microseconds, and metadata events ("M") that name the lanes. `condensed`
merges runs for a picture that has no room for all. Nothing here needs a notebook, so plain programs use traces, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipyremote.backend import TaskRun

__all__ = ["chrome_trace", "condensed", "write_trace"]

#: Colours by the state of a run, by the names that the viewers know.
_COLOURS = {"done": "good", "failed": "terrible", "lost": "terrible", "cancelled": "bad", "retried": "bad"}


def chrome_trace(spans: Sequence[TaskRun]) -> list[dict[str, Any]]:
    """Return the events of a trace. The earliest start of a run is time 0."""
    zero = min((span.start for span in spans), default=0.0)
    lanes = sorted({span.worker_id for span in spans})
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": f"worker {row}"}}
        for row, lane in enumerate(lanes, 1)
    ]
    events.extend(
        {
            "ph": "X",
            "cat": "task",
            "name": span.name,
            "pid": 1,
            "tid": span.worker_id,
            "ts": round((span.start - zero) * 1e6, 1),
            "dur": round(max(span.end - span.start, 0.0) * 1e6, 1),
            "cname": _COLOURS.get(span.state, "generic_work"),
            "args": {"task": span.label, "state": span.state},
        }
        for span in spans
    )
    return events


def condensed(spans: Sequence[TaskRun], limit: int) -> tuple[TaskRun, ...]:
    """Return at most `limit` runs: where there are more, runs that are close together on a worker become one."""
    if len(spans) <= limit:
        return tuple(spans)
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    grain = max(end - begin, 1e-6) / limit
    while len(merged := _merged(spans, grain)) > limit:
        grain *= 2
    return merged


def _merged(spans: Sequence[TaskRun], grain: float) -> tuple[TaskRun, ...]:
    """Merge the runs on a worker that end within `grain` seconds of the start of the first of them."""
    groups: list[list[TaskRun]] = []
    latest: dict[int, list[TaskRun]] = {}
    for span in spans:
        group = latest.get(span.worker_id)
        if group is None or span.end - group[0].start > grain:
            group = latest[span.worker_id] = []
            groups.append(group)
        group.append(span)
    return tuple(group[0] if len(group) == 1 else _together(group) for group in groups)


def _together(group: Sequence[TaskRun]) -> TaskRun:
    names = {span.name for span in group}
    what = names.pop() if len(names) == 1 else "tasks"
    # A merged run has the state of its first failure, so that no failure disappears.
    state = next((span.state for span in group if span.state != "done"), "done")
    first, end = group[0], max(span.end for span in group)
    return TaskRun(first.worker_id, f"{what}, {len(group)} runs", "", first.start, end, state)


def write_trace(path: str | Path, events: Sequence[dict[str, Any]]) -> None:
    """Write the events to a file as JSON."""
    Path(path).write_text(json.dumps(events), encoding="utf-8")
