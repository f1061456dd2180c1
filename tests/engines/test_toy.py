"""The toy engine: a backend from outside, which knows little of the package, and its tasks in a notebook."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ipyremote
from ipyremote.backend import current, registry
from ipyremote.backend.registry import Engine
from ipyremote.notebook.extension import Notebook
from ipyremote.refs import ObjectRef
from tests.engines.toy import ENGINE
from tests.notebook.fakes import FakeFrontend
from tests.support.sources import ROOT
from tests.support.waiting import until

SOURCE = Path(ROOT, "tests/engines/toy.py")
#: What belongs to the engines of this package.
OURS = ("backends", "client", "core", "messages", "scheduler", "store", "wire", "worker")


@pytest.fixture
def toy() -> Iterator[Engine]:
    """The registered toy engine, whose session is shut down in the end."""
    registry.register("toy", ENGINE)
    try:
        yield ENGINE
    finally:
        ipyremote.shutdown()
        registry.unregister("toy")


# ---- the engine


def test_the_toy_engine_has_fewer_than_150_lines() -> None:
    assert 0 < len(SOURCE.read_text().splitlines()) < 150


def test_the_toy_engine_imports_nothing_of_our_own_engines() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported = {
        alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "ipyremote.engine_kit.object_table.ObjectTable" in imported
    ours = [name for name in imported if name.split(".")[0] == "ipyremote" and name.split(".")[1] in OURS]
    assert [] == ours


@pytest.mark.processes
def test_the_toy_engine_is_a_backend_and_an_engine_for_a_type_checker(tmp_path: Path) -> None:
    claims = tmp_path / "claims.py"
    claims.write_text(
        "from ipyremote.backend import Backend\n"
        "from ipyremote.backend.registry import Engine\n"
        "from tests.engines.toy import ENGINE, ToyBackend\n"
        "engine: Engine = ENGINE\n"
        'backend: Backend = ToyBackend({"CPU": 1})\n'
        "wrong: Engine = backend\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(claims)],
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert "claims.py:6: error: Incompatible types in assignment" in errors[0]


@pytest.mark.parametrize("how", [{"address": "toy"}, {"address": "toy://"}, {"backend": "toy"}])
def test_the_toy_engine_starts_by_name_and_by_address(toy: Engine, how: dict[str, Any]) -> None:
    context = ipyremote.init(**how, num_cpus=1)
    assert repr(context) == "ClusterContext(toy)"
    assert ipyremote.cluster_resources() == {"CPU": 1.0}
    assert ipyremote.get(ipyremote.remote(lambda: 42).remote(), timeout=20) == 42


def test_the_toy_engine_names_the_address_that_cannot_be_joined(toy: Engine) -> None:
    with pytest.raises(ConnectionError, match=r"init\(address='toy://there'\): threads of another process"):
        ipyremote.init("toy://there")


@pytest.mark.parametrize(
    "arguments",
    [{"keep_alive": "1m"}, {"runtime_env": {"env_vars": {"A": "b"}}}],
    ids=["keep_alive", "runtime_env"],
)
def test_a_missing_capability_is_refused_in_the_toy_engines_words(
    toy: Engine, arguments: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, NotImplementedError), match="threads of this process, which nobody can"):
        ipyremote.init(backend="toy", **arguments)


# ---- in a notebook


class Cells:
    """A notebook without a kernel: runs cells and reads their output."""

    def __init__(self, shell: InteractiveShell, frontend: FakeFrontend) -> None:
        self.names = shell.user_ns
        self._shell = shell
        self._frontend = frontend

    def __call__(self, source: str) -> Any:
        if current.peek() is None:
            # Not in a fixture: between the phases of a test pytest replaces the streams that the engine has replaced.
            ipyremote.init(backend="toy", num_cpus=2)
        result = self._shell.run_cell(source, store_history=True)
        result.raise_error()
        return result.result

    def shown(self, label: str) -> list[str]:
        """Return the HTML of each display of a task so far, in order."""
        return [page for page in self.pages() if label in page]

    def pages(self) -> list[str]:
        """Return the HTML of each display so far, in order."""
        displayed = [bundle for _, bundle in self._frontend.displays]
        updated = [bundle for _, bundle, _ in self._frontend.updates]
        return [str(bundle.get("text/html", "")) for bundle in (*displayed, *updated)]

    def explain(self, name: str) -> str:
        """Return why the task of a ref in the notebook does not run."""
        return current.backend().explain(self.names[name]._id)

    def states(self, label: str) -> list[str]:
        """Return the states that the displays of a task or a board have shown, each once."""
        return list(dict.fromkeys(re.findall(r'data-state="(\w+)"', page)[0] for page in self.shown(label)))

    def text(self) -> str:
        """Return the text below the cells on stdout."""
        return self._frontend.text("stdout")


@pytest.fixture
def cells(toy: Engine, shell: InteractiveShell, frontend: FakeFrontend) -> Iterator[Cells]:
    shell.config.IPyRemote.widgets = False
    notebook = Notebook(shell, frontend)
    notebook.config.autostart = False
    notebook.load()
    try:
        yield Cells(shell, frontend)
    finally:
        notebook.unload()


def test_a_remote_cell_prints_below_itself_and_gives_a_ref(cells: Cells) -> None:
    cells("import math\nbase = 40")
    ref = cells("%%remote answer\nprint('thinking')\nbase + math.floor(2.5)")
    assert isinstance(ref, ObjectRef)
    assert ipyremote.get(cells.names["answer"], timeout=20) == 42
    assert "thinking" in cells.text()


def test_cells_that_run_at_the_same_time_have_a_shell_and_names_of_their_own(
    cells: Cells, tmp_path: Path
) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        cells(
            f"%%remote {name}\nimport pathlib, time\nmine = {name!r}\n"
            f"pathlib.Path({str(tmp_path / name)!r}).touch()\n"
            f"while not pathlib.Path({str(tmp_path / other)!r}).exists():\n    time.sleep(0.005)\n"
            "get_ipython().user_ns['mine'], mine"
        )
    refs = [cells.names["one"], cells.names["two"]]
    assert ipyremote.get(refs, timeout=20) == [("one", "one"), ("two", "two")]
    assert type(sys.modules["__main__"]).__name__ == "module"


def test_a_failure_is_shown_without_a_frame_of_the_engine(cells: Cells) -> None:
    ref = cells("%%remote\nint('x')")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        ipyremote.get(ref, timeout=20)
    assert "engines/toy.py" not in str(caught.value)
    assert "int('x')" in str(caught.value)


def test_text_that_the_program_itself_prints_belongs_to_no_task(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = cells("%%remote\nprint('of the task')")
    ipyremote.get(ref, timeout=20)
    cells("print('of the program')")
    out = capsys.readouterr().out
    assert "of the program" in out
    assert "of the program" not in cells.text()


HOLD = """
import os, time
import ipyremote
from tqdm import tqdm

