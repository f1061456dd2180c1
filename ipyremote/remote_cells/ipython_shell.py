"""IPython's own shell in a worker: all magics, formatters and extensions, on the names of one cell or session.

`CellShell` is an `InteractiveShell` that changes nothing outside of itself. It is no singleton, and does not replace
the built-in names, `sys.displayhook` (except during a `run_cell`), `__main__`, the prompts or the exit of the process.
It has no history file, no profile directory and no completer, and reads no configuration of the user. Its displays go
where those of `display` go. Differences from a notebook that a worker needs:

- Commands run in a process group of their own, which an interrupt ends; their output appears as it comes.
- `%time` and `%%capture` raise what their code raises, so that the task fails, and `%time` keeps the lines of the cell.
- `%matplotlib` does nothing: figures are shown as images below the cell. `%cd` raises if there is no such directory.
- `%%capture` captures text and displays of the shell, but not the calls of `display`.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import os
import re
import shlex
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from IPython.core import display_functions
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.utils.text import LSString, SList
from traitlets.config.configurable import Configurable

from ipyremote.remote_cells import display

__all__ = ["CellShell"]

#: Names of the `init_` methods of `InteractiveShell` that change nothing outside of the shell, in IPython's order. Some
#: versions of IPython lack some of these methods.
_PARTS: Final = (
    "init_instance_attrs",
    "init_encoding",
    "init_prefilter",
    "init_syntax_highlighting",
    "init_hooks",
    "init_events",
    "init_pushd_popd_magic",
    "init_logger",
    "init_inspector",
    "init_display_formatter",
    "init_display_pub",
    "init_data_pub",
    "init_displayhook",
    "init_magics",
    "init_alias",
    "init_pdb",
    "init_extension_manager",
    "init_payload",
)
#: `$name`, or `$$` for one dollar of the shell's own.
_DOLLAR: Final = re.compile(r"\$\$|\$([A-Za-z_]\w*)")
#: Magics that change the process.
_PROCESS_MAGICS: Final = frozenset({"cd", "conda", "env", "mamba", "micromamba", "popd", "pushd", "set_env"})


class _NoTrap(BuiltinTrap):
    """A trap that does not change the built-in names, which `scopes.py` sets for cells."""

    def activate(self) -> None:
        """Do nothing."""

    def deactivate(self) -> None:
        """Do nothing."""


class _CellDisplayHook(DisplayHook):
    """The display of values of code that the shell runs, without numbers or `Out`."""

    def __init__(self, shell: Any = None, cache_size: int = 0, **options: Any) -> None:
        super().__init__(shell=shell, cache_size=0, **options)

    def __call__(self, result: Any = None) -> None:
        if result is not None:
            display_functions.display(result)


class _CellPublisher(DisplayPublisher):
    """A publisher to the place where `display` publishes."""

    def publish(
        self,
        data: Any,
        metadata: Any = None,
        source: Any = None,
        *,
        transient: Any = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        displays = display.installed()
        if displays is not None:
            displays.publish(data, metadata, transient=transient, update=update)
        elif InteractiveShell.initialized():
            display_functions.publish_display_data(data, metadata, transient=transient, update=update)
        else:
            print(data.get("text/plain", ""))

    def clear_output(self, wait: bool = False) -> None:
        display_functions.clear_output(wait)


class CellShell(InteractiveShell):
    """IPython's shell for the cells of one namespace in a worker."""

    displayhook_class = _CellDisplayHook
    display_pub_class = _CellPublisher

    def __init__(self, space: dict[str, Any]) -> None:
        # Not InteractiveShell's own `__init__`, which takes over the process.
        Configurable.__init__(self)
        self.configurables = [self]
        # IPython puts names of its own into its first namespace, which therefore is not the cell's.
        self.init_create_namespaces(None, {})
        self.user_ns_hidden: dict[str, Any] = {}
        self.history_manager = HistoryManager(shell=self, parent=self, enabled=False, hist_file=":memory:")
        self.builtin_trap = _NoTrap(shell=self)
        for part in _PARTS:
            if part == "init_display_formatter":
                self.init_traceback_handlers(((), None))
            begin = getattr(self, part, None)
            if begin is not None:
                begin()
        self.db: dict[str, Any] = {}
        self.trio_runner = None
        self.showing_traceback = False
        self.Completer = None  # type: ignore[assignment]  # nobody types in a worker
        self.register_magics(_WorkerMagics(self))
        self.user_module.__dict__ = space
        self.user_ns = space
        self._run: Callable[[str, int], Any] = lambda source, before: None
        self._filename = ""
        #: Functions that undo the changes of magics in the process.
        self._undo = contextlib.ExitStack()
        #: Number of running cell magics, each inside another.
        self._depth = 0

    # ------------------------------------------------------------------------------------------------ begin and end

    def begin(self, run: Callable[[str, int], Any], filename: str) -> None:
        """Begin a cell; see `RemoteShell`."""
        self._run, self._filename = run, filename

    def end(self) -> None:
        """Undo the changes of magics in the process, and end programs that magics have left in the background."""
        self._undo.close()
        scripts = self.magics_manager.registry.get("ScriptMagics")
        if scripts is not None:
            # A method that is registered with atexit would keep this shell and all names of the cell alive.
            atexit.unregister(scripts.kill_bg_processes)
            scripts.kill_bg_processes()

    def run_python(self, source: str) -> Any:
        """Run the Python code of a magic of the cell as the cell's own code, with the code's own line numbers."""
        return self._run(self.transform_cell(source), self._line())

    def _line(self) -> int:
        """Return the number of the cell's line that runs a magic."""
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_filename != self._filename:
            frame = frame.f_back  # type: ignore[assignment]  # the loop ends there
        return 0 if frame is None else frame.f_lineno

    # ------------------------------------------------------------------------------------ differences from IPython

    def init_display_formatter(self) -> None:
        """Use the formatter of `display`, so that both know the formatters that user code registers with either."""
        displays = display.installed()
        if displays is None:
            super().init_display_formatter()
        else:
            self.display_formatter = displays.formatter

    def run_line_magic(self, magic_name: str, line: str, _stack_depth: int = 1) -> Any:
        """Run a line magic, and remember how to undo it."""
        if magic_name in _PROCESS_MAGICS:
            self._undo.callback(_restore_environment, dict(os.environ))
            self._undo.callback(os.chdir, os.getcwd())
        return super().run_line_magic(magic_name, line, _stack_depth + 1)

    def run_cell_magic(self, magic_name: str, line: str, cell: str) -> Any:
        """Run a cell magic, and raise the exceptions of code that IPython runs for the magic."""
        self._depth += 1
        try:
            return super().run_cell_magic(magic_name, line, cell)
        finally:
            self._depth -= 1

    def run_cell(self, *args: Any, **options: Any) -> Any:
        """Run a cell as in a notebook; on behalf of a magic, raise the cell's exception."""
        result = super().run_cell(*args, **options)
        if self._depth:
            result.raise_error()
        return result

    def showtraceback(self, *args: Any, **options: Any) -> None:
        """Show an error of `run_cell`, unless the error is about to be raised."""
        if not self._depth:
            super().showtraceback(*args, **options)

    def var_expand(self, cmd: str, depth: int = 0, formatter: Any = None) -> str:
        """Fill in `{expression}` and `$name`: names of the cell, and of the function `depth` frames above the caller.

        Braces and dollars that are no such names stay unchanged, because awk and the shell use them, too.
        """
        names = {**self.user_ns, **sys._getframe(depth + 1).f_locals}
        try:
            text = _Filler(names).vformat(cmd, (), {})
        except Exception:  # any exception of the user's expressions, or the braces belong to the command
            text = cmd
        return _DOLLAR.sub(
            lambda found: str(names[found[1]]) if found[1] and found[1] in names else found[0], text
        )

    def system(self, cmd: str) -> None:
        """Run a command of the shell; its output appears as it comes."""
        with _started(self.var_expand(cmd, depth=1)) as process:
            _pass_on(process)
        self.user_ns["_exit_code"] = process.returncode

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """Return the output of a command of the shell."""
        with _started(self.var_expand(cmd, depth=depth + 1)) as process:
            text = process.communicate()[0].decode("utf-8", "replace")
        self.user_ns["_exit_code"] = process.returncode
        return SList(text.splitlines()) if split else LSString(text)


