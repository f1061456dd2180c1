"""Programs started in unusual ways: without standard streams, with paths of any bytes, interrupted at the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.sources import ROOT

_PROGRAM = """
import sys
import ipyremote as ray

@ray.remote
def shout(word):
    print(word)
    return word.upper()

with open({answer!r}, "w", encoding="utf-8") as answer:
    answer.write(ray.get(shout.remote("ol\\u00e1 \\u4e16"), timeout=30))
"""


def _run(program: str, *, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    with leaks.leakless():
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            timeout=60,
        )


def test_text_that_the_terminal_cannot_show_causes_no_failure(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    done = _run(
        _PROGRAM.format(answer=str(answer)),
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING="ascii:strict",
    )
    assert done.stderr == b""
    assert b"ol\\xe1 \\u4e16" in done.stdout
    assert answer.read_text(encoding="utf-8") == "OLÁ 世"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_program_without_standard_streams_works(tmp_path: Path, closed: tuple[int, ...]) -> None:
    answer = tmp_path / "answer"
    script = tmp_path / "program.py"
    script.write_text(_PROGRAM.format(answer=str(answer)))
    shell = " ".join(f"{fd}>&-" for fd in closed)
    with leaks.leakless():
        subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" "$1" {shell}', sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
            capture_output=True,
        )
    assert answer.read_text(encoding="utf-8") == "OLÁ 世"


def test_paths_of_any_bytes_and_of_any_type_work(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff odd")
    os.mkdir(odd)
    Path(odd, "beside.py").write_text("ANSWER = 42\n")
    program = """
import os, sys
from pathlib import Path
sys.path.append(Path("/nowhere"))
sys.argv = ["name", "\\udcff", "--flag"]
import ipyremote as ray

@ray.remote
def look():
    import beside
    return beside.ANSWER, os.getcwd(), sys.argv

assert ray.get(look.remote(), timeout=30) == (42, os.getcwd(), sys.argv)
print("fine")
"""
    done = _run(program, cwd=Path(odd), PYTHONPATH=f"{ROOT}:{odd}")
    assert done.stderr == b""
    assert done.stdout == b"fine\n"


def test_interrupts_while_sessions_start_and_end_leave_no_processes(tmp_path: Path) -> None:
    program = """
import sys
import ipyremote as ray

@ray.remote
def double(value):
    return 2 * value

print("up", flush=True)
interrupts = 0
while interrupts < 20:
    try:
        while True:
            ray.init(num_cpus=1)
            if interrupts % 4:
                # Else it ends before it has begun.
                ray.cluster_resources()
            ray.shutdown()
    except KeyboardInterrupt:
        interrupts += 1
        print("again", flush=True)
assert ray.get(double.remote(4), timeout=30) == 8
"""
    with leaks.leakless():
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        for number in range(20):
            # Not a wait for a condition: the sleep sets the moment of the interrupt
            time.sleep(0.01 + 0.0131 * number)
            process.send_signal(signal.SIGINT)
            process.stdout.readline()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.decode()) == (0, "")
