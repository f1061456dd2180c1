"""The scheduler's records of workers, with a scripted zygote and a virtual clock, for cases that rarely happen."""

from __future__ import annotations

import errno
import os
import signal
import socket

import pytest

from ipyremote.core.events import EXITED as ENDED
from ipyremote.core.events import NOT_STARTED, SIGNALLED, WorkerEnd, WorkerExited
from ipyremote.ids import ClientId
from ipyremote.scheduler.link import (
    EXITED,
    FORK,
    KILL,
    OPENED,
    RECORD,
    REFUSED,
    START_SECONDS,
    STARTED,
    ZygoteLink,
)
from ipyremote.scheduler.workers import EXIT_SECONDS, LAST_FRAMES_SECONDS, Workers
from ipyremote.store.progress_page import ProgressPage

#: A process id that nobody has: above the kernel's maximum.
PID = (1 << 22) + 7


class Script:
    """The zygote's end of the link."""

    def __init__(self, path) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.link = ZygoteLink(ours, 0)
        self.workers = Workers(path)
        self._partial = b""

    def start(self, worker_id: ClientId, *, now: float) -> None:
        self.workers.start(worker_id, now, self.link)

    def requests(self) -> list[tuple[bytes, int]]:
        """Return the requests since the last call."""
        self.link.flush()
        try:
            self._partial += self.theirs.recv(1 << 20)
        except BlockingIOError:
            return []
        whole = len(self._partial) - len(self._partial) % RECORD.size
        data, self._partial = self._partial[:whole], self._partial[whole:]
        return [(kind, worker_id) for kind, worker_id, _, _ in RECORD.iter_unpack(data)]

    def say(self, kind: bytes, worker_id: int, pid: int = 0, status: int = 0, *, now: float = 0.0) -> None:
        self.theirs.send(RECORD.pack(kind, worker_id, pid, status))
        self.workers.hear(self.link, now)

    def close(self) -> None:
        self.theirs.close()
        self.link._link.close()


@pytest.fixture
def script(tmp_path):
    script = Script(tmp_path)
    yield script
    script.close()


def test_a_worker_is_asked_for_runs_and_ends(script, tmp_path):
    script.start(2, now=0.0)
    assert script.requests() == [(FORK, 2)]
    script.say(STARTED, 2, PID)
    assert script.link.workers == {2: PID}
    script.workers.greet(2)
    page = ProgressPage.create(tmp_path, ClientId(2))
    page.started(5)
    page.finished(4)
    page.close()
    script.say(EXITED, 2, PID, 3 << 8)
    assert script.link.workers == {}
    assert script.workers.ended() == [2]
    assert script.workers.report(2) == WorkerExited(ClientId(2), WorkerEnd(ENDED, 3, "exit code 3"), 5, 4)
    assert script.workers.ended() == []
    assert not script.workers.is_known(2)
    assert list(tmp_path.iterdir()) == []


def test_a_fork_that_the_system_refuses_ends_the_worker_with_the_reason(script):
    script.start(2, now=0.0)
    script.say(REFUSED, 2, 0, errno.EAGAIN)
    assert script.workers.report(2) == WorkerExited(
        ClientId(2), WorkerEnd(NOT_STARTED, 0, f"it could not be started: {os.strerror(errno.EAGAIN)}"), 0, 0
    )


def test_a_worker_that_does_not_greet_is_killed(script):
    script.start(2, now=10.0)
    script.say(STARTED, 2, PID)
    script.requests()
    script.workers.tend(10.0 + START_SECONDS - 1)
    assert script.requests() == []
    script.workers.tend(10.0 + START_SECONDS)
    assert script.requests() == [(KILL, 2)]
    script.say(EXITED, 2, PID, signal.SIGKILL)
    assert script.workers.report(2).end.text == "it did not connect within 60 s; signal 9 (SIGKILL)"


def test_a_worker_that_greets_in_time_is_left_alone(script):
    script.start(2, now=0.0)
    script.workers.greet(2)
    script.requests()
    script.workers.tend(START_SECONDS + 1)
    assert script.requests() == []


def test_a_worker_that_dies_before_it_greets_is_not_blamed_for_being_slow(script):
    script.start(2, now=0.0)
    script.say(STARTED, 2, PID)
    script.say(EXITED, 2, PID, signal.SIGSEGV)
    assert script.workers.report(2).end.text == "signal 11 (SIGSEGV)"


def test_a_worker_that_does_not_leave_when_asked_is_killed(script):
    script.start(2, now=0.0)
    script.workers.greet(2)
    script.requests()
    script.workers.stop(2, "exit", now=100.0)
    script.workers.tend(100.0)
    assert script.requests() == []
    assert script.workers.deadline(100.0) <= 100.0 + EXIT_SECONDS
    script.workers.tend(100.0 + EXIT_SECONDS)
    assert script.requests() == [(KILL, 2)]


