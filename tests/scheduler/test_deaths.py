"""Reasons for the end of a worker, made from fabricated evidence."""

from __future__ import annotations

import signal

import pytest

from ipyremote.core.events import EXITED, OUT_OF_MEMORY, SIGNALLED, WorkerEnd
from ipyremote.ids import ClientId
from ipyremote.scheduler import deaths
from ipyremote.scheduler.deaths import OomCounter, describe
from ipyremote.scheduler.worker_logs import LOG_BYTES, last_words, trim_log, worker_log

#: Numbers of clients.
C3, C4 = ClientId(3), ClientId(4)


SIGKILL = int(signal.SIGKILL)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit code 0"),
        (3 << 8, "exit code 3"),
        (SIGKILL, "signal 9 (SIGKILL)"),
        (int(signal.SIGSEGV) | 0x80, "signal 11 (SIGSEGV)"),
        (63, "signal 63"),
    ],
)
def test_a_wait_status_is_told_in_words(status, text):
    assert describe(status).text == text


def test_all_evidence_stands_in_the_reason():
    end = describe(SIGKILL, out_of_memory=True, words="one\ntwo")
    assert (end.kind, end.status) == (OUT_OF_MEMORY, 9)
    assert end.text == (
        "out of memory: signal 9 (SIGKILL) from the kernel's OOM killer; its last lines on stderr:\n    one\n    two"
    )


def test_an_act_of_the_scheduler_comes_first_in_the_reason():
    assert describe(SIGKILL, note="it hung") == WorkerEnd(SIGNALLED, 9, "it hung; signal 9 (SIGKILL)")


def test_the_kind_of_an_end_does_not_hang_on_its_words():
    noted = describe(SIGKILL, note="it was killed", out_of_memory=True)
    assert (noted.kind, noted.text.partition(";")[0]) == (OUT_OF_MEMORY, "it was killed")
    quoted = describe(3 << 8, words="out of memory: signal 9")
    assert (quoted.kind, quoted.status) == (EXITED, 3)


def test_a_worker_without_a_log_has_no_last_words(tmp_path):
    assert last_words(tmp_path, C3) == ""


def test_the_last_lines_are_bounded_in_number_and_length(tmp_path):
    worker_log(tmp_path, C3).write_text(
        "\n".join(f"{number} " + "x" * 1000 for number in range(100)) + "\n\n"
    )
    lines = last_words(tmp_path, C3).splitlines()
    assert [line.split()[0] for line in lines] == ["95", "96", "97", "98", "99"]
    assert all(len(line) <= 200 for line in lines)


def test_a_fault_report_is_shown_from_its_beginning_without_our_own_frames(tmp_path):
    ours = deaths.__file__
    worker_log(tmp_path, C3).write_text(
        "noise before\nFatal Python error: Segmentation fault\n\nThread 0x2 (most recent call first):\n"
        '  File "threading.py", line 331 in wait\n\nCurrent thread 0x1 (most recent call first):\n'
        f'  File "cell.py", line 3 in crash\n  File "{ours}", line 1 in run\n  File "<string>", line 1 in <module>\n\n'
        "Extension modules: a, b (total: 2)\n"
    )
    assert last_words(tmp_path, C3).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "Current thread 0x1 (most recent call first):",
        '  File "cell.py", line 3 in crash',
    ]


def test_bytes_in_a_log_that_are_not_text_are_replaced(tmp_path):
    worker_log(tmp_path, C3).write_bytes(b"\xff\xfe oops")
    assert last_words(tmp_path, C3).endswith("oops")


def test_a_long_log_is_cut_and_a_short_one_is_not(tmp_path):
    worker_log(tmp_path, C3).write_bytes(b"x" * (LOG_BYTES + 1))
    worker_log(tmp_path, C4).write_bytes(b"short")
    trim_log(tmp_path, C3)
    trim_log(tmp_path, C4)
    trim_log(tmp_path, ClientId(5))
    assert worker_log(tmp_path, C3).read_bytes() == b""
    assert worker_log(tmp_path, C4).read_bytes() == b"short"


@pytest.fixture
def counter_file(tmp_path, monkeypatch):
    path = tmp_path / "memory.events"
    path.write_text("low 0\noom 4\noom_kill 2\n")
    monkeypatch.setattr(deaths, "_counters", lambda: iter([tmp_path / "missing", path]))
    return path


def test_a_rise_of_the_kernels_counter_explains_one_kill(counter_file):
    counter = OomCounter()
    assert not counter.has_struck(SIGKILL)
    counter_file.write_text("oom_kill 4\n")
    assert [counter.has_struck(SIGKILL) for _ in range(3)] == [True, True, False]


def test_only_a_sigkill_can_come_from_the_oom_killer(counter_file):
    counter = OomCounter()
    counter_file.write_text("oom_kill 9\n")
    assert not counter.has_struck(int(signal.SIGSEGV))
    assert not counter.has_struck(1 << 8)


def test_without_a_counter_no_death_counts_as_out_of_memory(monkeypatch):
    monkeypatch.setattr(deaths, "_counters", lambda: iter(()))
    assert not OomCounter().has_struck(SIGKILL)


def test_the_counters_of_this_machine_can_be_read_without_error():
    assert not OomCounter().has_struck(0)
