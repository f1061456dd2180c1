"""The title of a worker process: its text, and how often the title is set."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote.ids import ObjectId
from ipyremote.messages import Inline, RunTask, TaskSpec
from ipyremote.worker.host import Host
from ipyremote.worker.title import SECONDS, WorkerTitle


class Screen:
    """Recorder of the title that `ps` would show, with a clock."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.now = 100.0

    def clock(self) -> float:
        return self.now


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def title(host: Host, screen: Screen) -> WorkerTitle:
    return WorkerTitle(host, screen.titles.append, screen.clock)


def send(host: Host, run: int, name: str, number: str, **more: Any) -> None:
    host.on_message(RunTask(TaskSpec(ObjectId(run), b"", name, number, Inline(b""), **more), 1, run, ()))


def connected(host: Host) -> None:
    class Link:
        def forget_prefetched(self) -> None: ...

    host.connect(Link())  # type: ignore[arg-type]  # all of the link that these tests touch


def test_the_title_of_a_new_worker_says_idle(title: WorkerTitle, screen: Screen) -> None:
    title.update()
    assert screen.titles == ["idle"]


def test_a_worker_title_has_the_task_and_the_number_of_its_cell(
    host: Host, title: WorkerTitle, screen: Screen
) -> None:
    connected(host)
    send(host, 1, "train", "3", cell=7)
    host.take()
    title.update()
    assert screen.titles == ["idle", "train#3 (cell 7)"]
    host.current = None
    screen.now += SECONDS
    title.update()
    assert screen.titles[-1] == "idle"


@pytest.mark.parametrize("cell", [0, -4])
def test_a_worker_title_has_only_the_task_if_its_cell_has_no_number(
    host: Host, title: WorkerTitle, screen: Screen, cell: int
) -> None:
    connected(host)
    send(host, 1, "train", "3", cell=cell)
    host.take()
    title.update()
    assert screen.titles[-1] == "train#3"


def test_a_worker_title_counts_concurrent_calls(host: Host, title: WorkerTitle, screen: Screen) -> None:
    connected(host)
    title.become_actor("Meeting#1")
    for number in (1, 2, 3):
        send(host, number, "Meeting.wait", str(number), cell=2)
    runs = [host.take_one() for _ in range(3)]
    title.update()
    assert screen.titles[-1] == "Meeting.wait#1 (cell 2) and 2 more"
    for run in runs:
        assert run is not None
        host.on_ended(run)
    screen.now += SECONDS
    title.update()
    assert screen.titles[-1] == "idle (Meeting#1)"


def test_a_burst_of_short_tasks_sets_few_titles(host: Host, title: WorkerTitle, screen: Screen) -> None:
    connected(host)
    title.update()
    for number in range(1, 1_001):
        send(host, number, "f", str(number))
        host.take()
        screen.now += SECONDS / 100
        title.update()
    assert 10 <= len(screen.titles) <= 12


def test_a_title_that_stays_the_same_is_not_set_again(host: Host, title: WorkerTitle, screen: Screen) -> None:
    connected(host)
    send(host, 1, "long", "1")
    host.take()
    for _ in range(100):
        screen.now += SECONDS
        title.update()
    assert screen.titles == ["idle", "long#1"]
