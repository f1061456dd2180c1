"""The same small programs on Ray and on ipyremote: the outcome of each behaviour is the same, or differs on purpose.

The programs are the modules beside this module. Each program runs once on each engine, in its own process, and differs
in the line that imports the engine. To run the tests: `pytest -m ray_differential tests/differential`, where this
Python has Ray 2.60, or RAY_PYTHON is the path of a Python with Ray 2.60.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.differential import actors, errors, groups, objects, surroundings, tasks
from tests.differential.behaviours import MARK
from tests.support.sources import ROOT

OURS = "import ipyremote as ray\n"
THEIRS = "import ray\n"
PROGRAMS = {
    "tasks": tasks.program,
    "objects": objects.program,
    "actors": actors.program,
    "errors": errors.program,
    "groups": groups.program,
    "surroundings": surroundings.program,
}
CASES = [(program, name) for program, found in PROGRAMS.items() for name in found.behaviours]
#: Reason for each behaviour in which ipyremote differs from Ray on purpose.
DELIBERATE: dict[str, str] = {
    "decorating_a_number_is_refused": "a TypeError says what was given; Ray's AssertionError speaks of parentheses",
    "a_generator_that_delegates_streams": "Ray calls the method send of what stands behind `yield from`",
    "a_list_that_is_there_twice_stays_one": "Ray packs plain lists item by item; here they are pickled",
    "refs_are_not_pickled_by_others": "Ray 2.60 lets them, and keeps their objects for good; here one has to allow it",
    "numbers_of_system_errors_are_found": "fields that C code keeps are empty on Ray's combined error",
    "a_caught_error_can_be_pickled": "Ray's combined class cannot be pickled",
    "what_ends_a_generator_is_none_itself": "raised in a generator or by asyncio it would end that, not fail",
    "what_waits_in_a_group_fails_with_it": "in Ray it waits on if the group was removed before it was reserved",
}

#: Time limit of a program, in seconds.
PATIENCE = 300


def _ray_python() -> str:
    """Return the path of a Python that has Ray, or an empty string."""
    named = os.environ.get("RAY_PYTHON", "")
    return named or (sys.executable if importlib.util.find_spec("ray") is not None else "")


RAY_PYTHON = _ray_python()

pytestmark = [
    pytest.mark.ray_differential,
    pytest.mark.timeout(2 * PATIENCE + 60),
    pytest.mark.skipif(
        not RAY_PYTHON, reason="needs Ray: install it here, or set RAY_PYTHON to a Python that has it"
    ),
]


@functools.cache
def outcomes(program: str, engine: str) -> dict[str, Any]:
    """Return the outcome of each behaviour of a program on an engine."""
    text = (ROOT / "tests" / "differential" / f"{program}.py").read_text()
    assert text.count(OURS) == 1
    if engine == "ray":
        text = text.replace(OURS, THEIRS)
    with tempfile.TemporaryDirectory(prefix="differential-") as scratch:
        script = Path(scratch) / f"{program}.py"
        script.write_text(text)
        done = subprocess.run(
            [sys.executable if engine == "ipyremote" else RAY_PYTHON, script],
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    reports = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert len(reports) == 1, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(reports[0].removeprefix(MARK))
    return found


@pytest.mark.parametrize(("program", "name"), CASES, ids=lambda part: str(part))
def test_a_behaviour_has_the_same_outcome_on_ray_and_on_ipyremote(program: str, name: str) -> None:
    ours, theirs = outcomes(program, "ipyremote")[name], outcomes(program, "ray")[name]
    details = ours.pop("traceback", ""), theirs.pop("traceback", "")
    if name in DELIBERATE:
        assert theirs != ours, "the difference is gone"
    else:
        assert theirs == ours, "\n\n".join(details)


def test_each_deliberate_difference_names_a_behaviour() -> None:
    assert {name for _, name in CASES} >= DELIBERATE.keys()
