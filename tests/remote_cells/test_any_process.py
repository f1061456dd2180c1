"""Cells in a plain child process without our scheduler, client and wire, with a `Reporter` that writes to a pipe."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from ipyremote.notebook.cells.capture import capture
from ipyremote.remote_cells.cell import Cell, CellInputs
from ipyremote.serialization import pickling
from tests.remote_cells.pipe_worker import Job
from tests.support.sources import ROOT

pytestmark = pytest.mark.processes

#: Modules that a worker of another engine must not need.
OURS = {
    "msgspec",
    "zmq",
    "ipyremote.client",
    "ipyremote.core",
    "ipyremote.messages",
    "ipyremote.notebook",
    "ipyremote.scheduler",
    "ipyremote.store",
    "ipyremote.wire",
    "ipyremote.worker",
}


@dataclass
class Shown:
    """The reports of the child, and the text on its own stdout."""

    lines: list[list[Any]]
    stdout: str

    def of(self, kind: str, task: str | None) -> list[Any]:
        """Return the reports of one kind about one task."""
        return [line[2:] for line in self.lines if line[0] == kind and line[1] == task]

    def text(self, task: str | None, stream: int = 1) -> str:
        return "".join(text for number, text in self.of("text", task) if number == stream)

    def value(self, task: str) -> str:
        """Return the repr of the value of a cell, from its preview."""
        assert self.of("failed", task) == []
        ((look,),) = self.of("preview", task)
        return str(look["repr"])


class Cells:
    """Jobs of cells, made as the notebook makes them, for one child."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._jobs: list[Job] = []

    def define(self, source: str) -> None:
        """Run a cell in the notebook."""
        exec(compile(source, "<notebook>", "exec"), self.namespace)

    def add(self, text: str, *, session: str = "", beside: bool = False, **details: Any) -> str:
        """Add a `%%remote` cell; return its task."""
        source = "\n" + TransformerManager().transform_cell(text)
        number = len(self._jobs) + 1
        captured = capture(source, self.namespace)
        cell = Cell(source, f"<cell {number}>", f"In [{number}]", captured.modules)
        home = FunctionType(_home.__code__, self.namespace, "home")
        home.__module__ = "__main__"
        job = Job(
            f"job-{number}",
            replace(cell, **details),
            CellInputs(home, captured.values),
        )
        self._jobs.append(replace(job, session=session, beside=beside))
        return job.task

    def run(self) -> Shown:
        """Run all cells."""
        file = self._directory / "jobs.json"
        file.write_text(json.dumps([pickling.dumps_whole(job).head.hex() for job in self._jobs]))
        reading, writing = os.pipe()
        worker = ROOT / "tests" / "remote_cells" / "pipe_worker.py"
        child = subprocess.Popen(
            [sys.executable, str(worker), str(file), str(writing)],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        os.close(writing)
        with open(reading) as pipe:
            lines = [json.loads(line) for line in pipe]
        stdout, _ = child.communicate(timeout=60)
        assert child.returncode == 0, stdout
        return Shown(lines, stdout)


def _home() -> None:
    """Give its globals to the cells."""


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path)


def test_a_cell_runs_with_its_captured_values_and_imports_nothing_of_our_engine(cells: Cells) -> None:
    cells.define("import math\nk = 3\ndef area(r):\n    return round(math.pi * r * k, 2)")
    task = cells.add("print('working')\nx = area(2)\nx + 1")
    shown = cells.run()
    assert shown.value(task) == "19.85"
    assert [line[0] for line in shown.lines if line[1] == task] == ["started", "text", "preview", "finished"]
    assert shown.text(task) == "working\n"
    ((_, modules),) = [line for line in shown.lines if line[0] == "modules"]
    assert set() == OURS & set(modules)
    assert "IPython" not in modules
    assert shown.stdout == "descriptors lead home\n"


def test_an_error_points_at_the_line_of_the_cell(cells: Cells) -> None:
    task = cells.add("x = 1\ndef f():\n    return x / 0\nf()")
    ((kind, message, trace),) = cells.run().of("failed", task)
    assert (kind, message) == ("ZeroDivisionError", "division by zero")
    assert 'File "<cell 1>", line 4, in f\n    return x / 0\n' in trace


def test_magics_and_commands_work_in_a_cell(cells: Cells) -> None:
    cells.define("word = 'hello'")
    one = cells.add("!echo {word} $word\nx = %time 20 + 1\nnames = !printf 'a\\nb'\n(x, list(names))")
    two = cells.add("%%bash\necho from bash")
    shown = cells.run()
    assert shown.value(one) == "(21, ['a', 'b'])"
    assert shown.text(one).startswith("hello hello\n")
    assert "Wall time" in shown.text(one)
    assert shown.text(two) == "from bash\n"
    ((_, modules),) = [line for line in shown.lines if line[0] == "modules"]
    assert set() == OURS & set(modules)


