"""The worker processes as the scheduler sees them, from the request to fork one to the report of its death.

It knows processes, deadlines and files, and nothing about tasks: what runs on a worker and what its loss means is the
core's. It does not talk to workers either; it is told when one has greeted.

    requested -> running -> greeted -> ended        REFUSED ends it at once

Rules. Every worker that was requested ends in exactly one `WorkerExited`. It is made in two steps: `ended()` names
those whose process is gone, and the owner calls `report` when it has read all that they had sent. A reason that the
scheduler itself has for a death (`note`) is kept from the moment it acts.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final, Literal

from ipyremote.core.events import NOT_STARTED, SIGNALLED, WorkerEnd, WorkerExited
from ipyremote.messages import DecodeError, TaskDone, TaskFailed, decode_report
from ipyremote.scheduler.deaths import OomCounter, describe
from ipyremote.scheduler.link import EXITED, REFUSED, STARTED, Report, ZygoteLink
from ipyremote.scheduler.worker_logs import last_words, trim_log, worker_log
from ipyremote.store.progress_page import read_progress, read_reports, remove_progress

__all__ = ["LAST_FRAMES_POLL", "LAST_FRAMES_SECONDS", "Workers"]

#: A worker that was asked to leave and is idle goes at once; this is for one whose user code does not let go.
EXIT_SECONDS: Final = 5.0
#: How long the last frames of a dead process are waited for. They are normally there in a millisecond; longer only if
#: a stray child of it holds its socket open.
LAST_FRAMES_SECONDS: Final = 0.1
#: How often to look whether a dead process's connection is closed: libzmq has no event for it.
LAST_FRAMES_POLL: Final = 0.002
#: How often logs are looked at.
_TRIM_SECONDS: Final = 2.0


class _Worker:
    """One process."""

    __slots__ = ("ended_at", "greeted", "kill_at", "link", "note", "overdue", "pid", "refusal", "status")

    def __init__(self, now: float, link: ZygoteLink | None) -> None:
        #: To whoever forks it.
        self.link = link
        seconds = link.start_seconds if link is not None else 0.0
        #: 0 until the zygote has reported it.
        self.pid = 0
        #: It counts as a client of the core.
        self.greeted = False
        #: When to kill it, and None if it may live.
        self.kill_at: float | None = now + seconds
        #: What to say if `kill_at` comes.
        self.overdue = f"it did not connect within {seconds:.0f} s"
        #: Why the scheduler ended it; empty if it did not.
        self.note = ""
        #: Wait status; meaningful once it has ended.
        self.status = 0
        #: Why it could not be started; empty if it was.
        self.refusal = ""
        #: When the zygote reported its end; None while it runs.
        self.ended_at: float | None = None


class Workers:
    """All workers that were requested and not yet reported as exited."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._oom = OomCounter()
        self._workers: dict[int, _Worker] = {}
        #: Ended, not reported; in the order of their ends.
        self._ended: list[int] = []
        #: The earliest `kill_at`, or earlier.
        self._next_kill: float | None = None
        self._next_trim = 0.0

    def start(self, worker_id: int, now: float, link: ZygoteLink | None) -> None:
        """Request a process of whoever forks it. None: that has just ended."""
        worker = self._workers[worker_id] = _Worker(now, link)
        if link is None:
            worker.refusal = "the process that would have started it has ended"
            worker.ended_at = now
            self._ended.append(worker_id)
            return
        self._schedule(now + link.start_seconds)
        link.fork(worker_id)

    def refusal(self, worker_id: int) -> str:
        """Why a greeting with this number is refused; empty if it is expected."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return "no such worker was started"
        return "this worker has greeted before" if worker.greeted else ""

    def greet(self, worker_id: int) -> None:
        """Its greeting was accepted."""
        worker = self._workers[worker_id]
        worker.greeted = True
        worker.kill_at = None

    def is_known(self, worker_id: int) -> bool:
        """Whether it is a worker that has not been reported as exited."""
        return worker_id in self._workers

    def stop(self, worker_id: int, how: Literal["exit", "kill"], now: float) -> None:
        """End it: kill it now, or when it has not left in a while."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.ended_at is not None:
            return
        if how == "kill":
            self.kill(worker_id)
        elif worker.kill_at is None:
            worker.kill_at = now + EXIT_SECONDS
            worker.overdue = f"it did not leave within {EXIT_SECONDS:.0f} s of being asked"
            self._schedule(worker.kill_at)

    def kill(self, worker_id: int, note: str = "") -> None:
        """End it now. `note` goes into the reason of its death."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.ended_at is not None:
            return
        worker.note = note
        worker.kill_at = None
        if worker.link is not None:
            worker.link.kill(worker_id)

    def _schedule(self, kill_at: float) -> None:
        self._next_kill = kill_at if self._next_kill is None else min(self._next_kill, kill_at)

    def hear(self, link: ZygoteLink, now: float) -> None:
        """Take in what a zygote has to say."""
        for report in link.reports():
            worker = self._workers.get(report.worker_id)
            if worker is not None:
                self._note_report(worker, report, now)

    def _note_report(self, worker: _Worker, report: Report, now: float) -> None:
        if report.kind == STARTED:
            worker.pid = report.pid
            return
        if report.kind == REFUSED:
            worker.refusal = f"it could not be started: {os.strerror(report.status)}"
        elif report.kind == EXITED:
            worker.status = report.status
        worker.ended_at = now
        self._ended.append(report.worker_id)

    def tend(self, now: float) -> None:
        """Do what is due."""
        if self._next_kill is not None and now >= self._next_kill:
            self._next_kill = None
            for worker_id, worker in self._workers.items():
                if worker.kill_at is None or worker.ended_at is not None:
                    continue
                if now >= worker.kill_at:
                    self.kill(worker_id, worker.overdue)
                else:
                    self._schedule(worker.kill_at)
        if now >= self._next_trim:
            self._next_trim = now + _TRIM_SECONDS
            for worker_id in self._workers:
                trim_log(self._directory, worker_id)

    def deadline(self, now: float) -> float:
        """When to call `tend`, and to ask for `ended`, again."""
        due = self._next_trim if self._next_kill is None else min(self._next_trim, self._next_kill)
        return min(due, now + LAST_FRAMES_POLL) if self._ended else due

    def ended(self) -> list[int]:
        """Workers whose process is gone and which have not been reported."""
        return list(self._ended)

    def is_overdue(self, worker_id: int, now: float) -> bool:
        """Whether the last frames of an ended worker were waited for long enough."""
        ended_at = self._workers[worker_id].ended_at
        return ended_at is not None and now >= ended_at + LAST_FRAMES_SECONDS

    def report(self, worker_id: int) -> WorkerExited:
        """The end of a worker; its files are removed."""
        worker = self._workers.pop(worker_id)
        self._ended.remove(worker_id)
        started, finished = read_progress(self._directory, worker_id)
        if worker.refusal:
            end = WorkerEnd(NOT_STARTED, 0, worker.refusal)
        else:
            end = describe(
                worker.status,
                note=worker.note,
                out_of_memory=not worker.note and self._oom.has_struck(worker.status),
                words=last_words(self._directory, worker_id),
            )
        reports = self._last_reports(worker_id)
        remove_progress(self._directory, worker_id)
        worker_log(self._directory, worker_id).unlink(missing_ok=True)
        return WorkerExited(worker_id, end, started, finished, reports)

    def _last_reports(self, worker_id: int) -> tuple[tuple[int, TaskDone | TaskFailed], ...]:
        reports = []
        for run, data in read_reports(self._directory, worker_id):
            # A worker that was going wild may have written anywhere.
            with contextlib.suppress(DecodeError):
                reports.append((run, decode_report(data)))
        return tuple(reports)

    def lose(self, link: ZygoteLink, why: str, now: float) -> None:
        """The zygote of an environment is gone: kill its workers, whose ends are reported like any other."""
        link.kill_all()
        for worker_id, worker in self._workers.items():
            if worker.link is link and worker.ended_at is None:
                worker.note = worker.note or why
                worker.status = signal.SIGKILL
                worker.ended_at = now
                self._ended.append(worker_id)

    def are_left(self, link: ZygoteLink) -> bool:
        """Whether any that it has forked was not reported as exited."""
        return any(worker.link is link for worker in self._workers.values())

    def lose_all(self, link: ZygoteLink, why: str) -> list[WorkerExited]:
        """The session's zygote is gone, and with it every worker: kill them, report them all."""
        link.kill_all()
        end = WorkerEnd(SIGNALLED, int(signal.SIGKILL), why)
        events = []
        for worker_id in list(self._workers):
            started, finished = read_progress(self._directory, worker_id)
            events.append(WorkerExited(worker_id, end, started, finished, self._last_reports(worker_id)))
        self._workers.clear()
        self._ended.clear()
        return events
