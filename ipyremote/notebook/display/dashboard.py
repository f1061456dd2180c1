"""A live view of the cluster: its model, and the thread that asks for news once a second while one is on screen.

The thread does nothing else, so a slow answer of the scheduler holds up no other display. There is one live dashboard
at a time: a new one makes the former one still. A dashboard that no page has shown for a while becomes still, too.

A page draws the timeline from this message: {"kind": "spans", "whole": bool, "now": seconds, "lanes": [[worker id,
name], ...], "spans": [[worker id, label, start, end, state], ...], "running": [[worker id, label, start], ...]}.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import psutil

from ipyremote.backend import RESOURCE_UNIT, Backend, ClusterStatus, StateReport, TaskRun, WorkerStatus
from ipyremote.notebook.display.dashboard_html import (
    DashboardView,
    FinishedRun,
    WorkerLine,
    dashboard_html,
    dashboard_text,
)
from ipyremote.notebook.display.displays import ScreenDisplay
from ipyremote.notebook.display.html import bytes_text
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.display.timeline import condensed

__all__ = ["DashboardModel", "Dashboards", "ProcessMeter", "status_text"]

log = logging.getLogger(__name__)

_INTERVAL: Final = 1.0
#: Time after which a dashboard that no page shows becomes still, in seconds.
_UNSEEN_SECONDS: Final = 600.0
#: Limits of the timeline in a still picture: number of runs, and age of the oldest run in seconds.
_STILL_RUNS: Final = 200
_STILL_SECONDS: Final = 60.0
#: Largest number of runs in one message to a page. The first message covers all runs that are remembered.
_SENT_RUNS: Final = 500
#: States of tasks in the order of the list.
_TASK_STATES: Final = (
    "waiting",
    "ready",
    "sent",
    "running",
    "blocked",
    "cancelling",
    "done",
    "failed",
    "cancelled",
)


class ProcessReading(NamedTuple):
    """The load of one process at one moment."""

    #: Share of one CPU since the previous reading.
    cpu: float
    #: Memory of the process without shared memory, in bytes.
    memory: int
    #: Whether a signal (SIGSTOP) has stopped the process. Its tasks wait until another signal continues the process.
    stopped: bool


class ProcessMeter:
    """Reads CPU and memory of processes, except of those that have ended or may not be looked at."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def read(self, pids: Sequence[int]) -> dict[int, ProcessReading]:
        """Return a reading of each process by its pid."""
        self._processes = {pid: process for pid, process in self._processes.items() if pid in pids}
        found = {}
        for pid in pids:
            try:
                process = self._processes.get(pid)
                if process is None:
                    process = self._processes[pid] = psutil.Process(pid)
                memory = process.memory_info()
                shared = getattr(memory, "shared", 0)
                stopped = process.status() == psutil.STATUS_STOPPED
                found[pid] = ProcessReading(
                    process.cpu_percent(None) / 100, max(memory.rss - shared, 0), stopped
                )
            except psutil.Error:
                self._processes.pop(pid, None)
        return found


class DashboardModel:
    """The model of one dashboard. The dashboard's thread changes the model; the view is replaced as a whole."""

    def __init__(self) -> None:
        self.view = DashboardView("live")
        self.whole_wanted = True
        self._runs: deque[TaskRun] = deque(maxlen=10 * _STILL_RUNS)
        self._since = 0.0
        #: Label of the running task, and time when the task was first seen to run, by worker.
        self._running: dict[int, tuple[str, float]] = {}

    @property
    def state(self) -> str:
        return self.view.state

    @property
    def settled(self) -> bool:
        return self.view.state != "live"

    @property
    def clickable(self) -> bool:
        return False

    def on_shown(self) -> None:
        """Note that a page shows the dashboard, and needs all runs."""
        self.whole_wanted = True

    def on_update(self, update: StateReport, now: float) -> None:
        """Do nothing: there is no task behind a dashboard."""

    def on_ended(self, reason: str) -> None:
        view = self.view
        self.view = DashboardView(
            "ended",
            view.resources,
            view.workers,
            view.tasks,
            view.actors,
            view.objects,
            view.stored,
            view.capacity,
            view.runs,
            reason,
            view.spilled,
        )

    def html(self, now: float, *, timed: bool) -> str:
        return dashboard_html(self.view)

    def text(self) -> str:
        """Return the dashboard as text for a terminal."""
        return dashboard_text(self.view)

    def ask(self, backend: Backend, meter: ProcessMeter) -> dict[str, Any]:
        """Ask the backend for news, and wait for the answers. Returns the message that pages draw the timeline from."""
        insight = backend.insight
        if insight is None:
            total, available = backend.resources()
            self.view = DashboardView("live", _resources(total, available))
            return {}
        status = insight.status()
        since = 0.0 if self.whole_wanted else self._since
        now, spans = insight.runs(since)
        whole, self.whole_wanted, self._since = self.whole_wanted, False, now
        if whole:
            self._runs.clear()
        spans = condensed(spans, _SENT_RUNS)
        self._runs.extend(spans)
        self._note_running(status, now)
        self.view = self._seen(status, meter, now)
        return {
            "kind": "spans",
            "whole": whole,
            "now": now,
            "lanes": [[worker.worker_id, f"worker {worker.pid}"] for worker in status.workers],
            "spans": [
                [span.worker_id, span.label[:60], round(span.start, 4), round(span.end, 4), span.state]
                for span in spans
            ],
            "running": [
                [worker_id, label[:60], start] for worker_id, (label, start) in self._running.items()
            ],
        }

    def _note_running(self, status: ClusterStatus, now: float) -> None:
        busy = {
            worker.worker_id: worker.label
            for worker in status.workers
            if worker.label and (worker.runs or worker.state in ("busy", "blocked"))
        }
        known = self._running
        self._running = {
            worker_id: known[worker_id]
            if worker_id in known and known[worker_id][0] == label
            else (label, now)
            for worker_id, label in busy.items()
        }

    def _seen(self, status: ClusterStatus, meter: ProcessMeter, now: float) -> DashboardView:
        unit = RESOURCE_UNIT
        total = {name: amount / unit for name, amount in status.total}
        available = {name: amount / unit for name, amount in status.available}
        meters = meter.read([worker.pid for worker in status.workers if not worker.node])
        workers = tuple(_worker_line(worker, meters.get(worker.pid)) for worker in status.workers)
        runs = tuple(
            FinishedRun(span.worker_id, span.label, now - span.start, now - span.end, span.state)
            for span in condensed(
                [span for span in self._runs if now - span.start <= _STILL_SECONDS], _STILL_RUNS
            )
        )
        capacity = total.get("object_store_memory")
        return DashboardView(
            "live",
            _resources(total, available),
            workers,
            tuple((state, status.tasks[state]) for state in _TASK_STATES if state in status.tasks),
            tuple(sorted(status.actors.items())),
            status.objects,
            status.stored_bytes,
            int(capacity) if capacity else None,
            runs,
            spilled=status.spilled_bytes,
        )


