"""The magics in a shell of this process: their submissions on the fake backend, their results on the inline one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from ipyremote.backend import current
from ipyremote.backends.inline.backend import InlineBackend
from ipyremote.exceptions import ClusterLostError, TaskError
from ipyremote.notebook.extension import Notebook
from ipyremote.notebook.magics import CellSyntaxError, RemoteMagics
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.shell import REFUSED_MAGICS
from tests.notebook.fakes import FakeBackend, FakeFrontend


@pytest.fixture
def inline(shell: InteractiveShell, frontend: FakeFrontend) -> Iterator[InteractiveShell]:
    """A shell with the inline backend, whose cells run in this process."""
    backend = InlineBackend()
    current.install(backend)
    notebook = Notebook(shell, frontend)
    notebook.load()
    try:
        yield shell
    finally:
        notebook.unload()
        backend.shutdown()
        current.remove(backend)


def remote(shell: InteractiveShell, cell: str, line: str = "") -> Any:
    return shell.run_cell_magic("remote", line, cell)


def value_of(shell: InteractiveShell, cell: str) -> Any:
    ref = remote(shell, cell)
    return current.backend().get([ref._id])[0]


# ---- what is sent


def test_a_cell_is_submitted_with_the_names_that_it_reads(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend
) -> None:
    shell.run_cell("import math as m\na, b, c = 1, [2], object()")
    ref = remote(shell, "x = a + m.pi\nb[0] + x\n")
    ((_, label, exported, args, options),) = backend.submitted
    cell, inputs, *refs = args
    home, values = inputs.value
    assert repr(ref) == "ObjectRef(%%remote#1)"
    assert (label, exported.name, options.max_retries) == ("%%remote#1", "%%remote", 0)
    assert list(values.items()) == [("a", 1), ("b", [2])]
    assert refs == [()]
    assert cell.modules == (("m", "math"),)
    assert cell.source == "\nx = a + m.pi\nb[0] + x\n"
    assert home.__globals__ is shell.user_ns


def test_refs_are_top_level_dependencies(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend
) -> None:
    ref = shell.user_ns["part"] = backend.new_ref()
    remote(shell, "part + 1")
    assert backend.submitted[0][3][2:] == (("part",), ref)


def test_the_name_of_a_cell_is_bound_to_its_ref_and_part_of_its_label(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend
) -> None:
    ref = remote(shell, "1", "total")
    assert shell.user_ns["total"] is ref
    assert repr(ref) == "ObjectRef(%%remote total#1)"


@pytest.mark.parametrize(
    "line",
    [
        *("1x", "for", "a.b", "a b", "--fast", "-i 1x", "-i none", "-o for", "-s a.b"),
        *("--num-cpus x", "--num-cpus -1", "--resources {", "--resources '{\"CPU\": 1}'"),
        *("--timeout 0", "--retries x", "-s a --retries 1"),
    ],
)
def test_a_bad_name_is_a_usage_error_and_the_cell_does_not_run(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, line: str
) -> None:
    with pytest.raises(UsageError):
        remote(shell, "1", line)
    assert backend.submitted == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--fast", r"%%remote: unrecognized arguments: --fast\. `%%remote\?` explains"),
        ("-i", r"%%remote: argument -i/--input: expected one argument\."),
        ("-i data, more -b", "write the names behind -i without spaces between them: -i a,b"),
        ("-o x, y", "write the names behind -o without spaces between them: -o a,b"),
        ("--num-cpus -1", r"%%remote: --num-cpus is zero or more, not -1\.0"),
        ("--num-cpus 0.00001", "--num-cpus 1e-05 is finer than"),
        ("--retries -2", "%%remote: --retries is -1 or more"),
        ('--resources {"CPU":2}', "cannot have 'CPU': use --num-cpus 2 instead"),
    ],
)
def test_an_error_about_a_line_names_its_flags(
    shell: InteractiveShell, loaded: Notebook, line: str, sentence: str
) -> None:
    shell.user_ns["data"] = shell.user_ns["more"] = 1
    with pytest.raises(UsageError, match=sentence):
        remote(shell, "1", line)


def test_flags_before_an_expression_are_explained(shell: InteractiveShell, loaded: Notebook) -> None:
    shell.user_ns["x"] = 1
    with pytest.raises(UsageError, match="%remote takes an expression and no flags"):
        shell.run_line_magic("remote", "-b x")


def test_a_syntax_error_is_raised_at_its_line(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell("%%remote\nx = 1\n\ny = = 2\n")
    assert isinstance(result.error_in_exec, CellSyntaxError)
    assert result.error_in_exec.error.lineno == 4
    shown = capsys.readouterr().out
    assert "line 4" in shown
    assert "y = = 2" in shown
    assert "magics.py" not in shown
    assert backend.submitted == []


@pytest.mark.parametrize("cell", ["%history", "y = 2\n%debug f()", "get_ipython().kernel", "%%remote\n1"])
def test_code_that_needs_the_notebooks_own_ipython_is_refused_with_its_line(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, cell: str
) -> None:
    with pytest.raises(UsageError, match=r"line \d uses .+, which needs the notebook's own IPython"):
        remote(shell, cell)
    assert backend.submitted == []


def test_a_value_that_cannot_be_sent_is_named_before_anything_runs(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend
) -> None:
    shell.user_ns.update(fine=1, conn={"lock": threading.Lock()})
    with pytest.raises(TypeError, match=r"cannot send 'conn' to a worker.*conn\['lock'\].*lock"):
        remote(shell, "fine, conn")
    assert backend.submitted == []


def test_the_error_about_a_value_that_cannot_be_sent_is_one_line(
    shell: InteractiveShell, loaded: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns.update(conn={"lock": threading.Lock()})
    shell.run_cell("%%remote\nconn")
    shown = capsys.readouterr().out
    assert "TypeError: %%remote cannot send 'conn' to a worker" in shown
    assert "magics.py" not in shown


def test_a_semicolon_hides_the_ref_but_the_name_is_bound(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend
) -> None:
    result = shell.run_cell("%%remote total\n1 + 1;\n")
    assert result.result is None
    assert frontend.displays == []
    assert isinstance(shell.user_ns["total"], ObjectRef)


def test_the_ref_of_a_cell_is_displayed(
    shell: InteractiveShell, loaded: Notebook, frontend: FakeFrontend
) -> None:
    result = shell.run_cell("%%remote\n1 + 1\n")
    assert isinstance(result.result, ObjectRef)
    ((_, bundle),) = frontend.displays
    assert bundle["text/plain"] == "ObjectRef(%%remote#1)"


def test_help_names_the_argument(shell: InteractiveShell, loaded: Notebook) -> None:
    text = shell.find_cell_magic("remote").__doc__
    assert text.startswith("::\n\n  %remote [-i a,b] [-o x,y] [-b] [-s SESSION] [--num-cpus F]")
    assert "bind the cell's ref to this name" in text
    assert "%%remote -s lab" in text


def test_remote_status_shows_free_resources_and_why_refs_wait(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded.screen.show_ref(backend.new_ref())
    backend.available = {"CPU": 1.0}
    flushed = threading.Event()
    loaded.updater.call(flushed.set)
    assert flushed.wait(5)
    shell.run_line_magic("remote_status", "")
    assert capsys.readouterr().out == (
        "Cluster: CPU 1 of 4 free, object_store_memory 0 bytes of 3.0 GiB free\n"
        "square#1: it waits for a free CPU\n"
    )


def test_remote_status_leaves_out_refs_that_have_ended(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = [backend.new_ref(), backend.new_ref()]
    loaded.screen.show_board(refs)
    backend.end(refs[0], "done", 1)
    flushed = threading.Event()
    loaded.updater.call(flushed.set)
    assert flushed.wait(5)
    shell.run_line_magic("remote_status", "")
    assert capsys.readouterr().out.splitlines()[1:] == ["square#2: it waits for a free CPU"]


def test_remote_status_of_a_lost_cluster_gives_the_reason(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost() -> None:
        raise ClusterLostError("The cluster is gone.")

    backend.resources = lost  # type: ignore[assignment,method-assign]
    shell.run_line_magic("remote_status", "")
    assert capsys.readouterr().out == "The cluster is gone.\n"


def test_remote_status_without_a_cluster_says_how_to_start_one(
    shell: InteractiveShell, loaded: Notebook, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    current.remove(backend)
    shell.run_line_magic("remote_status", "")
    assert "No cluster is running" in capsys.readouterr().out


def test_every_magic_of_ours_is_refused_in_a_remote_cell() -> None:
    ours = {name for names in RemoteMagics.magics.values() for name in names}
    assert {"remote", "remote_status"} <= ours
    assert ours <= REFUSED_MAGICS


# ---- what runs


@pytest.mark.parametrize(
    ("setup", "cell", "value"),
    [
        ("", "1 + 1", 2),
        ("", "x = 1", None),
        ("", "\n", None),
        ("a = 2", "a * 21", 42),
        ("total = 1", "total += 1\ntotal", 2),
        ("", "def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)\nfib(10)", 55),
        ("", "class A:\n    def m(self): return A\nA().m().__name__", "A"),
        ("def f(): return x\nx = 1", "f()", 1),
        ("def f(): return x\nx = 1", "x = 5\nf()", 5),
        ("def f(): return g()\ndef g(): return 7", "f()", 7),
        ("import math", "math.floor(2.5)", 2),
        ("import os.path as p", "p.basename('/a/b')", "b"),
        ("", "import asyncio\nawait asyncio.sleep(0)\nx = await asyncio.sleep(0, 3)\nx", 3),
        ("", "[x async for x in agen()] if False else 1", 1),
        ("k = 3", "[i * k for i in range(3)]", [0, 3, 6]),
        ("", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\nP(3).x", 3),
        ("", "class P: pass\nimport pickle\ntype(pickle.loads(pickle.dumps(P()))).__name__", "P"),
        ("", "__name__", "__main__"),
    ],
)
def test_cells_run_as_they_would_in_the_notebook(
    inline: InteractiveShell, setup: str, cell: str, value: Any
) -> None:
    inline.run_cell(setup)
    assert value_of(inline, cell) == value


def test_refs_arrive_as_values(inline: InteractiveShell) -> None:
    remote(inline, "[1, 2, 3]", "parts")
    remote(inline, "sum(parts)", "total")
    assert value_of(inline, "total * 2") == 12


def test_the_notebook_keeps_its_own_values_and_its_main(inline: InteractiveShell) -> None:
    import sys

    main = sys.modules["__main__"]
    inline.run_cell("a = [1]")
    remote(inline, "a.append(2)\nb = 3")
    assert inline.user_ns["a"] == [1]
    assert "b" not in inline.user_ns
    assert sys.modules["__main__"] is main


def test_a_function_of_the_cell_can_be_returned_and_called(inline: InteractiveShell) -> None:
    inline.run_cell("k = 3")
    fn = value_of(inline, "def times(x): return x * k\ntimes")
    assert fn(5) == 15


def test_the_cell_is_named_by_its_own_number(inline: InteractiveShell) -> None:
    inline.run_cell("1", store_history=True)
    result = inline.run_cell("%%remote\n1 / 0", store_history=True)
    with pytest.raises(TaskError) as caught:
        current.backend().get([result.result._id])
    assert "In [2], line 2, in <module>" in str(caught.value)


def test_a_traceback_through_a_captured_function_shows_its_line(inline: InteractiveShell) -> None:
    inline.run_cell("def inner(x):\n    return 1 / x", store_history=True)
    with pytest.raises(TaskError) as caught:
        value_of(inline, "inner(0)")
    assert "In [1], line 2, in inner\n    return 1 / x" in str(caught.value)


def test_a_traceback_shows_the_lines_of_the_cell(inline: InteractiveShell) -> None:
    with pytest.raises(TaskError) as caught:
        value_of(inline, "def f(x):\n    return 1 / x\n\nf(0)\n")
    text = str(caught.value)
    assert "In [" in text
    assert "line 3, in f" in text
    assert "return 1 / x" in text
    assert "line 5, in <module>" in text
    assert "ipyremote/worker" not in text
    assert "ZeroDivisionError: division by zero" in text
