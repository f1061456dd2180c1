"""Logging options of `init`, and the records that a program, its tasks and its actors write with them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import ipyremote as ray
from ipyremote import LoggingConfig


@ray.remote
def speak(text: str) -> str:
    logging.getLogger("mine").info(text)
    return text


@ray.remote
class Speaker:
    def speak(self, text: str) -> str:
        logging.getLogger("mine").warning(text)
        return text


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the lines of stderr with one of these words, without the prefix of a task's output."""
    return [line for line in capsys.readouterr().err.splitlines() if any(word in line for word in words)]


def test_records_of_tasks_and_actors_are_json_with_their_ids(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start(num_cpus=2, logging_config=LoggingConfig(encoding="JSON", additional_log_standard_attrs=["name"]))
    speaker = Speaker.remote()
    ref = speak.remote("from a task")
    assert ray.get([ref, speaker.speak.remote("from an actor")], timeout=30) == [
        "from a task",
        "from an actor",
    ]
    logging.getLogger("mine").info("from the driver")
    found = {}
    for line in lines(capsys, "from "):
        record = json.loads(line[line.index("{") :])
        found[record["message"]] = record
    task, actor, driver = (found[f"from {whom}"] for whom in ("a task", "an actor", "the driver"))
    context = ray.get_runtime_context()
    assert {record["job_id"] for record in found.values()} == {context.get_job_id()}
    assert (task["task_id"], task["task_name"]) == (ref.task_id().hex(), "speak")
    assert (task["levelname"], task["name"], task["filename"]) == ("INFO", "mine", "test_logging.py")
    assert len(actor["actor_id"]) == 56
    assert "task_id" not in driver
    assert driver["worker_id"] == context.get_worker_id() != task["worker_id"]


def test_records_as_text_have_their_ids_and_tracebacks(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    @ray.remote
    def stumble() -> None:
        try:
            raise ValueError("a pebble")
        except ValueError:
            logging.getLogger("mine").exception("stumbled")

    start(num_cpus=1, logging_config=LoggingConfig(log_level="WARNING"))
    ray.get([stumble.remote(), speak.remote("too quiet")], timeout=30)
    (first, *_, last) = lines(capsys, "stumbled", "too quiet", "ValueError: a pebble")
    assert "ERROR test_logging.py" in first
    assert "-- stumbled job_id=" in first
    assert "task_func_name=" in first
    assert last.endswith("ValueError: a pebble")


def test_the_logging_configuration_ends_with_the_session(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root, ours = logging.getLogger(), logging.getLogger("ipyremote")
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in (root, ours)]
    start(num_cpus=1, logging_config=LoggingConfig(), logging_level="ERROR")
    # The same cell is run again.
    start(num_cpus=1, logging_config=LoggingConfig(), logging_level="ERROR")
    assert (root.level, ours.level) == (logging.INFO, logging.ERROR)
    assert len(root.handlers) == len(before[0][2]) + 1
    ray.get(speak.remote("first"), timeout=30)
    ray.shutdown()
    assert before == [(logger.level, logger.propagate, list(logger.handlers)) for logger in (root, ours)]
    start(num_cpus=1)
    ray.get(speak.remote("second"), timeout=30)
    assert ["first"] == [word for word in ("first", "second") if lines(capsys, word)]


def test_log_records_of_the_package_itself_have_the_configured_level_and_format(
    start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start(backend="inline", logging_level=logging.DEBUG, logging_format="<%(message)s>")
    logging.getLogger("ipyremote.store").debug("detail")
    assert lines(capsys, "detail") == ["<detail>"]


def test_logging_is_not_configured_if_forbidden_or_not_requested(start: Callable[..., Any]) -> None:
    ours = logging.getLogger("ipyremote")
    before = ours.level, list(ours.handlers)
    start(backend="inline", configure_logging=False, logging_level="DEBUG")
    assert before == (ours.level, list(ours.handlers))
    ray.shutdown()
    start(backend="inline")
    assert before == (ours.level, list(ours.handlers))


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"logging_level": "LOUD"}, ValueError, "logging_level"),
        ({"logging_level": 1.5}, TypeError, "logging_level"),
        ({"logging_format": 3}, TypeError, "logging_format"),
        ({"logging_format": "%(message"}, ValueError, "Invalid format"),
        ({"logging_config": {"encoding": "JSON"}}, TypeError, "LoggingConfig"),
    ],
)
def test_logging_options_without_a_meaning_are_refused(
    wrong: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        ray.init(backend="inline", **wrong)
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"encoding": "XML"}, ValueError, "TEXT, JSON"),
        ({"log_level": "LOUD"}, ValueError, "log_level"),
        ({"additional_log_standard_attrs": ["colour"]}, ValueError, "colour"),
    ],
)
def test_a_logging_configuration_is_checked(
    wrong: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        LoggingConfig(**wrong)
