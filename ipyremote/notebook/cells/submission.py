"""A remote cell before it runs: from its text to a submitted task.

Mistakes are found here, before anything runs: syntax errors with their line, magics that no worker understands, names
that cannot be sent. The cell's text and inputs are then submitted as one ordinary task, or as a call of the session.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import FrameType, FunctionType
from typing import Any

from IPython.core.error import UsageError

from ipyremote.backend import Backend, current
from ipyremote.declare import exports
from ipyremote.declare.exports import Export
from ipyremote.exceptions import tracebacks
from ipyremote.ids import ObjectId, TaskId
from ipyremote.notebook.cells.capture import Captured, capture, names_bound, sources_of, unsupported
from ipyremote.notebook.cells.cell_arguments import FLAGS, CellArguments
from ipyremote.notebook.cells.inputs import LARGE, StoredInputs
from ipyremote.notebook.cells.sessions import Sessions
from ipyremote.notebook.display.html import bytes_text
from ipyremote.notebook.output.cell_output import CELL_LABEL
from ipyremote.refs import ObjectRef
from ipyremote.remote_cells.cell import Cell, compile_cell, run_cell
from ipyremote.remote_cells.shell import PYTHON_MAGICS
from ipyremote.serialization import pickling

__all__ = ["CellInputError", "CellSubmitter", "CellSyntaxError"]


class CellSyntaxError(UsageError):
    """A syntax error in a cell. IPython shows the line of the cell, and no frames of ipyremote."""

    def __init__(self, error: SyntaxError, shell: Any) -> None:
        super().__init__(str(error))
        self.error = error
        self._shell = shell

    def _render_traceback_(self) -> list[str]:
        return list(self._shell.SyntaxTB.structured_traceback(type(self.error), self.error, []))


class CellInputError(TypeError):
    """A name that a cell reads cannot be sent to a worker. IPython shows this sentence and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"TypeError: {self}"]


class CellSubmitter:
    """Turns the cells of one notebook into tasks."""

    def __init__(self, shell: Any, sessions: Sessions) -> None:
        self._shell = shell
        self.sessions = sessions
        self.stored_inputs = StoredInputs()
        #: Size above which a value is stored by itself, in bytes.
        self.large = LARGE
        self._export = Export(run_cell, CELL_LABEL)

    def submit(
        self, text: str, arguments: CellArguments, namespace: Mapping[str, Any], *, line: bool = False
    ) -> list[ObjectRef[Any]]:
        """Submit a cell, or with `line` an expression. Returns the refs of its value and of each output.

        Raises UsageError, CellInputError, and the errors of `Backend.submit`.
        """
        __tracebackhide__ = True
        try:
            cell, captured = self._prepare(text, arguments, namespace, line)
            bound = names_bound(cell.source, cell.filename) if arguments.session else frozenset()
        except SyntaxError as error:
            if line and text.split()[0] in FLAGS:
                raise UsageError(
                    "%remote takes an expression and no flags; only %%remote takes flags"
                ) from None
            raise CellSyntaxError(error, self._shell) from None
        backend = current.backend()
        values = captured.values
        if arguments.session is not None:
            values = self.sessions.need(arguments.session, backend, values, arguments.inputs or ())
        try:
            packed = self.stored_inputs.pack(backend, self._home(), values, self.large)
            if packed.fresh:
                exports.mark_used(backend)
                if not arguments.quiet:
                    print(_stored_note(packed.fresh))
            if arguments.session is not None:
                first, label = self.sessions.submit(backend, arguments, cell, values, packed, bound)
                exports.mark_used(backend)
            else:
                exported = self._export.to(backend)
                job = (cell, packed.inputs, tuple(packed.refs), *packed.refs.values())
                first, label = backend.submit(exported, job, {}, arguments.task_options())
        except TypeError as error:
            raise _input_error(captured, error) from None
        return _refs(backend, first, label, arguments.outputs)

    def _prepare(
        self, text: str, arguments: CellArguments, namespace: Mapping[str, Any], line: bool
    ) -> tuple[Cell, Captured]:
        """Return the cell as it is sent to the worker, and its inputs.

        Raises UsageError, and SyntaxError, which the caller translates.
        """
        shell = self._shell
        blank = 0 if line else len(text) - len(text.lstrip())
        # The code begins at the same line as in the notebook: after the magic's line and the blank lines that IPython
        # strips.
        before = "" if line else "\n" * (1 + text.count("\n", 0, blank))
        source = before + self._transformed(text)
        number = self._number()
        filename = shell.compile.cache(source, number, raw_code=source)
        compile_cell(source, filename)
        _check_magics(source)
        for name in arguments.inputs or ():
            if name not in namespace:
                raise UsageError(f"%%remote: -i asks for {name!r}, but the notebook has no such name")
        captured = capture(source, namespace, filename, only=arguments.inputs, automatic=arguments.capture)
        typed = sources_of(captured.values.values())
        sources = {file: (tracebacks.display_name(file) or file, text) for file, text in typed.items()}
        cell = Cell(
            source,
            filename,
            f"In [{number}]",
            captured.modules,
            sources,
            text=text if line else f"%%remote\n{text}",
            outputs=arguments.outputs,
            timeout=arguments.timeout,
        )
        return cell, captured

    def _transformed(self, text: str) -> str:
        """Return the text as Python, with magics and commands as calls of `get_ipython()`."""
        transform = self._shell.transform_cell
        first, _, body = text.lstrip().partition("\n")
        magic = re.match(r"%%(\w+)\s*(.*)", first)
        if magic is None or magic[1] not in PYTHON_MAGICS:
            return str(transform(text))
        # IPython itself would not translate the lines below a cell magic.
        return f"get_ipython().run_cell_magic({magic[1]!r}, {magic[2]!r}, {transform(body)!r})\n"

    def _number(self) -> int:
        """Return the number of the running cell, which some versions of IPython have counted up already."""
        return running_cell_number() or int(self._shell.execution_count)

    def _home(self) -> FunctionType:
        """Return a function whose globals are the notebook's; the cell runs in these globals."""
        home = FunctionType(_home.__code__, self._shell.user_global_ns, "home")
        # In `__main__`, functions are pickled by value, so that the cell and captured functions share their globals.
        home.__module__ = "__main__"
        return home