def _worker_line(worker: WorkerStatus, reading: ProcessReading | None) -> WorkerLine:
    """Return a worker's line, from what the backend and the operating system tell."""
    row = WorkerLine(
        worker.worker_id,
        worker.pid,
        worker.state,
        worker.label,
        worker.queued,
        cpu=worker.cpu,
        memory=worker.memory,
    )
    if reading is None:
        return row
    state = "stopped" if reading.stopped else worker.state
    return replace(row, state=state, cpu=reading.cpu, memory=reading.memory)


def status_text(backend: Backend) -> str:
    """Return the present state of the cluster as text."""
    model = DashboardModel()
    model.ask(backend, ProcessMeter())
    return model.text()


class Dashboards:
    """Shows dashboards, and keeps the latest dashboard up to date."""

    def __init__(
        self, screen: Screen, rich: Callable[[], bool], static: Callable[[], bool] = lambda: False
    ) -> None:
        self._screen = screen
        #: Whether the front end shows HTML.
        self._rich = rich
        #: Whether displays must look the same in every run.
        self._static = static
        self._lock = threading.Lock()
        self._live: tuple[ScreenDisplay, DashboardModel] | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def show_live(self, backend: Backend) -> bool:
        """Display the cluster, live or as text. Returns False, without a display, where neither is possible."""
        if self._static() or backend.insight is None:
            return False
        if self._rich():
            self.show(backend)
        else:
            print(status_text(backend))
        return True

    def show(self, backend: Backend) -> None:
        """Display the cluster: live where displays can change, else as it is now."""
        static = not self._rich() or self._static()
        model, meter = DashboardModel(), ProcessMeter()
        model.ask(backend, meter)
        model.whole_wanted = True
        if static:
            model.on_ended("")
        plain = "ipyremote cluster"
        display = self._screen.show_model(model, plain, backend)
        if static:
            return
        with self._lock:
            former, self._live = self._live, (display, model)
            if self._thread is None:
                context = contextvars.Context()
                self._thread = threading.Thread(
                    target=context.run, args=(self._run, meter), name="ipyremote-dashboard", daemon=True
                )
                self._thread.start()
        if former is not None:
            self._still(*former, "a later dashboard has taken the place of this one")

    def close(self) -> None:
        """Make the live dashboard still, and end the thread."""
        with self._lock:
            live, self._live = self._live, None
            thread = self._thread
        self._wake.set()
        if live is not None:
            self._still(*live, "ipyremote was unloaded")
        if thread is not None:
            thread.join(2.0)

    def _still(self, display: ScreenDisplay, model: DashboardModel, reason: str) -> None:
        if not model.settled:
            model.on_ended(reason)
            self._screen.touch(display, final=True)

    def _run(self, meter: ProcessMeter) -> None:
        begun = time.monotonic()
        current: ScreenDisplay | None = None
        while not self._wake.wait(_INTERVAL):
            with self._lock:
                live = self._live
                if live is None or live[1].settled:
                    self._live = self._thread = None
                    return
            display, model = live
            if display is not current:
                current, begun = display, time.monotonic()
            if time.monotonic() - begun > _UNSEEN_SECONDS and not self._screen.is_seen(display):
                self._still(display, model, "no page has shown this dashboard for ten minutes")
                continue
            if not self._refresh(display, model, meter):
                self._still(display, model, "the session has ended")

    def _refresh(self, display: ScreenDisplay, model: DashboardModel, meter: ProcessMeter) -> bool:
        backend = display.backend
        if backend is None:
            return False
        try:
            content = model.ask(backend, meter)
        except Exception:  # the cluster was lost, or is being shut down
            log.debug("a dashboard was not answered", exc_info=True)
            return False
        if content:
            self._screen.send_data(display, content)
        self._screen.touch(display)
        return True


def _resources(total: dict[str, float], available: dict[str, float]) -> tuple[tuple[str, str, str], ...]:
    def text(name: str, amount: float) -> str:
        return bytes_text(amount) if name in ("memory", "object_store_memory") else f"{amount:g}"

    return tuple(
        (name, text(name, available.get(name, 0.0)), text(name, total[name]))
        for name in sorted(total, key=lambda name: (name != "CPU", name))
        if not name.startswith("node:") and name != "object_store_memory"
    )
