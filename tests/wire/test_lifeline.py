"""Lifelines: end of file says that the other process is gone, for whatever reason."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ipyremote.wire.lifeline import Lifeline, pair


def test_a_lifeline_is_whole_while_its_write_end_is_open():
    read_end, write_end = pair()
    lifeline = Lifeline(read_end)
    try:
        assert not lifeline.is_cut()
        assert not lifeline.wait_cut(0)
    finally:
        lifeline.close()
        os.close(write_end)


def test_closing_the_write_end_cuts_a_lifeline():
    read_end, write_end = pair()
    lifeline = Lifeline(read_end)
    os.close(write_end)
    assert lifeline.is_cut()
    lifeline.close()


@pytest.mark.processes
def test_the_kill_of_its_holder_cuts_a_lifeline_at_once():
    read_end, write_end = pair()
    pid = os.fork()
    if not pid:
        try:
            os.close(read_end)
            signal.pause()
        finally:
            os._exit(0)
    os.close(write_end)
    lifeline = Lifeline(read_end)
    try:
        assert not lifeline.is_cut()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert lifeline.wait_cut(5)
        assert time.monotonic() - killed < 1
    finally:
        os.waitpid(pid, 0)
        lifeline.close()


def test_neither_end_survives_an_exec():
    ends = pair()
    assert [os.get_inheritable(end) for end in ends] == [False, False]
    os.set_inheritable(ends[0], True)
    lifeline = Lifeline(ends[0])
    assert not os.get_inheritable(lifeline.fileno())
    lifeline.close()
    os.close(ends[1])


def test_closing_twice_is_harmless():
    read_end, write_end = pair()
    lifeline = Lifeline(read_end)
    lifeline.close()
    lifeline.close()
    os.close(write_end)