def running_cell_number() -> int:
    """Return the number of the cell whose code is on the stack of the calling thread; 0 if there is none."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = tracebacks.display_name(frame.f_code.co_filename)
        if name is not None and (number := re.fullmatch(r"In \[(\d+)\]", name)):
            return int(number[1])
        frame = frame.f_back
    return 0


def _home() -> None:
    """Do nothing. This function's code is pickled with a cell for the sake of the globals."""


def _refs(backend: Backend, first: TaskId, label: str, outputs: tuple[str, ...]) -> list[ObjectRef[Any]]:
    refs: list[ObjectRef[Any]] = [ObjectRef(first, backend, label, False, first)]
    for place, name in enumerate(outputs, 1):
        item: ObjectId = first + place  # type: ignore[assignment]  # an id plus an index is an id
        refs.append(ObjectRef(item, backend, f"{label}.{name}", False, first))
    return refs


def _check_magics(source: str) -> None:
    found = unsupported(source)
    if found is not None:
        line, what = found
        raise UsageError(
            f"%%remote: line {line} uses {what}, which needs the notebook's own IPython. In a worker it would have no "
            "keyboard, history or kernel; use it in a cell of the notebook."
        )


def _stored_note(fresh: list[tuple[str, int]]) -> str:
    what = ", ".join(f"{name} ({bytes_text(size)})" for name, size in fresh)
    return f"ipyremote: shipped {what}; used again as long as it does not change."


def _input_error(captured: Captured, error: TypeError) -> TypeError:
    """Return the error that says which of a cell's inputs cannot be sent, and why."""
    for name, value in captured.values.items():
        try:
            pickling.dumps((value,), (name,))
        except TypeError as reason:
            return CellInputError(f"%%remote cannot send {name!r} to a worker. {reason}")
        except Exception as reason:  # raised by user code that pickles the value
            return CellInputError(
                f"%%remote cannot send {name!r} to a worker: {type(reason).__name__}: {reason}"
            )
    return error
