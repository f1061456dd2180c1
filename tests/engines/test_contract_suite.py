"""The contract suite itself: each engine runs all tests but those for capabilities that the engine really lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipyremote.backend.capabilities import FEATURES
from tests.contract.engines import ENGINES
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every test of the contract suite on every engine, as pytest collects them."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/contract",
    ]
    environment = {**os.environ, "CONTRACT_PLAN": str(path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert path.exists(), done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_each_engine_meets_every_test_of_the_suite(plan: list[dict[str, Any]]) -> None:
    tests = {(row["engine"], row["test"].replace(row["engine"], "ENGINE")) for row in plan}
    assert len(tests) == len(plan)
    of_engine = {name: {test for engine, test in tests if engine == name} for name in ENGINES}
    assert all(found == of_engine["local"] for found in of_engine.values())


def test_a_test_is_skipped_only_for_a_capability_that_its_engine_lacks(plan: list[dict[str, Any]]) -> None:
    for row in plan:
        capabilities = ENGINES[row["engine"]].engine.capabilities
        lacking = [capabilities.lacks(feature) for feature in row["needs"]]
        if row["counts"] and ENGINES[row["engine"]].count_objects is None:
            lacking.append(capabilities.insight)
        assert row["skips"] == [sentence for sentence in lacking if sentence][:1], row["test"]
        assert [] == row["conditions"], row["test"]


def test_a_test_asks_only_for_features_that_exist(plan: list[dict[str, Any]]) -> None:
    assert {feature for row in plan for feature in row["needs"]} <= FEATURES


def test_every_test_runs_on_our_own_processes(plan: list[dict[str, Any]]) -> None:
    assert [] == [row["test"] for row in plan if row["engine"] == "local" and row["skips"]]


def test_each_engine_runs_the_agreed_number_of_tests(plan: list[dict[str, Any]]) -> None:
    run = {name: sum(row["engine"] == name and not row["skips"] for row in plan) for name in ENGINES}
    agreed = {name: contestant.floor for name, contestant in ENGINES.items()}
    assert [] == [
        f"{name} runs {run[name]}, not {agreed[name]}" for name in ENGINES if run[name] < agreed[name]
    ]


def test_only_the_list_of_engines_names_engines() -> None:
    suite = [path for path in Path(ROOT, "tests/contract").glob("*.py") if path.name != "engines.py"]
    assert len(suite) > 7
    named = [
        f"{path.name}: {name}"
        for path in suite
        for name in ENGINES
        for quoted in (f'"{name}"', f"'{name}'")
        if quoted in path.read_text()
    ]
    assert [] == named


def test_each_missing_feature_of_an_engine_has_a_sentence_for_people() -> None:
    for name, contestant in ENGINES.items():
        for feature in FEATURES:
            sentence = contestant.engine.capabilities.lacks(feature)
            assert sentence == "" or (len(sentence.split()) > 4), f"{name}: {feature}"


def test_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no feature 'speed'; there are: .*streams"):
        ENGINES["local"].engine.capabilities.lacks("speed")
