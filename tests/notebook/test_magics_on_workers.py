"""The magics on real workers, in a shell of this process."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import ipyremote
from ipyremote.exceptions import ActorDiedError, TaskCancelledError, TaskError
from ipyremote.notebook.extension import Notebook
from ipyremote.notebook.magics import CellInterruptedError
from ipyremote.notebook.output import unretrieved
from ipyremote.refs import ObjectRef
from tests.notebook.fakes import FakeFrontend
from tests.support import leaks
from tests.support.waiting import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs for all tests of this module."""
    with leaks.leakless():
        ipyremote.init(num_cpus=2, object_store_memory=256 << 20)
        yield
        ipyremote.shutdown()


@pytest.fixture
def notebook(cluster: None, shell: InteractiveShell, frontend: FakeFrontend) -> Iterator[Notebook]:
    loaded = Notebook(shell, frontend)
    loaded.load()
    try:
        yield loaded
    finally:
        loaded.unload()


class CellRuns:
    """Runs cells as a notebook does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.names = shell.user_ns

    def __call__(self, source: str) -> Any:
        """Run a cell and return its value. Raises the cell's error."""
        result = self.shell.run_cell(source, store_history=True)
        result.raise_error()
        return result.result

    def error(self, source: str) -> BaseException:
        """Run a cell that fails and return its error."""
        result = self.shell.run_cell(source, store_history=True)
        error: BaseException | None = result.error_in_exec or result.error_before_exec
        assert error is not None
        return error


@pytest.fixture
def cells(notebook: Notebook, shell: InteractiveShell) -> CellRuns:
    return CellRuns(shell)


# ---- refs and values


def test_cells_form_a_graph_by_the_names_they_read(cells: CellRuns) -> None:
    cells("%%remote a\n20")
    cells("%%remote b\na + 1")
    assert isinstance(cells.names["b"], ObjectRef)
    assert ipyremote.get(cells("%%remote\na + b + 1")) == 42


def test_outputs_become_refs_of_what_the_cell_bound(cells: CellRuns) -> None:
    ref = cells("%%remote total -o x,y -o z\nx, y = 1, 2\nz = x + y\nz * 2")
    assert ref is cells.names["total"]
    assert repr(cells.names["y"]) == "ObjectRef(%%remote total#1.y)"
    assert ipyremote.get([ref, *(cells.names[name] for name in "xyz")]) == [6, 1, 2, 3]


def test_an_output_that_the_cell_does_not_bind_is_an_error(cells: CellRuns) -> None:
    cells("%%remote -o missing\n1")
    with pytest.raises(NameError, match="did not bind 'missing'"):
        ipyremote.get(cells.names["missing"])


