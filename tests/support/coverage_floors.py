"""The share of each part of the package that tests reach, and the floor of the share: a lower share is a failure.

    python -m tests.support.coverage_floors coverage.json   prints each share, and fails if a share is below its floor
    python -m tests.support.coverage_floors --measure       measures first; takes about five minutes

`.ci/run` measures the unit tests, the contract suite, and the tests of the scheduler and of remote cells (`SUITES`), in
all processes that these tests start. Code that only slower tests reach (most of `util` and `benchmark`) is not counted,
so shares are lower than the full suite's. A floor is one or two percent below the measured share, because the timing of
processes varies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["FLOORS", "SUITES", "failures", "shares"]

#: Arguments of pytest for each measured run.
SUITES = (
    ("tests", "-m", "unit"),
    ("tests/contract", "tests/scheduler", "tests/notebook/test_magics_on_workers.py"),
)

#: Floor of each part: percent of lines and branches that the suites must reach; "" is the package's top level.
FLOORS = {
    "": 94,
    "backend": 95,
    "backends": 83,
    "benchmark": 45,
    "client": 81,
    "compat": 44,
    "core": 97,
    "declare": 91,
    "engine_kit": 94,
    "exceptions": 96,
    "messages": 98,
    "notebook": 90,
    "remote_cells": 79,
    "scheduler": 83,
    "serialization": 93,
    "session": 72,
    "store": 96,
    "util": 50,
    "wire": 95,
    "worker": 87,
}


def shares(report: dict[str, Any]) -> dict[str, float]:
    """Return the percentage of lines and branches reached in each part, from a JSON report of coverage."""
    reached: dict[str, int] = defaultdict(int)
    there: dict[str, int] = defaultdict(int)
    for name, file in report["files"].items():
        parts = Path(name).parts[1:]
        part = parts[0] if len(parts) > 1 else ""
        summary = file["summary"]
        reached[part] += summary["covered_lines"] + summary.get("covered_branches", 0)
        there[part] += summary["num_statements"] + summary.get("num_branches", 0)
    return {part: 100 * reached[part] / there[part] for part in sorted(there) if there[part]}


def failures(found: dict[str, float], floors: dict[str, int]) -> list[str]:
    """Return a sentence for each part that is below its floor, has no floor, or was not measured."""
    said = [
        f"{part or 'the top level'}: {share:.1f} % is below the floor of {floors[part]} %"
        for part, share in found.items()
        if part in floors and share < floors[part]
    ]
    said += [
        f"{part or 'the top level'}: {share:.1f} %, and no floor"
        for part, share in found.items()
        if part not in floors
    ]
    return said + [f"{part or 'the top level'}: not measured" for part in floors if part not in found]


def measure(path: Path) -> None:
    """Run the suites under coverage and write the report; failures count only in the run without coverage."""
    for suite in SUITES:
        command = ["coverage", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", *suite]
        subprocess.run([sys.executable, "-m", *command], check=False)
    # Processes that were killed while writing leave unreadable files, which coverage reports and skips.
    subprocess.run([sys.executable, "-m", "coverage", "combine", "-q"], check=True)
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(path)], check=True)


def check(path: Path) -> int:
    """Print the shares and the failures, and return the exit status."""
    found = shares(json.loads(path.read_text()))
    for part, share in found.items():
        print(f"{part or '(top level)':15} {share:5.1f} %  floor {FLOORS.get(part, 0)} %")
    said = failures(found, FLOORS)
    for sentence in said:
        print(sentence, file=sys.stderr)
    return 1 if said else 0


def main(argument: str) -> int:
    """Check a report, or measure and check the new report."""
    if argument != "--measure":
        return check(Path(argument))
    with tempfile.TemporaryDirectory(prefix="coverage-") as directory:
        os.environ["COVERAGE_FILE"] = str(Path(directory) / "data")
        report = Path(directory) / "coverage.json"
        measure(report)
        return check(report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
