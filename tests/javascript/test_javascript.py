"""The widget's JavaScript: its own tests, its checker, and its agreement with Python.

The tests need Node, and `npm ci` at the root. Otherwise the tests are skipped, which is a failure in CI.
"""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from ipyremote.notebook.display.html import seconds_text
from tests.support.sources import ROOT

HERE = ROOT / "tests" / "javascript"
STATIC = ROOT / "ipyremote" / "notebook" / "static"
FILES = sorted(HERE.glob("*.test.js"))

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        shutil.which("node") is None or not (ROOT / "node_modules" / "jsdom").is_dir(),
        reason="no Node, or `npm ci` was not run (Debian: apt-get install nodejs npm)",
    ),
]


def run(*command: str) -> str:
    """Run a command at the root and return its output; fail with the output if the command fails."""
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def test_the_javascript_passes_its_own_tests() -> None:
    assert len(FILES) >= 4
    report = run("node", "--test", "--test-reporter=tap", *map(str, FILES))
    counts = dict(line[2:].rsplit(" ", 1) for line in report.splitlines() if line.startswith("# "))
    assert int(counts["pass"]) >= 40
    assert "0" == counts["fail"] == counts["skipped"] == counts["todo"]


def test_eslint_finds_no_fault_in_the_javascript() -> None:
    run("node", "node_modules/eslint/bin/eslint.js", str(STATIC), str(HERE), "eslint.config.js")


def test_python_and_javascript_show_durations_as_the_same_text() -> None:
    times = [
        0.0,
        0.0004,
        0.0123,
        0.9994,
        0.9996,
        1.04,
        59.94,
        59.96,
        60.0,
        61.9,
        3599.9,
        3600.0,
        36_125.0,
        90_000.0,
    ]
    program = f"""
import {{ durationText }} from {json.dumps((STATIC / "remote.js").as_uri())};
console.log(JSON.stringify({json.dumps(times)}.map(durationText)));
"""
    texts = json.loads(run("node", "--input-type=module", "-e", program))
    assert [seconds_text(seconds) for seconds in times] == texts