@ipyremote.remote
def hold(gate):
    for _ in tqdm(range(1), desc="steps"):
        while not os.path.exists(gate):
            time.sleep(0.005)
    return "held"
"""


def test_a_displayed_ref_follows_its_task_with_a_progress_bar(cells: Cells, tmp_path: Path) -> None:
    gates = [tmp_path / name for name in "abc"]
    cells(HOLD)
    cells(f"a, b = (hold.remote(gate) for gate in {[str(gate) for gate in gates[:2]]!r})")
    until(lambda: "is running" in cells.explain("a") and "is running" in cells.explain("b"), "two tasks run")
    # There are two CPUs, so the third task waits for its turn.
    cells(f"c = hold.remote({str(gates[2])!r})\nimport IPython\nIPython.display.display(c)")
    assert cells.states("hold#3") == ["pending"]
    gates[0].touch()
    until(lambda: cells.states("hold#3") == ["pending", "running"], "the display says that the task runs")
    until(
        lambda: any("steps" in page and "0/1" in page for page in cells.shown("hold#3")), "its bar is shown"
    )
    gates[2].touch()
    until(lambda: cells.states("hold#3") == ["pending", "running", "resolved"], "the display is final")
    assert "held" in cells.shown("hold#3")[-1]
    gates[1].touch()
    assert cells("ipyremote.get([a, b, c], timeout=20)") == ["held"] * 3


def test_a_displayed_list_of_refs_is_a_board(cells: Cells, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cells(HOLD)
    cells(
        f"refs = [hold.remote({str(gate)!r}) for _ in range(4)]\nimport IPython\nIPython.display.display(refs)"
    )
    boards = lambda: [page for page in cells.pages() if "ipyremote-board" in page]  # noqa: E731  # read again and again
    until(lambda: any("2 running" in page for page in boards()), "the board counts the tasks that run")
    gate.touch()
    until(lambda: "4 resolved" in boards()[-1], "the board counts the tasks that have ended")


def test_a_display_of_a_task_is_below_the_cell_that_submitted_the_task(
    cells: Cells, frontend: FakeFrontend
) -> None:
    frontend.request = {"cell": 1}
    ref = cells("%%remote\nfrom IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))")
    frontend.request = {"cell": 2}
    ipyremote.get(ref, timeout=20)
    cells("1")
    ((content, parent),) = frontend.contents
    assert content["data"]["text/html"] == "<b>bold</b>"
    assert parent == {"cell": 1}
