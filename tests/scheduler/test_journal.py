"""The log is bounded and never in the way."""

from __future__ import annotations

import os

from ipyremote.scheduler.journal import Journal


def test_lines_carry_a_time(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        Journal(file.fileno()).write("something happened")
    time, _, text = (tmp_path / "log").read_text().partition(" ")
    assert time.count(":") == 2
    assert text == "something happened\n"


def test_a_full_log_ends_with_a_line_that_says_so(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        journal = Journal(file.fileno(), max_bytes=100)
        for _ in range(50):
            journal.write("x" * 20)
    assert (tmp_path / "log").stat().st_size < 200
    assert (tmp_path / "log").read_text().endswith("the log is full and ends here\n")


def test_a_log_that_cannot_be_written_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    journal = Journal(write_end)
    journal.write("into nothing")
    journal.write("again")
    os.close(write_end)
