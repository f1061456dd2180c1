"""A `%%remote` cell in a worker: its source is compiled and run there like a notebook cell.

`run_cell` is an ordinary task; a cell of a session (`sessions.py`) is a call of an actor. The notebook sends what the
cell reads along with the cell. Refs among the inputs are arguments of their own, so they arrive as values. Rules. The
cell runs in the globals of the captured functions, so `x = 5; f()` means in a worker what it means in the notebook.
Functions and classes of the cell belong to `__main__`, so they travel by value. There is a `get_ipython()` for magics
and commands (`shell.py`), and a plain `display`, which prints, unless the process has a better one, as workers do
(`display.py`). Figures that the cell leaves open are shown. Nothing here imports IPython before the cell itself uses
it.
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
    """The source of a cell, and what a worker needs to show its lines."""

    #: Python, with as many lines before the code as the notebook's cell has.
    source: str
    #: What its code objects are said to come from; unique in the session.
    filename: str
    #: What tracebacks call it.
    name: str
    #: Modules that it reads: (name in the cell, name to import).
    modules: tuple[tuple[str, str], ...] = ()
    #: Sources of captured functions: file name to (what tracebacks call it, text).
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: The cell as it was typed, line by line as in `source`, for tracebacks; empty: as in `source`.
    text: str = ""
    #: Names whose values are returned after the value of the last expression; without any, that is all.
    outputs: tuple[str, ...] = ()
    #: Seconds it may run; None: no limit.
    timeout: float | None = None


class CellInputs(NamedTuple):
    """The inputs of a cell that are pickled together: values that share a part still share that part in the worker."""

    #: Function in whose globals the cell runs; captured functions have the same globals.
    home: FunctionType
    #: Values by name.
    values: Mapping[str, Any]


def run_cell(cell: Cell, inputs: CellInputs, names: tuple[str, ...], *values: Any) -> Any:
    """Run a cell in the globals of its home. `names` and `values`: the inputs that the notebook has sent as refs.

    Returns the result of `execute`.
    """
    home, captured = inputs
    space = home.__globals__
    space.update(captured)
    space.update(zip(names, values, strict=True))
    return execute(cell, space)


def execute(cell: Cell, space: dict[str, Any], shell: RemoteShell | None = None) -> Any:
    """Run a cell in a namespace. Returns the value of its last expression, or None; followed by its outputs, if any.

    `shell`: that of the session, in which everything stays as magics leave it. Without one the cell has a shell of its
    own, and what magics have changed in this process is undone in the end.
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
    """Run Python that a magic was given and that stands below `before` lines of the cell."""
    body, last = compile_cell("\n" * before + source, filename)
    evaluator.run(body)
    return None if last is None else evaluator.run(last)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the code inside after so many seconds. On the main thread only."""
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
    """(all but the last expression, the last expression or None). Raises SyntaxError. `await` is allowed anywhere."""
    tree = ast.parse(source, filename)
    last: CodeType | None = None
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    if tree.body and isinstance(final := tree.body[-1], ast.Expr):
        del tree.body[-1]
        last = compile(ast.Expression(final.value), filename, "eval", flags, dont_inherit=True)
    return compile(tree, filename, "exec", flags, dont_inherit=True), last


def register_sources(sources: Mapping[str, tuple[str, str]]) -> None:
    """Let tracebacks show these files, which exist in the notebook only."""
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
    """Evaluates code objects, those with a top-level `await` on one event loop."""

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
    """Whether this thread runs an event loop already: a kernel's does, when the inline backend runs the cell."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_aside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the loop of a thread of its own, and wait for its result."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.extend((True, asyncio.run(coroutine)))
        except BaseException as error:  # raised again in the thread that waits
            outcome.extend((False, error))

    thread = threading.Thread(target=copy_context().run, args=(target,), name="ipyremote-cell")
    thread.start()
    thread.join()
    succeeded, result = outcome
    if succeeded:
        return result
    raise result