def test_a_worker_that_leaves_when_asked_counts_as_one_that_left_by_itself(script):
    script.start(2, now=0.0)
    script.workers.greet(2)
    script.workers.stop(2, "exit", now=1.0)
    script.say(EXITED, 2, PID, 0)
    assert script.workers.report(2).end.text == "exit code 0"


def test_a_kill_is_sent_at_once_and_never_for_a_worker_that_has_ended(script):
    script.start(2, now=0.0)
    script.requests()
    script.workers.stop(2, "kill", now=0.0)
    assert script.requests() == [(KILL, 2)]
    script.say(EXITED, 2, PID, signal.SIGKILL)
    script.workers.stop(2, "kill", now=0.0)
    script.workers.kill(2, "again")
    script.workers.stop(99, "kill", now=0.0)
    assert script.requests() == []
    assert script.workers.report(2).end.text == "signal 9 (SIGKILL)"


def test_only_a_worker_that_was_asked_for_may_greet_and_only_once(script):
    assert script.workers.refusal(2) == "no such worker was started"
    script.start(2, now=0.0)
    assert script.workers.refusal(2) == ""
    script.workers.greet(2)
    assert script.workers.refusal(2) == "this worker has greeted before"


def test_the_wait_for_the_last_frames_of_a_worker_has_an_end(script):
    script.start(2, now=0.0)
    script.say(EXITED, 2, PID, 0, now=5.0)
    assert not script.workers.is_overdue(2, 5.0)
    assert script.workers.deadline(5.0) < 5.0 + LAST_FRAMES_SECONDS
    assert script.workers.is_overdue(2, 5.0 + LAST_FRAMES_SECONDS)


def test_every_worker_that_is_lost_with_the_zygote_is_reported(script):
    for worker_id in (2, 3):
        script.start(worker_id, now=0.0)
    script.theirs.close()
    script.workers.hear(script.link, 0.0)
    assert script.link.is_lost
    lost = script.workers.lose_all(script.link, "no zygote")
    assert lost == [
        WorkerExited(ClientId(2), WorkerEnd(SIGNALLED, 9, "no zygote")),
        WorkerExited(ClientId(3), WorkerEnd(SIGNALLED, 9, "no zygote")),
    ]
    assert not script.workers.is_known(2)


def test_workers_that_are_lost_with_an_environment_end_like_others_and_other_workers_go_on(script, tmp_path):
    other = Script(tmp_path)
    script.start(2, now=0.0)
    script.workers.start(3, 0.0, other.link)
    script.workers.start(4, 0.0, other.link)
    other.theirs.send(RECORD.pack(STARTED, 4, PID, 0))
    script.workers.hear(other.link, 0.0)
    script.workers.lose(other.link, "its process was lost", 1.0)
    assert script.workers.ended() == [3, 4]
    assert script.workers.are_left(other.link)
    reasons = [script.workers.report(worker_id).end.text for worker_id in (3, 4)]
    assert reasons == ["its process was lost; signal 9 (SIGKILL)"] * 2
    assert not script.workers.are_left(other.link)
    assert script.workers.is_known(2)
    other.close()


def test_a_worker_of_an_environment_that_has_just_ended_cannot_be_started(script):
    script.workers.start(2, 0.0, None)
    assert script.workers.ended() == [2]
    script.workers.kill(2)
    assert script.workers.report(2).end.text == "the process that would have started it has ended"


def test_workers_of_an_environment_with_a_hook_may_take_the_time_of_the_hook_to_greet(script):
    script.link.start_seconds = 600.0
    script.start(2, now=0.0)
    script.requests()
    script.workers.tend(599.0)
    assert script.requests() == []
    script.workers.tend(600.0)
    assert script.requests() == [(KILL, 2)]
    script.say(EXITED, 2, PID, signal.SIGKILL)
    assert script.workers.report(2).end.text == "it did not connect within 600 s; signal 9 (SIGKILL)"


def test_a_process_of_an_environment_says_once_that_it_is_open(script):
    assert not script.link.is_open
    script.say(OPENED, 0)
    assert script.link.is_open


def test_requests_wait_without_blocking_when_the_zygote_does_not_read(script):
    asked = 0
    while not script.link.has_unsent:
        script.link.fork(asked)
        script.link.flush()
        asked += 1
        assert asked < 1_000_000
    script.link.fork(asked)
    got: list[tuple[bytes, int]] = []
    while len(got) < asked + 1:
        got += script.requests()
    assert got == [(FORK, worker_id) for worker_id in range(asked + 1)]


def test_reports_that_come_in_pieces_are_put_together(script):
    script.start(2, now=0.0)
    record = RECORD.pack(STARTED, 2, PID, 0)
    for byte in record[:-1]:
        script.theirs.send(bytes([byte]))
        assert script.link.reports() == []
    script.theirs.send(record[-1:])
    assert [report.pid for report in script.link.reports()] == [PID]


def test_requests_to_a_dead_zygote_are_no_error(script):
    script.theirs.close()
    script.link.fork(2)
    script.link.flush()
    assert script.link.is_lost
    assert not script.link.has_unsent