def test_text_of_every_kind_is_reported_in_order_and_for_its_task(cells: Cells) -> None:
    task = cells.add(
        "import ctypes, os, subprocess, sys, threading\n"
        "print('one')\n"
        "subprocess.run(['echo', 'two'], check=True)\n"
        "print('three')\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.puts(b'four')\n"
        "libc.fflush(None)\n"
        "os.write(2, b'five\\n')\n"
        "print('six', end='')\n"
        "print('to stderr', file=sys.stderr)\n"
        "thread = threading.Thread(target=print, args=('of a thread',))\n"
        "thread.start(); thread.join()"
    )
    silent = cells.add("1")
    shown = cells.run()
    assert shown.text(task) == "one\ntwo\nthree\nfour\nfive\nsixof a thread\n"
    assert shown.text(task, stream=2) == "to stderr\n"
    assert (shown.text(silent), shown.text(None)) == ("", "")


def test_displays_figures_and_progress_bars_are_reported(cells: Cells) -> None:
    display = cells.add(
        "from IPython.display import HTML, display as show\ndisplay(HTML('<b>x</b>'))\nshow(3)"
    )
    figure = cells.add("import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\n'drawn'")
    bars = cells.add("from tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='load'): pass")
    shown = cells.run()
    html, three = (content["data"] for (content,) in shown.of("display", display))
    assert html["text/html"] == "<b>x</b>"
    assert three == {"text/plain": "3"}
    ((picture,),) = shown.of("display", figure)
    assert base64.b64decode(picture["data"]["image/png"]).startswith(b"\x89PNG")
    assert shown.value(figure) == "'drawn'"
    first, *_, last = (state for (state,) in shown.of("progress", bars))
    assert first == {
        "number": 1,
        "description": "load",
        "done": 0.0,
        "total": 3.0,
        "unit": "it",
        "closed": False,
    }
    assert last == {**first, "done": 3.0, "closed": True}
    assert shown.text(bars) == shown.text(bars, stream=2) == ""


def test_a_preview_of_a_value_is_reported(cells: Cells) -> None:
    task = cells.add("import pandas as pd\npd.DataFrame({'a': [1, 2]})")
    ((look,),) = cells.run().of("preview", task)
    assert (look["type"], look["shape"]) == ("pandas.DataFrame", "(2, 1)") or look["shape"] == "(2, 1)"
    assert "<table" in look["html"]


def test_input_is_refused_in_a_plain_process(cells: Cells) -> None:
    task = cells.add("input('name? ')")
    ((kind, message, _),) = cells.run().of("failed", task)
    assert kind == "RuntimeError"
    assert message.startswith("input() does not work in a remote cell or task")


def test_a_session_keeps_its_variables(cells: Cells) -> None:
    cells.define("step = 2\ndef more(x):\n    return x + step")
    cells.add("import math\ncount = 1", session="lab")
    cells.add("count = more(count)", session="lab")
    task = cells.add("(count, math.floor(1.5))", session="lab")
    other = cells.add("'count' in globals()")
    shown = cells.run()
    assert shown.value(task) == "(3, 1)"
    assert shown.value(other) == "False"


def test_cells_that_run_at_the_same_time_in_threads_are_kept_apart(cells: Cells) -> None:
    # Each cell waits for the other at its beginning and after it has read the names, so both read at the same time.
    source = (
        "import pathlib, sys, time\n"
        "def meet(place):\n"
        "    pathlib.Path('{me}-' + place).touch()\n"
        "    deadline = time.monotonic() + 20\n"
        "    while not pathlib.Path('{other}-' + place).exists():\n"
        "        assert time.monotonic() < deadline\n"
        "        time.sleep(0.005)\n"
        "class Own:\n    pass\n"
        "print('{me} begins')\n"
        "meet('begun')\n"
        "me = '{me}'\n"
        "!echo $me\n"
        "found = sys.modules['__main__'].Own is Own\n"
        "meet('looked')\n"
        "print('{me} ends')\n"
        "found, me"
    )
    one = cells.add(source.format(me="one", other="two"), beside=True)
    two = cells.add(source.format(me="two", other="one"))
    after = cells.add("import sys\n(hasattr(sys.modules['__main__'], 'Own'), 'me' in globals())")
    shown = cells.run()
    for task, name in ((one, "one"), (two, "two")):
        assert shown.value(task) == f"(True, '{name}')"
        assert shown.text(task) == f"{name} begins\n{name}\n{name} ends\n"
    assert shown.value(after) == "(False, False)"