def test_a_blocking_cell_behaves_like_a_local_one(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cells("%%remote value -b -o x\nx = 5\nx + 1") == 6
    assert (cells.names["value"], cells.names["x"], cells.names["_"]) == (6, 5, 6)
    assert capsys.readouterr().out == "Out[1]: 6\n"
    assert cells("%%remote -b\n7;") is None
    assert cells("%%remote -b -q\n7") is None
    assert cells("%%remote -b\nx = 1") is None


def test_an_error_of_a_blocking_cell_is_raised_in_place(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    error = cells.error("%%remote -b\ndef f(x):\n    return 1 / x\n\nf(0)")
    assert isinstance(error, ZeroDivisionError)
    shown = capsys.readouterr().out
    assert "ZeroDivisionError" in shown.splitlines()[1]
    assert "In [1], line 5, in <module>" in shown
    assert "return 1 / x" in shown
    assert "ipyremote/" not in shown
    assert "run_cell_magic" not in shown
    cells("%tb")
    assert "In [1], line 3, in f" in capsys.readouterr().out


def test_an_interrupt_cancels_a_blocking_cell(
    cells: CellRuns, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    source = (
        f"%%remote -b\nimport time\nopen({str(began)!r}, 'w').close()\n"
        f"try:\n    time.sleep(60)\nfinally:\n    open({str(ended)!r}, 'w').close()"
    )
    _interrupt_when(began.exists)
    assert isinstance(cells.error(source), CellInterruptedError)
    assert "KeyboardInterrupt: %%remote#" in capsys.readouterr().out
    until(ended.exists, "the cell was interrupted in its worker")
    assert cells("%%remote -b\n1") == 1


def _interrupt_when(condition: Callable[[], object]) -> None:
    """Press the stop button once the condition holds and the main thread waits for a value."""

    def interrupt() -> None:
        until(lambda: condition() and _main_waits(), "the work has begun")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


def _main_waits() -> bool:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "wait_until":
            return True
        frame = frame.f_back
    return False


def test_an_interrupted_get_says_that_tasks_go_on_and_how_to_cancel_them(
    cells: CellRuns, frontend: FakeFrontend, tmp_path: Any
) -> None:
    began = tmp_path / "began"
    cells(f"%%remote slow\nimport time\nopen({str(began)!r}, 'w').close()\ntime.sleep(60)")
    cells("%%remote slow_too\nimport time\ntime.sleep(60)")
    _interrupt_when(began.exists)
    assert isinstance(cells.error("import ipyremote\nipyremote.get(slow)"), KeyboardInterrupt)
    assert "get() was interrupted; the task goes on" in frontend.text("stderr")
    _interrupt_when(lambda: True)
    assert isinstance(cells.error("ipyremote.wait([slow, slow_too])"), KeyboardInterrupt)
    assert "wait() was interrupted; the 2 tasks go on" in frontend.text("stderr")
    cells("%remote_cancel [slow, slow_too]")
    with pytest.raises(TaskCancelledError):
        ipyremote.get(cells.names["slow"], timeout=20)


# ---- what is sent


def test_flag_i_restricts_the_names_and_no_capture_sends_none(cells: CellRuns) -> None:
    cells("import math\na, b = 1, 2")
    assert cells("%%remote -b -i a\nmath.floor(a + 0.5)") == 1
    assert isinstance(cells.error("%%remote -b -i a\na + b"), NameError)
    assert isinstance(cells.error("%%remote -b --no-capture\na"), NameError)
    assert cells("%%remote -b --no-capture -i a\nglobals()['a']") == 1


def test_a_large_value_is_stored_once_and_again_only_when_it_changed(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("import numpy as np\nbig = np.ones(2_000_000)\nsmall = 1")
    assert cells("%%remote -b\nfloat(big.sum()) + small") == 2_000_001.0
    assert capsys.readouterr().out.splitlines()[0] == (
        "ipyremote: shipped big (15.3 MiB); used again as long as it does not change."
    )
    assert cells("%%remote -b\nfloat(big[0])") == 1.0
    assert "shipped" not in capsys.readouterr().out
    cells("big[0] = 7")
    assert cells("%%remote -b\nfloat(big[0])") == 7.0
    assert "shipped big" in capsys.readouterr().out


def test_a_stored_value_is_dropped_with_the_notebooks_own_value(cells: CellRuns, notebook: Notebook) -> None:
    cells("big = bytes(20_000_000)")
    assert cells("%%remote -b -q\nlen(big)") is None
    stored_inputs = notebook.magics.submitter.stored_inputs
    assert len(stored_inputs._stored) == 1
    cells("del big")
    gc.collect()
    cells("%remote_gc --free")
    assert len(stored_inputs._stored) == 0


def test_the_limit_of_large_values_can_be_configured(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%config IPyRemote.large_value = 1000")
    cells("text = list(range(10_000))")
    assert cells("%%remote -b\nlen(text)") == 10_000
    assert "shipped text" in capsys.readouterr().out


#: How often each kind of object was pickled: the notebook's process notes that in its own copy.
_COUNTED = """
calls = []
class Counted:
    def __init__(self, content):
        self.content = content
    def __reduce__(self):
        calls.append(1)
        return Counted, (self.content,)
"""


@pytest.mark.parametrize("flags", ["-b", "-b -s counting"])
def test_a_captured_value_is_pickled_once(cells: CellRuns, flags: str) -> None:
    cells(_COUNTED + "counted = Counted(5)")
    assert cells(f"%%remote {flags}\ncounted.content") == 5
    assert len(cells.names["calls"]) == 1


@pytest.mark.parametrize("large", ["text", "[text, 'y' * 2000]"])
def test_a_large_captured_value_is_pickled_once_and_compared_by_one_pickle_for_each_later_cell(
    cells: CellRuns, capsys: pytest.CaptureFixture[str], large: str
) -> None:
    cells("%config IPyRemote.large_value = 1000")
    cells("from tests.notebook.counted import CountedText\ntext = CountedText('x' * 2000)")
    cells(f"large = {large}")
    for changed, shipped, pickled in (("", True, 1), ("", False, 2), ("text.text = 'z' * 2000", True, 3)):
        cells(changed)
        assert cells("%%remote -b\nfirst = large if hasattr(large, 'text') else large[0]\nfirst.text") == (
            cells.names["text"].text
        )
        assert ("shipped large" in capsys.readouterr().out) is shipped
        assert cells.names["text"].pickled == pickled


def test_a_value_that_turns_out_to_be_large_when_it_is_pickled_is_stored(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%config IPyRemote.large_value = 1000")
    cells("from tests.notebook.counted import HiddenText\nlong, short = HiddenText('x' * 2000), [1]")
    for shipped, pickled in ((True, 2), (False, 3)):
        assert cells("%%remote -b\nshort.append(2)\n(len(long.text), short)") == (2000, [1, 2])
        assert ("shipped long (" in capsys.readouterr().out) is shipped
        assert cells.names["long"].pickled == pickled


def test_many_small_values_are_sent_together_even_if_they_are_large_in_all(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%config IPyRemote.large_value = 1000")
    cells("one, two = 'x' * 600, 'y' * 600")
    assert cells("%%remote -b\nlen(one + two)") == 1200
    assert "shipped" not in capsys.readouterr().out


def test_values_that_share_a_part_share_it_in_the_worker(cells: CellRuns) -> None:
    cells(
        "shared = []\none, two = {'part': shared}, [shared]\ndef grown():\n    shared.append(1)\n    return shared"
    )
    assert cells("%%remote -b\none['part'].append(1)\n(two, one['part'] is two[0])") == ([[1]], True)
    assert cells("%%remote -b\n(grown() is one['part'], two)") == (True, [[1]])


def test_refs_inside_of_captured_values_arrive_as_refs_and_keep_their_objects(cells: CellRuns) -> None:
    cells("import ipyremote\nnested = {'ref': ipyremote.put([1, 2])}")
    ref = cells("%%remote -o gate\nimport ipyremote\ngate = nested['ref']\nsum(ipyremote.get(nested['ref']))")
    cells("del nested")
    gc.collect()
    assert ipyremote.get(ref) == 3
    assert ipyremote.get(ipyremote.get(cells.names["gate"])) == [1, 2]


def test_large_values_with_refs_inside_keep_the_objects_of_the_refs(cells: CellRuns) -> None:
    cells("%config IPyRemote.large_value = 1000")
    cells("import ipyremote\nnested = ['x' * 2000, ipyremote.put([1, 2])]")
    for _ in range(2):
        assert cells("%%remote -b\nimport ipyremote\nipyremote.get(nested[1])") == [1, 2]


def test_an_input_that_cannot_be_sent_is_refused_by_name(cells: CellRuns) -> None:
    cells("import threading\nfine, held = [1], {'lock': threading.Lock()}")
    for flags in ("", "-s refused"):
        error = cells.error(f"%%remote {flags}\nfine, held")
        assert str(error) == (
            "%%remote cannot send 'held' to a worker. Could not serialize held['lock'] (a _thread.lock): "
            "cannot pickle '_thread.lock' object"
        )


# ---- what works in a cell


def test_commands_and_magics_work(
    cells: CellRuns, notebook: Notebook, frontend: FakeFrontend, tmp_path: Any
) -> None:
    cells("word = 'hello'\ndef double(x):\n    return 2 * x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.txt").write_text("1")
    here = str(folder)
    value = cells(
        f"%%remote -b\n!echo {{word}} $word\nnames = !ls {here}\nx = %time double(21)\n%cd {here}\n"
        "import os\n(list(names), x, os.getcwd())"
    )
    assert value == (["one.txt"], 42, here)
    until(lambda: "hello hello" in frontend.text(), "the command's output")
    assert "Wall time" in frontend.text()
    assert cells("%%remote -b\nimport os\nos.getcwd()") != here


def test_timeit_and_cell_magics_work(cells: CellRuns, frontend: FakeFrontend, tmp_path: Any) -> None:
    cells("%%remote -b\n%timeit -n 10 -r 2 1 + 1")
    until(lambda: "per loop (mean ± std. dev. of 2 runs, 10 loops each)" in frontend.text(), "its line")
    cells("k = 3")
    assert cells("%%remote -b\n%%time\ny = k + 1\ny") == 4
    cells(f"%%remote -b\n%%writefile {tmp_path}/note.txt\nhello\n")
    assert (tmp_path / "note.txt").read_text() == "hello\n"
    cells("%%remote -b\n%%bash\necho from bash\n")
    until(lambda: "from bash" in frontend.text(), "the script's output")


def test_ipythons_own_magics_and_those_of_the_user_work(cells: CellRuns, frontend: FakeFrontend) -> None:
    cells("k = 3")
    cells(
        "%%remote -s magical -b\nfrom IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef shout(line):\n    return line.upper()"
    )
    assert cells("%%remote -s magical -b\n%shout hello $k") == "HELLO 3"
    error = cells.error("%%remote -b\n%shout hello")
    assert "Line magic function `%shout` not found" in str(error)
    assert cells("%%remote -b\n%%capture caught\nprint(k)") is None
    cells("%%remote -b\n%%html\n<b>bold</b>")
    until(lambda: "<b>bold</b>" in str(frontend.contents), "the HTML of the magic")


def test_an_error_under_a_magic_is_the_cells_and_has_its_line(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    error = cells.error("%%remote -b\n%%time\nx = 0\n1 / x")
    assert isinstance(error, ZeroDivisionError)
    assert "In [1], line 4, in <module>" in capsys.readouterr().out
    assert isinstance(cells.error("%%remote -b\n%%capture\n1 / 0"), ZeroDivisionError)


def test_top_level_await_works(cells: CellRuns) -> None:
    assert cells("%%remote -b\nimport asyncio\nawait asyncio.sleep(0, 5)") == 5


def test_input_in_a_remote_cell_is_a_clear_error(cells: CellRuns) -> None:
    error = cells.error("%%remote -b\ninput('name? ')")
    assert isinstance(error, RuntimeError)
    assert "no keyboard" in str(error)


def test_a_cell_that_runs_too_long_is_ended(cells: CellRuns) -> None:
    error = cells.error("%%remote -b --timeout 0.2\nimport time\ntime.sleep(30)")
    assert isinstance(error, TimeoutError)
    assert "line 3, in <module>" in str(error)
    assert cells("%%remote -b --timeout 5\n1") == 1


def test_a_cell_is_run_again_as_often_as_its_retries_flag_says(cells: CellRuns, tmp_path: Any) -> None:
    marks = str(tmp_path / "marks")
    source = (
        f"with open({marks!r}, 'a') as file:\n    file.write('x')\n"
        f"if len(open({marks!r}).read()) < 3:\n    raise OSError('not yet')\n'done'"
    )
    assert cells(f"%%remote -b --retries 2\n{source}") == "done"
    os.remove(marks)
    assert isinstance(cells.error(f"%%remote -b\n{source}"), OSError)


def test_resources_and_the_name_of_a_cell_are_those_of_its_task(cells: CellRuns) -> None:
    ref = cells('%%remote --num-cpus 1.5 --name "long run"\n1')
    assert repr(ref) == "ObjectRef(%%remote long run#1)"
    assert ipyremote.get(ref) == 1


def test_the_line_form_takes_an_expression_and_local_names(cells: CellRuns) -> None:
    cells("k = 4\nref = %remote k * 10")
    assert ipyremote.get(cells.names["ref"]) == 40
    cells("def f(n):\n    return get_ipython().run_line_magic('remote', 'n + k')\nref = f(5)")
    assert ipyremote.get(cells.names["ref"]) == 9


# ---- sessions


def test_a_session_keeps_variables_imports_and_definitions(cells: CellRuns) -> None:
    cells("%%remote -s lab -b\nimport math\ncount = 1\ndef area(r):\n    return math.pi * r * r * count")
    cells("%%remote -s lab -b\ncount += 1")
    assert cells("%%remote -s lab -b\nround(area(1), 2)") == 6.28
    assert "count" not in cells.names


def test_a_session_has_its_own_names_and_copies_of_the_notebooks_names(cells: CellRuns) -> None:
    cells("x, items = 1, []\ndef f():\n    return x")
    assert cells("%%remote -s mine -b\nitems.append(x)\nx = 10\nlen(items)") == 1
    assert cells("%%remote -s mine -b\nitems.append(x)\n(items, x)") == ([1, 10], 10)
    assert cells("%%remote -s mine -b\nf()") == 10
    cells("x, items = 2, ['new']")
    assert cells("%%remote -s mine -b\n(items, x)") == (["new"], 10)
    assert cells("%%remote -s mine -b -i x\nx") == 2


def test_functions_of_the_notebook_are_fresh_in_a_session(cells: CellRuns) -> None:
    cells("def f():\n    return g()\ndef g():\n    return 1")
    assert cells("%%remote -s fresh -b\nf()") == 1
    cells("def g():\n    return 2")
    assert cells("%%remote -s fresh -b\nf()") == 2


def test_sessions_are_listed_with_their_variables_and_can_be_ended(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%%remote -s one -b\nimport numpy as np\ntable = np.zeros(1000)\nname = 'x'")
    capsys.readouterr()
    cells("%remote_sessions")
    shown = capsys.readouterr().out
    assert "one: idle, 2 variables" in shown
    assert "table  ndarray, 7.8 KiB" in shown
    cells("%remote_sessions --end one")
    capsys.readouterr()
    cells("%remote_sessions")
    assert capsys.readouterr().out == "No sessions. %%remote -s NAME starts one.\n"


def test_a_session_whose_process_died_starts_again_without_variables(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%%remote -s frail -b\nx = 1")
    error = cells.error("%%remote -s frail -b\nimport os\nos._exit(3)")
    assert isinstance(error, ActorDiedError)
    capsys.readouterr()
    assert isinstance(cells.error("%%remote -s frail -b --no-capture\nx"), NameError)
    told = (
        "ipyremote: the process of the session frail has died; the session starts again, without variables.\n"
    )
    assert told in capsys.readouterr().out
    cells("%%remote -s frail -b\nx = 2")
    assert capsys.readouterr().out == ""


# ---- the other magics


def test_remote_why_remote_cancel_and_remote_log_take_a_ref(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%%remote talk\nprint('one')\nprint('two')\nimport time\ntime.sleep(60)")
    cells("%%remote follows\ntalk")
    capsys.readouterr()
    cells("%remote_why follows")
    assert "talk" in capsys.readouterr().out
    until(lambda: _log_of(cells, capsys) == "one\ntwo\n", "what it printed")
    cells("%remote_cancel --all")
    with pytest.raises(TaskCancelledError):
        ipyremote.get(cells.names["follows"], timeout=20)
    assert "names no ref" not in capsys.readouterr().out


def _log_of(cells: CellRuns, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    cells("%remote_log talk")
    return capsys.readouterr().out


def test_remote_why_tells_why_a_placement_group_waits(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("from ipyremote.util import placement_group, remove_placement_group")
    cells("apart = placement_group([{'CPU': 1}, {'CPU': 1}], strategy='STRICT_SPREAD')")
    cells("pair = placement_group([{'CPU': 1}, {'CPU': 1}], name='pair')")
    cells("pair.wait(20)")
    capsys.readouterr()
    cells("%remote_why pair")
    cells("%remote_why apart")
    cells("ready = apart.ready()\n%remote_why ready")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pair is reserved."
    why = "it needs 2 machines, one for each bundle (STRICT_SPREAD; the session has one)."
    assert lines[1].endswith(f" can never be reserved in this session: {why}")
    assert lines[2].startswith("ready#")
    assert lines[2].endswith(lines[1])
    cells("remove_placement_group(pair); remove_placement_group(apart)")
    cells("%remote_why pair")
    assert capsys.readouterr().out == "pair was removed.\n"
    cells("del ready")


def test_cancel_without_a_ref_ends_the_cells_of_the_notebook(cells: CellRuns) -> None:
    ref = cells("%%remote\nimport time\ntime.sleep(60)")
    cells("%remote_cancel")
    with pytest.raises(TaskCancelledError):
        ipyremote.get(ref, timeout=20)


def test_remote_gc_lists_and_frees_refs_that_outputs_keep(
    cells: CellRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    cells("%%remote\n1")
    cells("%%remote\n2")
    capsys.readouterr()
    cells("%remote_gc")
    shown = capsys.readouterr().out
    assert "Out[1]: ObjectRef(%%remote#" in shown
    assert "_: ObjectRef(%%remote#" in shown
    cells("%remote_gc --free")
    cells("%remote_gc")
    assert capsys.readouterr().out.endswith("No output keeps a ref or an actor alive.\n")


def test_rerunning_a_cell_cancels_its_earlier_tasks_if_asked_for(cells: CellRuns, notebook: Notebook) -> None:
    notebook.config.cancel_on_rerun = True
    source = "%%remote slow\nimport time\ntime.sleep(60)"
    first = _run_as(cells, source, "cell-1")
    other = _run_as(cells, source, "cell-2")
    again = _run_as(cells, source, "cell-1")
    with pytest.raises(TaskCancelledError):
        ipyremote.get(first, timeout=20)
    assert ipyremote.wait([other, again], timeout=0)[0] == []
    ipyremote.cancel(other)
    ipyremote.cancel(again)


def _run_as(cells: CellRuns, source: str, cell_id: str) -> ObjectRef[Any]:
    result = cells.shell.run_cell(source, store_history=True, cell_id=cell_id)
    result.raise_error()
    found: ObjectRef[Any] = result.result
    return found


# ---- unretrieved failures


def test_an_unretrieved_failure_is_told_once_when_its_last_ref_dies(
    cells: CellRuns, frontend: FakeFrontend, notebook: Notebook
) -> None:
    frontend.request = {"cell": "asking"}
    cells("import ipyremote\n@ipyremote.remote\ndef bad():\n    return 1 / 0\nref = bad.remote()")
    ref = cells.names["ref"]
    ipyremote.wait([ref], timeout=20)
    frontend.request = {"cell": "later"}
    del ref
    cells("del ref")
    until(lambda: "nobody has asked" in frontend.text("stderr"), "the notice")
    assert frontend.text("stderr").count("bad#1 failed") == 1
    assert "ZeroDivisionError: division by zero (In [1], line 4)" in frontend.text("stderr")
    assert {parent["cell"] for name, _, parent in frontend.streams if name == "stderr"} == {"asking"}


def test_an_unretrieved_failure_is_told_when_its_cell_has_ended(
    cells: CellRuns, frontend: FakeFrontend
) -> None:
    cells("import ipyremote\n@ipyremote.remote\ndef worse(i):\n    raise ValueError(i)")
    cells("refs = [worse.remote(i) for i in range(6)]")
    until(lambda: "failed as well" in frontend.text("stderr"), "both notices")
    shown = frontend.text("stderr")
    assert shown.count("nobody has asked") == 1
    assert "and 2 more failed as well" in shown


def test_a_retrieved_failure_is_not_told_again(cells: CellRuns, frontend: FakeFrontend) -> None:
    cells("import ipyremote\n@ipyremote.remote\ndef known(i):\n    raise ValueError(i)")
    error = cells.error("refs = [known.remote(i) for i in range(4)]\nipyremote.get(refs)")
    assert isinstance(error, TaskError)
    cells("del refs")
    cells("%%remote ok\n1")
    ipyremote.get(cells.names["ok"])
    shown = frontend.text("stderr")
    # Tasks that fail after `get` has raised the first failure count as retrieved, too.
    assert "known#1 failed" not in shown


def test_a_failure_after_get_has_raised_another_one_counts_as_retrieved(
    cells: CellRuns, frontend: FakeFrontend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unretrieved, "_PATIENCE", 0.0)
    cells(
        "import ipyremote, os, time, pathlib\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "@ipyremote.remote\n"
        "def late(i):\n"
        "    while i and not (place / 'gate').exists():\n"
        "        time.sleep(0.01)\n"
        "    (place / str(i)).touch()\n"
        "    raise ValueError(i)"
    )
    error: Any = cells.error("ipyremote.get([late.remote(i) for i in range(4)])")
    assert str(error.cause) == "0"
    (tmp_path / "gate").touch()
    until(lambda: all((tmp_path / str(i)).exists() for i in range(4)), "all have failed")
    # News of failures arrive in the order of the failures.
    cells("@ipyremote.remote\ndef last():\n    raise ValueError\nlast.remote();")
    until(lambda: "last#1 failed" in frontend.text("stderr"), "the notice of the last one")
    assert "late" not in frontend.text("stderr")


# ---- several failures


@pytest.mark.parametrize("again", ["ipyremote.get(refs)", "%tb"])
def test_the_failures_of_a_list_are_shown_without_frames_of_ours(
    cells: CellRuns, capsys: pytest.CaptureFixture[str], again: str
) -> None:
    cells("import ipyremote\n@ipyremote.remote\ndef odd(x):\n    raise ValueError(x)")
    cells("refs = [odd.remote(x) for x in range(6)]\nready = ipyremote.wait(refs, num_returns=6, timeout=20)")
    assert isinstance(cells.error("ipyremote.get(refs)"), ExceptionGroup)
    capsys.readouterr()
    cells.shell.run_cell(again)
    told = capsys.readouterr()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", told.out + told.err)
    assert shown.count("in odd\n") == 4
    assert "6 tasks failed. These are the first 4" in shown
    assert re.search(r"In \[[34]\], line 1, in <module>", shown)
    assert ".py" not in shown
    assert isinstance(sys.last_value, TaskError)
    assert sys.last_value.label.startswith("odd#")


# ---- completion and configuration


def complete(notebook: Notebook, line: str) -> set[str]:
    context = SimpleNamespace(
        full_text=f"{line}\nx = 1",
        cursor_line=0,
        cursor_position=len(line),
        token=line.split(" ")[-1].rpartition(",")[2].lstrip("-"),
    )
    return {found.text for found in notebook._matcher(context)["completions"]}


def test_flags_names_and_sessions_are_completed(cells: CellRuns, notebook: Notebook) -> None:
    cells("alpha = beta = 1")
    assert {"cpus", "gpus"} <= {text.removeprefix("num-") for text in complete(notebook, "%%remote --num-")}
    assert "alpha" in complete(notebook, "%%remote x -i al")
    assert complete(notebook, "%%remote -i alpha,be") == {"beta"}
    cells("%%remote -s lab\n1")
    assert complete(notebook, "%%remote -s l") == {"lab"}
    assert complete(notebook, "print(al") == set()
    cells("numbers = [1, 2]\none = %remote 1\nseveral = [one]\nnested = {'a': [one]}")
    assert complete(notebook, "%remote_cancel ") == {"--all", "one", "several", "nested"}


def test_ipythons_own_completer_offers_flags(cells: CellRuns, shell: InteractiveShell) -> None:
    _, found = shell.complete("--ti", "%%remote --ti", 13)
    assert "--timeout" in found


def test_config_lists_every_setting(cells: CellRuns, capsys: pytest.CaptureFixture[str]) -> None:
    cells("%config IPyRemote")
    shown = capsys.readouterr().out
    for name in ("num_workers", "keep_alive", "cancel_on_rerun", "large_value", "static", "widgets"):
        assert f"IPyRemote.{name}" in shown


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("keep_alive = 'ten'", "keep_alive is a text like"),
        ("keep_alive = -1", "keep_alive is from 0 seconds up"),
        ("num_workers = -1", "should not be less than 0"),
        ("object_store_memory = 0", "should not be less than 1"),
        ("large_value = -5", "should not be less than 0"),
    ],
)
def test_an_impossible_setting_is_refused(
    cells: CellRuns, notebook: Notebook, caplog: pytest.LogCaptureFixture, setting: str, reason: str
) -> None:
    name = setting.partition(" ")[0]
    before = getattr(notebook.config, name)
    cells(f"%config IPyRemote.{setting}")
    assert reason in caplog.text
    assert getattr(notebook.config, name) == before


def test_a_setting_of_the_cluster_does_not_change_a_cluster_that_has_work(
    cells: CellRuns, frontend: FakeFrontend
) -> None:
    assert cells("%%remote -b\n1") == 1
    cells("%config IPyRemote.num_workers = 3")
    assert "num_workers will apply to the next cluster. %remote_shutdown ends" in frontend.text("stderr")
    assert cells("%%remote -b\n2") == 2


def test_a_failure_without_a_ref_is_told_under_its_cell(cells: CellRuns, frontend: FakeFrontend) -> None:
    cells("import ipyremote\n@ipyremote.remote\ndef lost():\n    raise ValueError('nobody')")
    frontend.request = {"cell": "asking"}
    cells("lost.remote()\nNone")
    frontend.request = {"cell": "later"}
    until(lambda: "lost#1 failed" in frontend.text("stderr"), "the notice")
    assert "ValueError: nobody" in frontend.text("stderr")
    assert {parent["cell"] for name, _, parent in frontend.streams if name == "stderr"} == {"asking"}
