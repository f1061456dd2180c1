"""Tests of the title of a process, read by another process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Program that calls `set_title` with each argument, and prints the command line and name of its process each time.
_PROGRAM = """
import json, os, subprocess, sys, threading
from pathlib import Path
from ipyremote.process_title import set_title

me = Path("/proc/self")

def seen():
    return {
        "title": (me / "cmdline").read_bytes().rstrip(b"\\0").decode(),
        "name": (me / "comm").read_text().strip(),
        "environment": (me / "environ").read_bytes() == environment,
        "inherited": subprocess.check_output(["env"], text=True).count("SPT_NOENV"),
    }

environment = (me / "environ").read_bytes()
set_title("idle")
found = [seen()]
for text in sys.argv[1:]:
    thread = threading.Thread(target=set_title, args=(text,))
    thread.start()
    thread.join()
    found.append(seen())
pid = os.fork()
if not pid:
    set_title("child")
    print(json.dumps([*found, seen()]), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
assert seen() == found[-1]
"""


def seen(*texts: str) -> list[dict[str, object]]:
    """Return what is read after the title "idle", after each of `titles`, and in a child with the title "child"."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *texts], capture_output=True, text=True, check=True, timeout=60
    )
    found: list[dict[str, object]] = json.loads(done.stdout)
    assert [True] * len(found) == [each["environment"] for each in found]
    assert [0] * len(found) == [each["inherited"] for each in found]
    return found


def test_a_title_is_the_command_line_and_the_name_of_the_process() -> None:
    idle, task, child = seen("train#3 (cell 7)")
    assert ("ipyremote: idle", "ipyremote: idle") == (idle["title"], idle["name"])
    assert ("ipyremote: train#3 (cell 7)", "ipyremote: trai") == (task["title"], task["name"])
    assert ("ipyremote: child", "ipyremote: chil") == (child["title"], child["name"])


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred"])
def test_a_title_has_no_control_characters(text: str) -> None:
    shown = str(seen(text)[1]["title"])
    assert shown.isprintable()
    assert shown.startswith("ipyremote: ")


def test_a_title_that_is_longer_than_the_command_line_is_cut() -> None:
    shown = str(seen("x" * 10_000)[1]["title"])
    assert shown.startswith("ipyremote: xxx")
    assert len(shown) < 12_000
