"""The rule that decides which tests are unit tests, and the guard that keeps unit tests from starting processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.support.sources import ROOT
from tests.support.unit import FOLDERS, confine


def test_a_unit_test_that_starts_a_process_fails() -> None:
    with pytest.raises(RuntimeError, match="a test is a unit test and starts a process"), confine("a test"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_unit_test_that_hides_the_error_of_the_process_fails_too() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"os\.fork"), confine("a test"), suppress(RuntimeError):
        os.fork()


def test_a_unit_test_that_starts_no_process_passes() -> None:
    with confine("a test"):
        assert os.getpid()


def test_a_test_without_processes_is_a_unit_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("unit")


@pytest.mark.processes
def test_a_test_with_the_marker_processes_is_no_unit_test(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("unit")
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


def test_each_folder_of_tests_with_processes_exists() -> None:
    assert [] == [name for name in sorted(FOLDERS) if not (ROOT / "tests" / name).is_dir()]
