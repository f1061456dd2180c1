"""What a remote cell has of IPython: commands, a few magics, and a clear word about the rest."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ipyremote.remote_cells.shell import RemoteShell, expanded


@pytest.fixture
def shell() -> RemoteShell:
    space: dict[str, Any] = {"word": "hello", "n": 3}
    return RemoteShell(space, lambda source, before: exec(source, space))


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
def test_a_command_gets_values_and_keeps_what_is_the_shells(
    shell: RemoteShell, command: str, meaning: str
) -> None:
    assert expanded(command, shell.user_ns) == meaning


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
    assert (lines.n, lines.s) == ("a\nb", "a b")  # type: ignore[union-attr]


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


def test_what_a_magic_changed_is_undone(shell: RemoteShell, tmp_path: Path) -> None:
    former = os.getcwd()
    shell.run_line_magic("cd", str(tmp_path))
    shell.run_line_magic("env", "IPYREMOTE_TEST_WORD={word}")
    assert os.getcwd() == str(tmp_path)
    assert shell.run_line_magic("env", "IPYREMOTE_TEST_WORD") == "hello"
    shell.undo.close()
    assert os.getcwd() == former
    assert "IPYREMOTE_TEST_WORD" not in os.environ


def test_other_magics_and_attributes_say_that_they_do_not_exist(shell: RemoteShell) -> None:
    with pytest.raises(RuntimeError, match="%who does not work in a remote cell; these do: cd"):
        shell.run_line_magic("who", "")
    with pytest.raises(RuntimeError, match="%%html"):
        shell.run_cell_magic("html", "", "<b>")
    with pytest.raises(AttributeError, match="plain Python"):
        _ = shell.kernel
