"""Worker processes: what they start with, and what is known about how they end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from ipyremote.ids import ClientId
from ipyremote.messages import OutputText
from ipyremote.scheduler.worker_logs import LOG_BYTES, worker_log
from tests.scheduler.sessions import kill, session
from tests.support.leaks import leakless
from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def side():
    """One session for all tests here; each test leaves the session with a fresh or an idle worker."""
    with leakless(), session() as side:
        yield side


DEATHS = {
    "exit 3": "exit code 3",
    "exit 0": "exit code 0",
    "sys.exit 4": "exit code 4",
    "sys.exit": "exit code 0",
    "sys.exit 'enough'": "exit code 1",
    "raise no-number": "exit code 1",
    "signal 9": "signal 9 (SIGKILL)",
    "signal 15": "signal 15 (SIGTERM)",
    "signal 11": "signal 11 (SIGSEGV)",
    "signal 40": "signal 40",
    "abort": "signal 6 (SIGABRT)",
    "segfault": "signal 11 (SIGSEGV)",
}
LAST_WORDS = {
    "sys.exit 'enough'": "enough",
    "raise no-number": "ValueError: invalid literal for int() with base 10: 'no-number'",
    "abort": "Fatal Python error: Aborted",
    "segfault": "in string_at",
}


@pytest.mark.parametrize("order", DEATHS)
def test_the_reason_of_a_death_is_its_status_and_its_last_words(side, order):
    fate = side.fate(order if order != "sys.exit" else "sys.exit None")
    assert DEATHS[order] in fate
    assert LAST_WORDS.get(order, "") in fate
    assert "out of memory" not in fate
    # Frames of ipyremote itself say nothing to the user.
    assert "ipyremote/scheduler" not in fate or order == "raise no-number"


def test_last_words_are_in_the_reason(side):
    side.ask("write it began well")
    side.ask("write then it burned")
    fate = side.fate("signal 9")
    assert "it began well\n    then it burned" in fate


def test_the_death_of_an_idle_worker_fails_no_task(side):
    pid = side.ask("pid")
    kill(psutil.Process(int(pid)))
    assert side.ask("pid") != pid


def test_a_dead_worker_is_replaced_at_once(side):
    side.ask("echo warm")
    worker = side.workers()[0]
    kill(worker)
    took = until(lambda: any(other.pid != worker.pid for other in side.workers()), "a new worker runs")
    assert took < 1


def test_everything_that_a_worker_sent_before_its_death_arrives(side):
    count = 2000
    task = side.order(f"say-and-die {count}")
    side.result(task)
    texts = [message.text for message in side._received if isinstance(message, OutputText)]
    side._received.clear()
    assert texts == [str(number) for number in range(count)]


def test_the_files_of_a_worker_are_gone_when_the_worker_is_gone(side):
    worker_id = ClientId(int(side.ask("id")))
    assert worker_log(side.path, worker_id).exists()
    assert (side.path / f"progress-{worker_id}").exists()
    side.fate("signal 9")
    assert not worker_log(side.path, worker_id).exists()
    assert not (side.path / f"progress-{worker_id}").exists()


def test_the_children_of_a_dead_worker_die_with_it(side):
    child = psutil.Process(int(side.ask("child")))
    assert child.name() == "sleep"
    side.fate("signal 9")
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child is dead", 2.0)


def test_the_children_of_a_worker_that_leaves_die_with_it(side):
    child = psutil.Process(int(side.ask("child")))
    side.fate("exit 0")
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child is dead", 2.0)


def test_a_worker_that_breaks_the_protocol_is_killed_and_its_task_fails(side):
    assert "it sent a frame that cannot be decoded" in side.fate("garbage")
    assert side.ask("echo next") == "next"


def test_a_flood_into_the_log_is_cut(side):
    worker_id = ClientId(int(side.ask("id")))
    side.ask(f"flood {2 * LOG_BYTES // 65536}")
    log = worker_log(side.path, worker_id)
    until(lambda: log.stat().st_size < LOG_BYTES, "the log is cut")
    side.ask("write still here")
    assert log.read_bytes().endswith(b"still here\n")
    side.fate("signal 9")


def test_a_worker_has_default_signals(side):
    assert side.ask("signals") == "0 0 0"


def test_a_worker_has_one_thread_of_python(side):
    assert side.ask("threads") == "1"


def test_a_worker_collects_garbage_but_not_the_objects_that_it_shares_with_the_zygote(side):
    assert side.ask("gc") == "True"


def test_a_worker_has_no_standard_input(side):
    assert side.ask("stdin") == "b''"


def test_the_oom_killer_takes_a_worker_before_the_driver(side):
    assert int(side.ask("oom_score")) > int(Path("/proc/self/oom_score_adj").read_text())


def test_a_worker_is_told_where_the_driver_is(side):
    assert side.ask("boot").startswith(os.getcwd())


def test_a_worker_holds_no_descriptor_of_the_scheduler(side):
    """The only pipe is the read end of the worker's own lifeline: a lifeline works only while nobody has a copy."""
    mine = [name for name in side.ask("fds").splitlines() if not name.startswith("anon_inode:")]
    pipes = [name for name in mine if name.startswith("pipe:")]
    sockets = [name for name in mine if name.startswith("socket:")]
    files = [name for name in mine if name.startswith("/")]
    assert len(pipes) == 1
    assert len(sockets) == 1
    assert "lock" not in {os.path.basename(name) for name in files}
    assert len(files) == 4, files


def test_the_zygote_holds_no_descriptor_of_the_scheduler(side):
    side.ask("echo warm")
    names = [os.readlink(entry) for entry in Path(f"/proc/{side.zygote().pid}/fd").iterdir()]
    # Three standard streams, one socket, both ends of the lifeline and both ends of the wake-up pipe.
    assert sum(name.startswith("socket:") for name in names) == 1
    assert sum(name.startswith("pipe:") for name in names) == 4
    assert len(names) == 8


def test_the_zygote_has_one_thread(side):
    side.ask("echo warm")
    assert side.zygote().num_threads() == 1


def test_no_zombie_is_left(side):
    for _ in range(3):
        side.fate("exit 1")
    side.ask("echo warm")
    assert [process for process in side.processes() if process.status() == psutil.STATUS_ZOMBIE] == []


def test_a_fork_is_fast(side):
    side.ask("echo warm")
    times = []
    for _ in range(5):
        began = time.monotonic()
        side.fate("exit 0")
        side.ask("echo next")
        times.append(time.monotonic() - began)
    # Death, its report, fork, connection and a task: about 5 ms on an idle machine.
    assert min(times) < 0.2


def test_siblings_draw_different_random_numbers():
    with leakless(), session() as side:
        drawn = set()
        for _ in range(3):
            drawn.add(side.ask("random"))
            side.fate("exit 0")
        assert len(drawn) == 3


def test_a_worker_that_cannot_start_gives_the_reason():
    with leakless(), session(entry="tests.scheduler.fake_worker:main_failing") as side:
        side.order("echo hello")
        until(lambda: "RuntimeError: this worker cannot start" in side.log(), "the reason is logged")
        assert side.bye() == 0
