"""The worker processes as the scheduler sees them, from the request to fork one to the report of its end.

This module knows processes, deadlines and files, and nothing about tasks: the core knows what runs on a worker and what
the loss of the worker means. This module does not talk to workers either; its owner tells it when a worker has greeted.

    requested -> running -> greeted -> ended        REFUSED leads from requested to ended

Rules. Each requested worker gives exactly one `WorkerExited`, in two steps: `ended()` names the workers whose process
is gone, and the owner calls `report` for such a worker after it has read all messages of the worker. If the scheduler
itself ends a worker, the reason (`note`) is recorded before the scheduler acts.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final, Literal

from ipyremote.core.events import NOT_STARTED, SIGNALLED, WorkerEnd, WorkerExited
from ipyremote.ids import ClientId
from ipyremote.messages import DecodeError, TaskDone, TaskFailed, decode_report
from ipyremote.scheduler.deaths import OomCounter, describe
from ipyremote.scheduler.link import EXITED, REFUSED, STARTED, Report, ZygoteLink
from ipyremote.scheduler.worker_logs import last_words, trim_log, worker_log
from ipyremote.store.progress_page import read_progress, read_reports, remove_progress

__all__ = ["LAST_FRAMES_POLL", "LAST_FRAMES_SECONDS", "Workers"]

#: Time that a worker may take to leave after it was asked to, in seconds. An idle worker leaves at once; user code may
#: hold up a busy one.
EXIT_SECONDS: Final = 5.0
#: Longest wait for the last frames of a dead process, in seconds. Frames normally arrive within a millisecond; the wait
#: is longer only if a stray child of the process holds the socket open.
LAST_FRAMES_SECONDS: Final = 0.1
#: Time between two looks whether the connection of a dead process is closed, in seconds. libzmq has no event for that.
LAST_FRAMES_POLL: Final = 0.002
#: Time between two looks at the length of the logs, in seconds.
_TRIM_SECONDS: Final = 2.0


class _Worker:
    """A worker process."""

    __slots__ = ("ended_at", "greeted", "kill_at", "link", "note", "overdue", "pid", "refusal", "status")

    def __init__(self, now: float, link: ZygoteLink | None) -> None:
        #: Socket to the process that forks the worker; None if that process has ended.
        self.link = link
        seconds = link.start_seconds if link is not None else 0.0
        #: Process id; 0 until the zygote has reported it.
        self.pid = 0
        #: Whether the worker has greeted, and so is a client of the core.
        self.greeted = False
        #: Time at which to kill the worker, in seconds; None while it may live.
        self.kill_at: float | None = now + seconds
        #: Reason to give if the worker is killed at `kill_at`.
        self.overdue = f"it did not connect within {seconds:.0f} s"
        #: Reason why the scheduler has killed the worker; empty if it has not.
        self.note = ""
        #: Wait status of the process, once it has ended.
        self.status = 0
        #: Reason why the process could not be started; empty if it was started.
        self.refusal = ""
        #: Time at which the zygote has reported the end of the process, in seconds; None while it runs.
        self.ended_at: float | None = None


class Workers:
    """All workers that were requested, and were not reported as exited yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._oom = OomCounter()
        self._workers: dict[ClientId, _Worker] = {}
        #: Ids of the workers that have ended and were not reported yet, in the order of their ends.
        self._ended: list[ClientId] = []
        #: Earliest `kill_at` of all workers, or an earlier time, in seconds; None if no worker has a `kill_at`.
        self._next_kill: float | None = None
        self._next_trim = 0.0

    def start(self, worker_id: ClientId, now: float, link: ZygoteLink | None) -> None:
        """Request a worker process over `link`; None if the process that would fork the worker has just ended."""
        worker = self._workers[worker_id] = _Worker(now, link)
        if link is None:
            worker.refusal = "the process that would have started it has ended"
            worker.ended_at = now
            self._ended.append(worker_id)
            return
        self._schedule(now + link.start_seconds)
        link.fork(worker_id)

    def refusal(self, worker_id: ClientId) -> str:
        """Return why a greeting with this worker id is refused; empty for a greeting that is expected."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return "no such worker was started"
        return "this worker has greeted before" if worker.greeted else ""

    def greet(self, worker_id: ClientId) -> None:
        """Note that the greeting of a worker was accepted."""
        worker = self._workers[worker_id]
        worker.greeted = True
        worker.kill_at = None

    def is_known(self, worker_id: ClientId) -> bool:
        """Whether there is a worker with this id that was not reported as exited."""
        return worker_id in self._workers

    def stop(self, worker_id: ClientId, how: Literal["exit", "kill"], now: float) -> None:
        """End a worker: kill it now, or after EXIT_SECONDS if it was asked to exit and has not left by then."""
        worker = self._workers.get(worker_id)
        if worker is None or worker.ended_at is not None:
            return
        if how == "kill":
            self.kill(worker_id)
        elif worker.kill_at is None:
            worker.kill_at = now + EXIT_SECONDS
            worker.overdue = f"it did not leave within {EXIT_SECONDS:.0f} s of being asked"
            self._schedule(worker.kill_at)

    def kill(self, worker_id: ClientId, note: str = "") -> None:
        """Kill a worker now. `note` goes into the reason of its end."""
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
        """Take in the reports of a zygote."""
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
        """Kill the workers that are overdue, and cut the logs that have grown long."""
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
        """Return the time at which to call `tend` and `ended` again, in seconds."""
        due = self._next_trim if self._next_kill is None else min(self._next_trim, self._next_kill)
        return min(due, now + LAST_FRAMES_POLL) if self._ended else due

    def ended(self) -> list[ClientId]:
        """Return the ids of the workers whose process is gone and which were not reported yet."""
        return list(self._ended)

    def is_overdue(self, worker_id: ClientId, now: float) -> bool:
        """Whether the wait for the last frames of an ended worker has been long enough."""
        ended_at = self._workers[worker_id].ended_at
        return ended_at is not None and now >= ended_at + LAST_FRAMES_SECONDS

    def report(self, worker_id: ClientId) -> WorkerExited:
        """Return the report of a worker's end. Removes the files of the worker."""
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

    def _last_reports(self, worker_id: ClientId) -> tuple[tuple[int, TaskDone | TaskFailed], ...]:
        reports = []
        for run, data in read_reports(self._directory, worker_id):
            # A worker whose memory was corrupted may have written anywhere in the page.
            with contextlib.suppress(DecodeError):
                reports.append((run, decode_report(data)))
        return tuple(reports)

    def lose(self, link: ZygoteLink, why: str, now: float) -> None:
        """Kill the workers of a zygote that is gone. Their ends are reported like all others."""
        link.kill_all()
        for worker_id, worker in self._workers.items():
            if worker.link is link and worker.ended_at is None:
                worker.note = worker.note or why
                worker.status = signal.SIGKILL
                worker.ended_at = now
                self._ended.append(worker_id)

    def are_left(self, link: ZygoteLink) -> bool:
        """Whether a worker that was forked over `link` was not reported as exited yet."""
        return any(worker.link is link for worker in self._workers.values())

    def lose_all(self, link: ZygoteLink, why: str) -> list[WorkerExited]:
        """Kill all workers, since the session's zygote is gone, and return the reports of their ends."""
        link.kill_all()
        end = WorkerEnd(SIGNALLED, int(signal.SIGKILL), why)
        events = []
        for worker_id in list(self._workers):
            started, finished = read_progress(self._directory, worker_id)
            events.append(WorkerExited(worker_id, end, started, finished, self._last_reports(worker_id)))
        self._workers.clear()
        self._ended.clear()
        return events
