"""IPython in a remote cell: commands, magics, and clear errors for the parts that are missing."""

from __future__ import annotations

import atexit
import builtins
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from ipyremote.remote_cells.shell import RemoteShell


@pytest.fixture
def shell() -> RemoteShell:
    space: dict[str, Any] = {"word": "hello", "n": 3}
    made = RemoteShell(space)
    made._begin(lambda source, before: exec(source, space), "<cell>")
    return made


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        ("echo {word} {n + 1}", "echo hello 4"),
        ("echo $word $HOME $$", "echo hello $HOME $$"),
        ("awk '{print $1}' file", "awk '{print $1}' file"),
        ("echo {missing}", "echo {missing}"),
        ("echo {n:03d}", "echo 003"),
        ("for i in a; do echo ${i}; done", "for i in a; do echo ${i}; done"),
    ],
)
def test_a_command_gets_values_of_names_and_keeps_variables_of_the_shell(
    shell: RemoteShell, command: str, meaning: str
) -> None:
    assert shell.var_expand(command) == meaning


@pytest.mark.processes
def test_output_of_a_command_appears_and_its_status_is_kept(
    shell: RemoteShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.system("echo {word}; echo problem >&2; exit 3")
    assert capsys.readouterr().out == "hello\nproblem\n"
    assert shell.user_ns["_exit_code"] == 3


@pytest.mark.processes
def test_lines_of_a_command_are_a_list(shell: RemoteShell) -> None:
    lines = shell.getoutput("printf 'a\\nb\\n'")
    assert lines == ["a", "b"]
    assert (lines.n, lines.s) == ("a\nb", "a b")


@pytest.mark.processes
def test_an_interrupt_ends_the_command(shell: RemoteShell, tmp_path: Path) -> None:
    import signal

    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            shell.system(f"echo $$ > {tmp_path}/pid; sleep 60")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_changes_of_a_magic_are_undone(shell: RemoteShell, tmp_path: Path) -> None:
    former = os.getcwd()
    shell.run_line_magic("cd", str(tmp_path))
    shell.run_line_magic("env", "IPYREMOTE_TEST_WORD={word}")
    assert os.getcwd() == str(tmp_path)
    assert shell.run_line_magic("env", "IPYREMOTE_TEST_WORD") == "hello"
    shell._end()
    assert os.getcwd() == former
    assert "IPYREMOTE_TEST_WORD" not in os.environ


def test_unknown_magics_and_attributes_raise_an_error(shell: RemoteShell) -> None:
    with pytest.raises(UsageError, match="Line magic function `%nothing` not found"):
        shell.run_line_magic("nothing", "")
    with pytest.raises(UsageError, match="Cell magic `%%nothing` not found"):
        shell.run_cell_magic("nothing", "", "x")
    with pytest.raises(AttributeError, match="a worker has IPython's shell, but no kernel"):
        _ = shell.kernel


@pytest.mark.processes
def test_magics_of_ipython_work(
    shell: RemoteShell, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell.run_line_magic("who", "str")
    assert capsys.readouterr().out.split() == ["word"]
    shell.run_cell_magic("capture", "caught", "print(n)\nm = n + 1")
    assert (shell.user_ns["caught"].stdout, shell.user_ns["m"]) == ("3\n", 4)
    shell.run_cell_magic("bash", "--out lines", "echo from bash")
    assert shell.user_ns["lines"] == "from bash\n"
    shell.run_cell_magic("writefile", f"{tmp_path}/{{word}}.txt", "text\n")
    assert (tmp_path / "hello.txt").read_text() == "text\n"


def test_an_exception_of_code_under_a_magic_is_raised(shell: RemoteShell) -> None:
    for magic in ("time", "capture"):
        with pytest.raises(ZeroDivisionError):
            shell.run_cell_magic(magic, "", "n / 0")


def test_the_users_own_magics_work(shell: RemoteShell) -> None:
    shell.register_magic_function(lambda line: line.upper(), "line", "shout")
    assert shell.run_line_magic("shout", "{word} $n") == "HELLO 3"


@pytest.mark.processes
def test_a_shell_changes_nothing_but_its_namespace(
    shell: RemoteShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    registered: list[object] = []
    monkeypatch.setattr(atexit, "register", lambda fn, *_, **__: registered.append(fn))
    monkeypatch.setattr(atexit, "unregister", registered.remove)

    def state() -> list[object]:
        return [
            dict(vars(builtins)),
            [sys.displayhook, sys.excepthook, sys.modules["__main__"], getattr(sys, "ps1", None)],
            dict(os.environ),
            InteractiveShell._instance,
            set(threading.enumerate()),
        ]

    before = state()
    shell.run_line_magic("load_ext", "autoreload")
    shell.run_line_magic("precision", "3")
    shell.run_cell_magic("bash", "", "true")
    assert before == state()
    shell._end()
    assert registered == []
    assert list(tmp_path.iterdir()) == []
    assert {name for name in shell.user_ns if not name.startswith("__")} == {"word", "n"}


@pytest.mark.processes
def test_the_shell_is_not_made_before_its_first_use() -> None:
    program = (
        "import sys\n"
        "from types import FunctionType\n"
        "from ipyremote.remote_cells.cell import Cell, CellInputs, run_cell\n"
        "home = FunctionType((lambda: None).__code__, {}, 'home')\n"
        "source = 'shell = get_ipython()\\n\"zmq\" in str(type(shell)), shell.__class__.__name__'\n"
        "assert run_cell(Cell(source, '<cell>', 'In [1]'), CellInputs(home, {}), ()) == (False, 'RemoteShell')\n"
        "assert 'IPython' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
