"""`get_ipython()` of a remote cell: the little of IPython that makes sense in a worker.

The notebook's own IPython translates `!command` and `%magic` into calls of `get_ipython()`; here is who answers them.
Not an IPython: it has no history, no display hook and no configuration, and must not import IPython. Rules. What is not
here is refused by the notebook before the cell runs (`LINE_MAGICS`, `CELL_MAGICS`), or says so in a sentence. What
changes the process (`%cd`, `%env`) is undone when the cell ends, unless it runs in a session.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import signal
import statistics
import string
import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = ["CELL_MAGICS", "LINE_MAGICS", "Lines", "RemoteShell", "expanded"]

#: Magics that work in a worker.
LINE_MAGICS: Final = frozenset({"cd", "env", "matplotlib", "pip", "pwd", "sx", "system", "time", "timeit"})
CELL_MAGICS: Final = frozenset({"bash", "sh", "sx", "system", "time", "timeit", "writefile", "!"})
#: Magics whose text is Python.
PYTHON_MAGICS: Final = frozenset({"time", "timeit"})

#: Batches that `%timeit` measures, and seconds that one should take at least.
_REPEAT: Final = 7
_BATCH_SECONDS: Final = 0.2
_DOLLAR: Final = re.compile(r"\$\$|\$([A-Za-z_]\w*)")
_TIMEIT: Final = re.compile(r"-([nr])\s*(\d+)\s*|-([qoct])\s+")


class Lines(list[str]):
    """What `x = !command` gives: a list of lines, as one text (`.n`, `.s`), or as itself (`.l`)."""

    @property
    def l(self) -> list[str]:  # noqa: E743  # IPython's name
        """The lines."""
        return self

    @property
    def n(self) -> str:
        """With newlines between them."""
        return "\n".join(self)

    @property
    def s(self) -> str:
        """With spaces between them."""
        return " ".join(self)


class RemoteShell:
    """See the module docstring. `run(source, line)` runs Python of the cell, whose first line is line `line`."""

    def __init__(self, space: dict[str, Any], run: Callable[[str, int], Any]) -> None:
        self.user_ns = space
        #: Undoes what magics changed in this process.
        self.undo = contextlib.ExitStack()
        self._run = run

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"get_ipython().{name} does not exist in a remote cell: a worker runs plain Python, with a few magics and "
            "!commands"
        )

    def system(self, command: str) -> None:
        """Run a command of the shell; what it prints appears as it comes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with _started(expanded(command, self.user_ns), subprocess.STDOUT) as process:
            assert process.stdout is not None
            while data := os.read(process.stdout.fileno(), 65536):
                sys.stdout.write(decoder.decode(data))
            sys.stdout.write(decoder.decode(b"", final=True))
        self.user_ns["_exit_code"] = process.returncode

    def getoutput(self, command: str, split: bool = True, depth: int = 0) -> Lines | str:
        """What a command of the shell prints."""
        with _started(expanded(command, self.user_ns), subprocess.STDOUT) as process:
            text = process.communicate()[0].decode("utf-8", "replace")
        self.user_ns["_exit_code"] = process.returncode
        return Lines(text.splitlines()) if split else text

    def run_line_magic(self, name: str, line: str, _stack_depth: int = 1) -> Any:
        """`%name line`"""
        if name not in LINE_MAGICS:
            raise _unknown(f"%{name}", LINE_MAGICS)
        return getattr(self, f"_{name}")(line, sys._getframe(1).f_lineno - 1)

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        """`%%name line` and the lines below it."""
        if name not in CELL_MAGICS:
            raise _unknown(f"%%{name}", CELL_MAGICS)
        number = sys._getframe(1).f_lineno
        match name:
            case "time":
                return self._time(cell, number)
            case "timeit":
                # What follows the magic's name on its line is the setup, which is not measured.
                return self._timeit(line, number, cell)
            case "writefile":
                self._writefile(line, cell)
            case "bash" | "sh":
                self._script(name, cell)
            case _:
                return self.getoutput(f"{line}\n{cell}")
        return None

    # Each takes the magic's text and the number of the lines before it.

    def _time(self, source: str, before: int) -> Any:
        wall, start = time.perf_counter(), os.times()
        try:
            return self._run(source, before)
        finally:
            end = os.times()
            user, system = end.user - start.user, end.system - start.system
            print(
                f"CPU times: user {_seconds(user)}, sys: {_seconds(system)}, total: {_seconds(user + system)}\n"
                f"Wall time: {_seconds(time.perf_counter() - wall)}"
            )

    def _timeit(self, text: str, before: int, cell: str = "") -> None:
        given = {"n": 0, "r": _REPEAT}
        while option := _TIMEIT.match(text):
            if option[1]:
                given[option[1]] = int(option[2])
            text = text[option.end() :]
        statement, setup = (cell, text) if cell else (text, "pass")
        timer = timeit.Timer(statement, setup or "pass", globals=self.user_ns)
        number = given["n"]
        if not number:
            number = 1
            while timer.timeit(number) < _BATCH_SECONDS:
                number *= 10
        runs = [total / number for total in timer.repeat(max(given["r"], 1), number)]
        print(
            f"{_seconds(statistics.fmean(runs))} ± {_seconds(statistics.pstdev(runs))} per loop "
            f"(mean ± std. dev. of {len(runs)} run{'s' * (len(runs) > 1)}, {number:,} loop{'s' * (number > 1)} each)"
        )

    def _system(self, line: str, before: int) -> Lines | str:
        return self.getoutput(line)

    _sx = _system

    def _pip(self, line: str, before: int) -> None:
        self.system(f"{shlex.quote(sys.executable)} -m pip {line}")
        print("Running workers and the notebook see new packages; what is imported already stays as it is.")

    def _pwd(self, line: str, before: int) -> str:
        return os.getcwd()

    def _cd(self, line: str, before: int) -> None:
        former = os.getcwd()
        os.chdir(os.path.expanduser(expanded(line.strip(), self.user_ns).strip("'\"") or "~"))
        self.undo.callback(os.chdir, former)
        print(os.getcwd())

    def _env(self, line: str, before: int) -> Any:
        name, assigned, value = line.strip().partition("=")
        name = name.strip()
        if not name:
            return dict(os.environ)
        if not assigned:
            return os.environ.get(name)
        self.undo.callback(_set_environment, name, os.environ.get(name))
        os.environ[name] = expanded(value.strip(), self.user_ns)
        print(f"env: {name}={os.environ[name]}")
        return None

    def _matplotlib(self, line: str, before: int) -> None:
        """Nothing to choose: figures of a remote cell are shown as images below it."""

    def _writefile(self, line: str, cell: str) -> None:
        words = shlex.split(line)
        append = "-a" in words
        (name,) = [word for word in words if word != "-a"]
        path = Path(os.path.expanduser(expanded(name, self.user_ns)))
        verb = "Appending to" if append else "Overwriting" if path.exists() else "Writing"
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(cell)
        print(f"{verb} {path}")

    def _script(self, program: str, cell: str) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with _started(cell, subprocess.STDOUT, program) as process:
            assert process.stdout is not None
            while data := os.read(process.stdout.fileno(), 65536):
                sys.stdout.write(decoder.decode(data))
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, program)


def expanded(command: str, space: dict[str, Any]) -> str:
    """A command with `{expression}` and `$name` of the cell filled in; as it is where that cannot be done, as in
    IPython: awk and the shell have braces and dollars of their own."""
    try:
        text = _Filler(space).vformat(command, (), {})
    except Exception:  # whatever the user's expressions raise, or braces that are none of ours
        text = command
    return _DOLLAR.sub(
        lambda found: str(space[found[1]]) if found[1] and found[1] in space else found[0], text
    )


class _Filler(string.Formatter):
    """Fields are Python expressions."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return eval(field_name, self._space), field_name


@contextlib.contextmanager
def _started(command: str, errors: int, shell: str = "") -> Any:
    """A command of the shell, in a process group that an interrupt ends."""
    process = subprocess.Popen(
        [shell or os.environ.get("SHELL") or "/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _unknown(magic: str, known: frozenset[str]) -> RuntimeError:
    names = ", ".join(sorted(known))
    return RuntimeError(f"{magic} does not work in a remote cell; these do: {names}")


def _seconds(amount: float) -> str:
    """As in `%timeit` of a notebook."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("μs", 1e-6)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 1e-9:.3g} ns"
