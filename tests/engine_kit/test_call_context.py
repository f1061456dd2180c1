"""The run that code belongs to, and the labels of the calls that the code submits."""

from __future__ import annotations

import threading

from ipyremote.engine_kit.call_context import Label, Running, concurrent, concurrently
from ipyremote.ids import DRIVER, ObjectId

#: Ids of objects.
O7 = ObjectId(7)


def test_labels_count_by_name_inside_the_submitter() -> None:
    driver = Running(driver=DRIVER)
    assert [str(driver.label_of(name)) for name in ("f", "g", "f")] == ["f#1", "g#1", "f#2"]
    task = Running(driver=DRIVER, task_id=O7, number="2")
    assert [str(task.label_of(name)) for name in ("f", "f")] == ["f#2.1", "f#2.2"]
    assert Running(driver=DRIVER, task_id=ObjectId(8), number="2.1").label_of("g") == Label("g", "2.1.1")


def test_a_run_belongs_to_the_thread_that_began_the_run() -> None:
    running = Running(driver=DRIVER, task_id=O7)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(running.on_this_thread()))
    thread.start()
    thread.join()
    assert (running.on_this_thread(), found) == (True, [False])


def test_calls_that_run_at_the_same_time_are_told_apart() -> None:
    running = Running(driver=DRIVER, task_id=O7)
    with concurrently(running):
        assert concurrent.get() is running
    assert concurrent.get() is None
