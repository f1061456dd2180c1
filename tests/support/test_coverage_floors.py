"""The check of coverage: parts are added up, and parts below a floor, without a floor or unmeasured are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.coverage_floors import FLOORS, SUITES, check, failures, shares
from tests.support.sources import PACKAGE, ROOT, modules, top_level


def file(lines: int, of: int, branches: int = 0, of_branches: int = 0) -> dict[str, Any]:
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": of,
            "covered_branches": branches,
            "num_branches": of_branches,
        }
    }


REPORT = {
    "files": {
        "ipyremote/api.py": file(9, 10),
        "ipyremote/core/a.py": file(10, 10, 5, 10),
        "ipyremote/core/state/b.py": file(0, 20),
        "ipyremote/core/__init__.py": file(0, 0),
        "ipyremote/empty/__init__.py": file(0, 0),
    }
}


def test_lines_and_branches_of_a_part_are_added_up() -> None:
    assert shares(REPORT) == {"": 90.0, "core": 37.5}


def test_each_wrong_share_or_floor_is_reported() -> None:
    assert failures({"core": 97.0, "wire": 80.0}, {"core": 97, "wire": 80}) == []
    assert failures({"core": 96.9, "new": 5.0}, {"core": 97, "gone": 10}) == [
        "core: 96.9 % is below the floor of 97 %",
        "new: 5.0 %, and no floor",
        "gone: not measured",
    ]


def test_a_report_below_the_floors_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coverage.json").write_text(json.dumps(REPORT))
    assert check(tmp_path / "coverage.json") == 1
    assert "core: 37.5 % is below the floor" in capsys.readouterr().err


def test_each_part_of_the_package_has_a_floor() -> None:
    packages = {name for name in top_level() if any((PACKAGE / name).glob("*.py"))}
    assert FLOORS.keys() == packages | {""}
    assert any(path.parent == PACKAGE for path in modules())


def test_the_test_paths_of_the_measured_suites_exist() -> None:
    paths = [argument for suite in SUITES for argument in suite if argument.startswith("tests")]
    assert [] == [path for path in paths if not (ROOT / path).exists()]


def test_ci_measures_the_coverage() -> None:
    assert "tests.support.coverage_floors --measure" in (ROOT / ".ci" / "run").read_text()
