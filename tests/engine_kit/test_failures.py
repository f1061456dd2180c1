"""Exceptions to failures and back."""

from __future__ import annotations

import pytest

from ipyremote.engine_kit import failures
from ipyremote.engine_kit.failures import PickledFailure, exception_of, failure_of
from ipyremote.exceptions import TaskError, WorkerCrashedError


def captured(cause: Exception) -> TaskError:
    try:
        raise cause
    except Exception as error:
        return TaskError.capture(error, label="f#1", pid=1, hide="", display_names={})


def test_a_failure_without_data_is_its_kind_and_text() -> None:
    error = exception_of(PickledFailure("worker_crashed", "killed"))
    assert isinstance(error, WorkerCrashedError)
    assert "killed" in str(error)


def test_an_error_whose_text_cannot_be_encoded_as_utf8_can_be_sent() -> None:
    failure = failure_of(captured(ValueError("name \udc80")))
    assert failure.text.encode("utf-8")
    assert "name ?" in failure.text
    assert isinstance(exception_of(failure), ValueError)


def test_an_exception_that_is_too_large_travels_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "EXCEPTION_BYTES", 1 << 20)
    cause = ValueError("bad")
    cause.evidence = bytes(3 << 20)  # type: ignore[attr-defined]
    failure = failure_of(captured(cause))
    assert len(failure.data) < 1 << 20
    assert "its pickle has 3 MiB, and at most 1 MiB travel" in failure.text
    error = exception_of(failure)
    assert isinstance(error, TaskError)
    assert error.cause is None
    assert "ValueError: bad" in str(error)
    assert "its pickle has 3 MiB" in str(error)


def test_a_message_of_megabytes_is_shown_without_its_middle() -> None:
    failure = failure_of(captured(ValueError("begin " + "x" * (5 << 20) + " end")))
    assert failure.text.startswith("begin xxx")
    assert failure.text.rstrip().endswith("xxx end")
    assert "characters are left out here" in failure.text
    assert len(failure.text) < 1 << 20
    error = exception_of(failure)
    assert isinstance(error, ValueError)
    assert len(error.args[0].args[0]) > 5 << 20, "the exception itself has all of it"
