"""The log lines of a `LoggingConfig` with the encoding "JSON"."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipyremote import LoggingConfig
from ipyremote.session import logging as session_logging

ALWAYS = ["asctime", "levelname", "message", "filename", "lineno"]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Write JSON from now on; return a function that gives the records of all lines since its last call."""
    LoggingConfig(encoding="JSON", additional_log_standard_attrs=["name"]).apply()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    # No session is running whose end would undo the configuration.
    session_logging._undo.pop("root")()


def test_a_line_has_the_fields_of_ray_and_the_requested_fields(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    logging.getLogger("mine").info("%s apples", 3)
    (record,) = written()
    assert [*ALWAYS, "name"] == list(record)
    assert ("3 apples", "INFO", "mine") == (record["message"], record["levelname"], record["name"])
    assert record["filename"] == "test_logging.py"


def test_extra_fields_of_a_record_are_in_its_line(written: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("mine").info("login", extra={"user": {"id": 3}, "kind": KeyError})
    (record,) = written()
    assert record["user"] == {"id": 3}
    assert record["kind"] == "<class 'KeyError'>"


@pytest.mark.parametrize("message", [{"a": 1}, "100 % sure", ["%s"], None])
def test_a_message_of_any_type_is_a_text(written: Callable[[], list[dict[str, Any]]], message: Any) -> None:
    logging.getLogger("mine").info(message)
    (record,) = written()
    assert record["message"] == str(message)
    assert [*ALWAYS, "name"] == list(record)


def test_a_traceback_is_in_one_line_and_other_handlers_get_the_unchanged_record(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign, assignment]  # a handler needs nothing else
    logging.getLogger().addHandler(handler)
    try:
        raise ValueError("a pebble")
    except ValueError:
        logging.getLogger("mine").exception("%s stumbled", "it")
    (record,) = written()
    assert record["exc_text"].endswith("ValueError: a pebble")
    assert "exc_info" not in record
    assert (kept[0].msg, kept[0].args) == ("%s stumbled", ("it",))