@magics_class
class _WorkerMagics(Magics):
    """The magics that differ in a worker; see the module docstring."""

    shell: CellShell

    @no_var_expand
    @line_cell_magic
    def time(self, line: str, cell: str | None = None) -> Any:
        """Run Python code, and print the time that the code took."""
        wall, start = time.perf_counter(), os.times()
        try:
            return self.shell.run_python(line if cell is None else cell)
        finally:
            end = os.times()
            user, system = end.user - start.user, end.system - start.system
            print(
                f"CPU times: user {_seconds(user)}, sys: {_seconds(system)}, total: {_seconds(user + system)}\n"
                f"Wall time: {_seconds(time.perf_counter() - wall)}"
            )

    @line_magic
    def cd(self, line: str) -> None:
        """Change the directory of this process until the cell ends."""
        os.chdir(os.path.expanduser(line.strip().strip("'\"") or "~"))
        print(os.getcwd())

    @line_magic
    def pip(self, line: str) -> None:
        """Run pip for this Python."""
        self.shell.system(f"{shlex.quote(sys.executable)} -m pip {line}")
        print("Running workers and the notebook see new packages; what is imported already stays as it is.")

    @line_magic
    def matplotlib(self, line: str) -> None:
        """Do nothing: figures of a remote cell are shown as images below the cell."""

    @cell_magic
    def bash(self, line: str, cell: str) -> None:
        """Run a script of bash."""
        self._script("bash", line, cell)

    @cell_magic
    def sh(self, line: str, cell: str) -> None:
        """Run a script of sh."""
        self._script("sh", line, cell)

    def _script(self, program: str, line: str, cell: str) -> None:
        if line.strip():
            # A line with options, which IPython's own magic parses.
            self.shell.run_cell_magic("script", f"{program} {line}", cell)
            return
        with _started(cell, program) as process:
            _pass_on(process)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, program)


class _Filler(string.Formatter):
    """A formatter of strings whose fields are Python expressions."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return eval(field_name, self._names), field_name


@contextlib.contextmanager
def _started(command: str, shell: str = "") -> Iterator[Any]:
    """Start a command of the shell, in a process group that an interrupt ends."""
    process = subprocess.Popen(
        [shell or os.environ.get("SHELL") or "/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
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


def _pass_on(process: Any) -> None:
    """Write the output of a program to `sys.stdout`, as it comes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := os.read(process.stdout.fileno(), 65536):
        sys.stdout.write(decoder.decode(data))
    sys.stdout.write(decoder.decode(b"", final=True))


def _restore_environment(former: dict[str, str]) -> None:
    for name in os.environ.keys() - former.keys():
        del os.environ[name]
    os.environ.update(former)


def _seconds(amount: float) -> str:
    """Write a time as `%timeit` of a notebook does."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("μs", 1e-6)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 1e-9:.3g} ns"
