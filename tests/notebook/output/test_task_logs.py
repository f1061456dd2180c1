"""Logs of tasks: the end of each task's output, within bounds."""

from __future__ import annotations

from ipyremote.ids import ObjectId
from ipyremote.notebook.output.task_logs import TaskLogs


def test_a_log_has_the_whole_output_of_its_task() -> None:
    logs = TaskLogs()
    logs.write(ObjectId(1), "one\n")
    logs.write(ObjectId(2), "other\n")
    logs.write(ObjectId(1), "two\n")
    assert logs.read((7, 1)) == "one\ntwo\n"
    assert logs.read((3,)) is None


def test_a_long_log_keeps_its_end_from_the_beginning_of_a_line() -> None:
    logs = TaskLogs()
    for number in range(500_000):
        logs.write(ObjectId(1), f"line {number}\n")
    text = logs.read((1,))
    assert text is not None
    head, _, rest = text.partition("\n")
    assert "characters left out" in head
    assert rest.startswith("line ")
    assert rest.endswith("line 499999\n")
    assert 990_000 < len(rest) <= 1_000_000


def test_the_log_with_the_oldest_output_is_forgotten_first() -> None:
    logs = TaskLogs()
    for number in range(1, 121):
        logs.write(ObjectId(number), "x" * 999_999)
        logs.write(ObjectId(1), "y")
    assert logs.read((1,)) is not None
    assert logs.read((2,)) is None
    assert logs.read((120,)) is not None


def test_another_session_starts_empty() -> None:
    logs = TaskLogs()
    logs.write(ObjectId(1), "old")
    logs.clear()
    assert logs.read((1,)) is None
