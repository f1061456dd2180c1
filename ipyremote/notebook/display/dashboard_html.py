"""The look of a dashboard: pure functions from a snapshot to escaped, bounded HTML, and to text for a terminal.

The rules of `html.py` hold. The timeline in the HTML is a still picture; a live page draws its own timeline instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipyremote.ids import ClientId
from ipyremote.notebook.display.html import box, bytes_text, detail_html, escaped, head_html

__all__ = ["DashboardView", "FinishedRun", "WorkerLine", "dashboard_html", "dashboard_text"]

_WORKERS: Final = 64
_RUNS: Final = 400
_COLOURS: Final = {
    "done": "var(--jp-success-color1,#388e3c)",
    "failed": "var(--jp-error-color1,#d32f2f)",
    "lost": "var(--jp-error-color1,#d32f2f)",
}
_STYLE: Final = """<style>
.ipyremote table.ipyremote-workers{border-collapse:collapse;margin:6px 0;font-size:inherit;color:inherit;width:100%;
table-layout:auto;border:0}
.ipyremote-workers th,.ipyremote-workers td{text-align:left;padding:1px 12px 1px 0;background:none;white-space:nowrap;
color:inherit;border:0;vertical-align:middle}
.ipyremote-workers tr{background:none}
.ipyremote-workers th{font-weight:600;color:var(--jp-ui-font-color2,inherit)}
.ipyremote-workers td.ipyremote-amount,.ipyremote-workers th.ipyremote-amount{text-align:right;
font-variant-numeric:tabular-nums}
.ipyremote-workers td:nth-child(3){width:60%;max-width:20em;overflow:hidden;text-overflow:ellipsis}
.ipyremote-meter{display:inline-block;width:5em;height:6px;border-radius:3px;overflow:hidden;margin-left:.6em;
background:var(--jp-layout-color2,#8883);vertical-align:middle}
.ipyremote-meter span{display:block;height:100%;background:var(--jp-info-color1,#0288d1)}
.ipyremote-lane{position:relative;height:12px;margin:2px 0;background:var(--jp-layout-color2,#8882);border-radius:2px;
overflow:hidden}
.ipyremote-lane span{position:absolute;top:0;height:12px;min-width:1px}
</style>"""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker at one moment."""

    worker_id: ClientId
    pid: int
    state: str
    #: Label of the running task.
    label: str
    #: Number of tasks that wait in the worker.
    queued: int
    #: Share of one CPU during the last second, if known.
    cpu: float | None = None
    #: Memory without shared memory, in bytes, if known.
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended. Times are in seconds before now."""

    worker_id: ClientId
    label: str
    begin: float
    end: float
    state: str


@dataclass(frozen=True, slots=True)
class DashboardView:
    """The cluster at one moment."""

    #: "live", or "ended" for a dashboard that does not change any more.
    state: str
    #: Name, free amount and total amount of each resource, for people to read.
    resources: tuple[tuple[str, str, str], ...] = ()
    workers: tuple[WorkerLine, ...] = ()
    #: Number of tasks in each state.
    tasks: tuple[tuple[str, int], ...] = ()
    #: Number of actors in each state.
    actors: tuple[tuple[str, int], ...] = ()
    #: Number of objects in the store.
    objects: int = 0
    #: Size of these objects, in bytes.
    stored: int = 0
    #: Capacity of the store, in bytes, if known.
    capacity: int | None = None
    runs: tuple[FinishedRun, ...] = ()
    #: Sentence on why the dashboard has ended.
    detail: str = ""
    #: Size of the objects that were moved to disk, in bytes.
    spilled: int = 0


def dashboard_html(view: DashboardView) -> str:
    """Return the dashboard as HTML."""
    head = head_html("<b>ipyremote</b> cluster", view.state, None)
    lines = [
        _line("Free", [f"{name} {free} of {total}" for name, free, total in view.resources]),
        _line("Tasks", [f"{count:,} {state}" for state, count in view.tasks] or ["none"]),
        _line("Actors", [f"{count:,} {state}" for state, count in view.actors]),
        _store(view),
    ]
    parts = [head, "".join(lines), _workers(view.workers), _lanes(view), _STYLE]
    if view.detail:
        parts.append(detail_html(view.detail))
    return box("dashboard", view.state, "ipyremote cluster", "".join(parts))


def dashboard_text(view: DashboardView) -> str:
    """Return the dashboard as text for a terminal."""
    lines = [
        "Cluster: " + ", ".join(f"{name} {free} of {total} free" for name, free, total in view.resources),
        "Tasks: " + (", ".join(f"{count:,} {state}" for state, count in view.tasks) or "none"),
    ]
    if view.actors:
        lines.append("Actors: " + ", ".join(f"{count:,} {state}" for state, count in view.actors))
    capacity = f" of {bytes_text(view.capacity)}" if view.capacity else ""
    lines.append(f"Store: {bytes_text(view.stored)}{capacity} in {view.objects:,} objects{_spilled(view)}")
    for row in view.workers[:_WORKERS]:
        cpu = "" if row.cpu is None else f"  {row.cpu:4.0%} CPU"
        memory = "" if row.memory is None else f"  {bytes_text(row.memory)}"
        lines.append(f"  worker {row.pid}  {row.state:8}{cpu}{memory}  {row.label}".rstrip())
    return "\n".join(lines)


def _line(title: str, words: list[str]) -> str:
    if not words:
        return ""
    shown = " · ".join(escaped(word, 80) for word in words[:12])
    return f'<div class="ipyremote-detail">{title}: {shown}</div>'


def _store(view: DashboardView) -> str:
    objects = f"{view.objects:,} object{'' if view.objects == 1 else 's'}{_spilled(view)}"
    words = f"{bytes_text(view.stored)} in {objects}"
    if not view.capacity:
        return _line("Store", [words])
    share = min(view.stored / view.capacity, 1.0)
    return (
        f'<div class="ipyremote-detail">Store: {bytes_text(view.stored)} of {bytes_text(view.capacity)}, '
        f"{objects}{_meter(share, 'store')}</div>"
    )


def _spilled(view: DashboardView) -> str:
    return f", {bytes_text(view.spilled)} of them on disk" if view.spilled else ""


def _meter(share: float, name: str) -> str:
    return (
        f'<span class="ipyremote-meter" role="meter" aria-label="{name}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}"><span style="width:{100 * share:.0f}%"></span></span>'
    )


def _workers(rows: tuple[WorkerLine, ...]) -> str:
    if not rows:
        return detail_html("no workers yet")
    shown = []
    for row in rows[:_WORKERS]:
        cpu = "" if row.cpu is None else f"{row.cpu:.0%}{_meter(min(row.cpu, 1.0), 'CPU')}"
        memory = "" if row.memory is None else bytes_text(row.memory)
        queued = f" + {row.queued}" if row.queued else ""
        shown.append(
            f"<tr><td>{row.pid}</td><td>{escaped(row.state, 20)}</td>"
            f'<td><span class="ipyremote-label">{escaped(row.label, 60)}</span>{queued}</td>'
            f'<td class="ipyremote-amount">{cpu}</td><td class="ipyremote-amount">{memory}</td></tr>'
        )
    more = f"<tr><td>and {len(rows) - _WORKERS} more</td></tr>" if len(rows) > _WORKERS else ""
    head = (
        '<tr><th scope="col">worker</th><th scope="col">state</th><th scope="col">runs</th>'
        '<th scope="col" class="ipyremote-amount">CPU</th><th scope="col" class="ipyremote-amount">memory</th></tr>'
    )
    return f'<table class="ipyremote-workers" aria-label="workers">{head}{"".join(shown)}{more}</table>'


def _lanes(view: DashboardView) -> str:
    """Return the timeline of the last minute as a still picture."""
    runs = view.runs[-_RUNS:]
    length = max((run.begin for run in runs), default=0.0)
    lanes = []
    for row in view.workers[:_WORKERS]:
        spans = []
        for run in runs:
            if run.worker_id != row.worker_id:
                continue
            left = 100 * (1 - run.begin / length) if length else 0.0
            wide = 100 * (run.begin - run.end) / length if length else 0.0
            colour = _COLOURS.get(run.state, "var(--jp-warn-color1,#f57c00)")
            spans.append(
                f'<span title="{escaped(run.label, 60)}: {escaped(run.state, 20)}" '
                f'style="left:{left:.2f}%;width:{wide:.2f}%;background:{colour}"></span>'
            )
        if spans:
            lanes.append(f'<div class="ipyremote-lane" title="worker {row.pid}">{"".join(spans)}</div>')
    return f'<div class="ipyremote-still" role="img" aria-label="timeline">{"".join(lanes)}</div>'
