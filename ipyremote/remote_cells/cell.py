"""A `%%remote` cell in a worker: its source is compiled and run there like a notebook cell.

`run_cell` is an ordinary task; a cell of a session (`sessions.py`) is a call of an actor. The notebook sends the values
that the cell reads along with the cell. Refs among the inputs are arguments of their own, so they arrive as values.
Rules. The cell runs in the globals of the captured functions, so `x = 5; f()` means the same in a worker as in the
notebook. Functions and classes of the cell belong to `__main__`, so they travel by value. `get_ipython()` serves magics
and commands (`shell.py`). `display` prints, unless the process has the `display` of a worker (`display.py`). Figures
that the cell leaves open are shown. This module does not import IPython before the cell itself uses IPython.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import signal
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

from ipyremote.exceptions import tracebacks
from ipyremote.remote_cells import figures
from ipyremote.remote_cells.scopes import Scope, entered
from ipyremote.remote_cells.shell import RemoteShell

__all__ = ["Cell", "CellInputs", "compile_cell", "execute", "register_sources", "run_cell"]


@dataclass(frozen=True, slots=True)
class Cell:
    """The source of a cell, with the names and texts that tracebacks show."""

    #: Python code, with as many lines before the code as in the notebook's cell.
    source: str
    #: File name of the cell's code objects, unique in the session.
    filename: str
    #: Name of the cell in tracebacks.
    name: str
    #: Modules that the cell uses: (name in the cell, name to import).
    modules: tuple[tuple[str, str], ...] = ()
    #: Sources of captured functions by file name: (name in tracebacks, text).
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: Text of the cell as the user typed it, with the lines of `source`, for tracebacks; empty if equal to `source`.
    text: str = ""
    #: Names whose values the cell returns after the value of its last expression.
    outputs: tuple[str, ...] = ()
    #: Time limit of the cell, in seconds; None: no limit.
    timeout: float | None = None


class CellInputs(NamedTuple):
    """The inputs of a cell that are pickled together: values that share a part still share that part in the worker."""

    #: Function in whose globals the cell runs; captured functions have the same globals.
    home: FunctionType
    #: Values by name.
    values: Mapping[str, Any]


def run_cell(cell: Cell, inputs: CellInputs, names: tuple[str, ...], *values: Any) -> Any:
    """Run a cell in the globals of its home; return the result of `execute`.

    `names` and `values` are the inputs that the notebook has sent as refs.
    """
    home, captured = inputs
    space = home.__globals__
    space.update(captured)
    space.update(zip(names, values, strict=True))
    return execute(cell, space)


def execute(cell: Cell, space: dict[str, Any], shell: RemoteShell | None = None) -> Any:
    """Run a cell in a namespace; return the value of its last expression or None, followed by its outputs if any.

    In the `shell` of a session the changes of magics stay. Without `shell` the cell has a shell of its own, and the
    changes of its magics in this process are undone in the end.
    """
    register_sources({**cell.sources, cell.filename: (cell.name, cell.text or cell.source)})
    for name, module in cell.modules:
        space[name] = _imported(name, module)
    space["__name__"] = "__main__"
    body, last = compile_cell(cell.source, cell.filename)
    own = RemoteShell(space) if shell is None else shell
    with figures.shown_at_end(), _Evaluator(space) as evaluator:
        own._begin(partial(_run_part, evaluator, cell.filename), cell.filename)
        with entered(Scope(space, own)), _time_limit(cell.timeout):
            try:
                evaluator.run(body)
                value = None if last is None else evaluator.run(last)
            finally:
                if shell is None:
                    own._end()
    return (value, *_outputs(cell, space)) if cell.outputs else value


def _outputs(cell: Cell, space: dict[str, Any]) -> Iterator[Any]:
    for name in cell.outputs:
        if name not in space:
            raise NameError(f"the cell did not bind {name!r}, which -o asks for")
        yield space[name]


def _run_part(evaluator: _Evaluator, filename: str, source: str, before: int) -> Any:
    """Run the Python code of a magic, which begins below `before` lines of the cell."""
    body, last = compile_cell("\n" * before + source, filename)
    evaluator.run(body)
    return None if last is None else evaluator.run(last)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the code of this block after `seconds`. Only on the main thread, where signals arrive."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the cell ran longer than {seconds:g} s, as --timeout allows")

    former = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def compile_cell(source: str, filename: str) -> tuple[CodeType, CodeType | None]:
    """Compile a cell: return the code before the last expression, and the last expression or None.

    `await` is allowed anywhere. Raises SyntaxError.
    """
    tree = ast.parse(source, filename)
    last: CodeType | None = None
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    if tree.body and isinstance(final := tree.body[-1], ast.Expr):
        del tree.body[-1]
        last = compile(ast.Expression(final.value), filename, "eval", flags, dont_inherit=True)
    return compile(tree, filename, "exec", flags, dont_inherit=True), last


def register_sources(sources: Mapping[str, tuple[str, str]]) -> None:
    """Let tracebacks show these files, which exist only in the notebook."""
    for filename, (name, text) in sources.items():
        tracebacks.register_source(filename, name, text, replace=True)


def _imported(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the cell uses the module {module!r} as {name!r}, which a worker cannot import: {error}"
        ) from error


class _Evaluator:
    """An evaluator of a cell's code objects, which runs code with a top-level `await` on one event loop."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> _Evaluator:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, code: CodeType) -> Any:
        result = eval(code, self._space)
        if not code.co_flags & inspect.CO_COROUTINE:
            return result
        if _in_a_loop():
            return _run_aside(result)
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(result)


def _in_a_loop() -> bool:
    """Return whether this thread runs an event loop already, as a kernel's does when the inline backend runs a cell."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_aside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the event loop of a new thread, and wait for its result."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.extend((True, asyncio.run(coroutine)))
        except BaseException as error:  # raised again in the waiting thread
            outcome.extend((False, error))

    thread = threading.Thread(target=copy_context().run, args=(target,), name="ipyremote-cell")
    thread.start()
    thread.join()
    succeeded, result = outcome
    if succeeded:
        return result
    raise result
