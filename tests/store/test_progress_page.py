"""The progress page, whose words can be read after the death of the worker that wrote them."""

from __future__ import annotations

import errno
import os
import signal
import timeit

import pytest

from ipyremote.ids import ClientId
from ipyremote.store.progress_page import ProgressPage, read_progress, remove_progress

#: Numbers of clients.
C7 = ClientId(7)


def test_a_new_page_says_that_nothing_has_run(tmp_path):
    page = ProgressPage.create(tmp_path, C7)
    assert read_progress(tmp_path, C7) == (0, 0)
    page.close()


def test_a_page_tells_started_and_finished_apart(tmp_path):
    page = ProgressPage.create(tmp_path, C7)
    page.started(3)
    assert read_progress(tmp_path, C7) == (3, 0)
    page.finished(3)
    page.started(4)
    assert read_progress(tmp_path, C7) == (4, 3)
    page.close()


@pytest.mark.processes
def test_the_words_survive_the_kill_of_the_worker(tmp_path):
    pid = os.fork()
    if not pid:
        try:
            page = ProgressPage.create(tmp_path, ClientId(2))
            page.started((1 << 40) + 5)
            page.finished(1 << 40)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    assert read_progress(tmp_path, ClientId(2)) == ((1 << 40) + 5, 1 << 40)


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_missing_or_torn_page_says_that_nothing_has_run(tmp_path, content):
    if content is not None:
        (tmp_path / "progress-9").write_bytes(content)
    assert read_progress(tmp_path, ClientId(9)) == (0, 0)


def test_removing_a_page_twice_is_harmless(tmp_path):
    ProgressPage.create(tmp_path, C7).close()
    remove_progress(tmp_path, C7)
    remove_progress(tmp_path, C7)
    assert list(tmp_path.iterdir()) == []


def test_a_page_without_room_is_an_error_and_never_a_fault_of_memory(tmp_path, monkeypatch):
    def full(fd, offset, length):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no room"):
        ProgressPage.create(tmp_path, C7)
    assert len(os.listdir("/proc/self/fd")) == fds


def test_a_closed_page_leaves_no_descriptor(tmp_path):
    fds = len(os.listdir("/proc/self/fd"))
    page = ProgressPage.create(tmp_path, C7)
    page.close()
    page.close()
    assert len(os.listdir("/proc/self/fd")) == fds


def test_writing_a_word_is_cheap(tmp_path):
    page = ProgressPage.create(tmp_path, C7)
    best = (
        min(timeit.repeat("started(5)", globals={"started": page.started}, number=20_000, repeat=5)) / 20_000
    )
    # The target is 0.15 us on an idle machine; the limit leaves room for a busy one.
    assert best < 1e-6
    page.close()
