"""`%%remote`, which runs a cell in a worker, and the other magics.

    %%remote, %remote EXPR   run a cell or an expression as a task (`submission.py`), or in a session (`sessions.py`)
    %remote_status           show the resources of the cluster, and why refs on screen are pending
    %remote_why              say why a ref has no value yet
    %remote_cancel           cancel tasks
    %remote_log              print the output of a task
    %remote_gc               list the refs that IPython's outputs keep alive
    %remote_sessions         list sessions and their variables
    %remote_shutdown         end the cluster

A line with a mistake raises a UsageError, which IPython shows as one sentence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
    output_can_be_silenced,
)
from IPython.core.magic_arguments import magic_arguments

from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend, current
from ipyremote.exceptions import IPyRemoteError, TaskError, tracebacks
from ipyremote.ids import ObjectId
from ipyremote.notebook.cells.cell_arguments import CellArguments, parsed, takes_cell_arguments
from ipyremote.notebook.cells.sessions import Sessions
from ipyremote.notebook.cells.submission import CellInputError, CellSubmitter, CellSyntaxError
from ipyremote.notebook.display.html import bytes_text
from ipyremote.notebook.display.screen import Screen
from ipyremote.notebook.output import output_history
from ipyremote.notebook.output.task_logs import TaskLogs
from ipyremote.refs import ObjectRef
from ipyremote.session import lifecycle

__all__ = ["CellInputError", "CellInterruptedError", "CellSyntaxError", "RemoteMagics", "resources_of"]

#: Number of refs that `%remote_status` and `%remote_why` explain.
_EXPLAINED: Final = 10
#: Number of refs of one output that `%remote_gc` names.
_NAMED: Final = 3
#: Number of latest cells that `%remote_cancel` without an argument cancels.
_RECENT: Final = 1_000


class CellInterruptedError(KeyboardInterrupt):
    """An interrupt has cancelled the cell that was waited for. IPython shows this sentence and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


@magics_class
class RemoteMagics(Magics):
    """The magics of ipyremote."""

    def __init__(self, shell: Any, screen: Screen, logs: TaskLogs | None = None) -> None:
        super().__init__(shell)
        self._shell = shell
        self._screen = screen
        self._logs = logs or TaskLogs()
        #: Shows the live dashboard, and returns whether that was possible. None before the extension has set it.
        self.show_dashboard: Callable[[Backend], bool] | None = None
        self.sessions = Sessions()
        self.submitter = CellSubmitter(shell, self.sessions)
        #: Backend and id of each cell's task, latest cell last.
        self._cells: deque[tuple[Backend | None, ObjectId]] = deque(maxlen=_RECENT)

    @output_can_be_silenced
    @no_var_expand
    @needs_local_scope
    @magic_arguments()  # type: ignore[no-untyped-call,untyped-decorator]  # IPython has no hints here
    @takes_cell_arguments
    @line_cell_magic
    def remote(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run a cell in a worker, without waiting for it. `%remote EXPR` does the same with an expression.

        The result is a ref of the cell's last expression. The ref is shown below the cell and, if the line has a NAME,
        bound to that name in the notebook. A `;` at the end of the cell hides the ref. Text that the cell prints
        appears below the cell at once.

        Names that the cell reads are copied from the notebook when the cell starts: values, and functions and classes
        with the names that they use. Modules are imported in the worker. A ref arrives as its value: a cell that reads
        the NAME of another cell starts when that value is there, while the notebook goes on. Values above 10 MB are
        stored once, and used again until they change. Names that the cell binds stay in the worker; `-o` brings them
        back.

        `await`, `!command`, display(), figures and IPython's magics work (%time, %timeit, %pip, %%bash, %%writefile,
        %load_ext, your own ...), except those that need a keyboard, a history or the kernel, such as %debug and %edit.
        input() does not work: a worker cannot ask you for an answer.

        Examples::

            %%remote model -i data -o scores          send only `data`; make the refs `model` and `scores`
            %%remote -b --num-cpus 2 --timeout 60     wait for the cell, which has two CPUs and one minute
            %%remote -s lab                           run in the session `lab`, whose variables stay
            total = %remote sum(parts)                run an expression
        """
        __tracebackhide__ = True
        if cell is None:
            if not line.strip():
                raise UsageError("%remote: the expression is missing. `%%remote?` shows the help.")
            arguments = CellArguments()
        else:
            arguments = parsed(self.remote, line)
        refs = self.submitter.submit(
            line if cell is None else cell, arguments, self._namespace(local_ns), line=cell is None
        )
        results: list[Any] = self._values(refs) if arguments.block else list(refs)
        self._cells.append((refs[0]._backend, refs[0]._id))
        names = (arguments.name, *arguments.outputs)
        self._shell.user_ns.update(
            {name: result for name, result in zip(names, results, strict=True) if name is not None}
        )
        return None if arguments.quiet else results[0]

    @no_var_expand
    @line_magic
    def remote_status(self, line: str) -> None:
        """Show the resources and the work of the cluster, and why refs on screen have no value yet."""
        backend = current.peek()
        if backend is None:
            print("No cluster is running. init(), or the first .remote(), starts one.")
            return
        try:
            if self.show_dashboard is None or not self.show_dashboard(backend):
                total, available = backend.resources()
                amounts = [
                    _amount(name, total[name], available.get(name, 0.0))
                    for name in sorted(total, key=_cpu_first)
                ]
                print("Cluster: " + ", ".join(amount for amount in amounts if amount))
        except IPyRemoteError as error:  # lost, or being shut down
            print(str(error).strip())
            return
        _explain(
            [ref for ref in self._screen.unsettled_refs() if ref._backend is backend],
            "more refs on screen that have not ended",
        )

    @no_var_expand
    @line_magic
    def remote_why(self, line: str) -> None:
        """Say why a ref has no value yet: %remote_why REF. Takes a list of refs, or a placement group, too."""
        value = self._evaluated(line, "remote_why")
        why: Callable[[Any], str] | None = getattr(type(value), "_remote_why_", None)
        if why is not None:
            print(why(value))
        else:
            _explain(_refs_in(value, line, "remote_why"), "more refs")

    @no_var_expand
    @line_magic
    def remote_cancel(self, line: str) -> None:
        """Cancel tasks.

        ::

            %remote_cancel REF      cancel the task of a ref, or the tasks of a list of refs
            %remote_cancel          cancel the %%remote cells of this notebook
            %remote_cancel --all    cancel all tasks of this notebook

        Code that is running gets a KeyboardInterrupt. Actors stay alive.
        """
        backend = current.peek()
        if backend is None:
            print("No cluster is running.")
            return
        if line.strip() == "--all":
            targets = self._unfinished(backend)
        elif line.strip():
            chosen = self._refs(line, "remote_cancel")
            targets = [ref._id for ref in chosen if ref._backend is backend]
        else:
            targets = [any_id for owner, any_id in self._cells if owner is backend]
        targets = [any_id for any_id in dict.fromkeys(targets) if not backend.is_ready(any_id)]
        for any_id in targets:
            backend.cancel(any_id)
        if line.strip() == "--all":
            print("Everything that has not ended is being cancelled.")
        else:
            print(f"Cancelling {len(targets):,} task{'s' * (len(targets) != 1)}.")

    @no_var_expand
    @line_magic
    def remote_log(self, line: str) -> None:
        """Print the output of a task: %remote_log REF. Of a long output, only the end is kept."""
        for ref in self._refs(line, "remote_log"):
            text = self._logs.read((ref._task, ref._id))
            if text is None:
                print(f"{ref._label} has printed nothing, or its output is no longer kept.")
            else:
                print(text, end="" if text.endswith("\n") else "\n")

    @no_var_expand
    @line_magic
    def remote_gc(self, line: str) -> None:
        """List the refs and actors that IPython's outputs, such as Out[3] and _, keep alive; --free forgets them."""
        if line.strip() not in ("", "--free"):
            raise UsageError("%remote_gc: the only flag is --free")
        if line.strip():
            count = output_history.free(self._shell)
            stored = self.submitter.stored_inputs.prune(self._shell.user_ns)
            print(
                f"Forgot {count} output{'s' * (count != 1)} with refs, and {stored} stored "
                f"value{'s' * (stored != 1)} of cells."
            )
            return
        found = output_history.kept(self._shell)
        for name, refs in found.items():
            print(f"{name}: {_some(refs)}")
        print("%remote_gc --free forgets them." if found else "No output keeps a ref or an actor alive.")

    @no_var_expand
    @line_magic
    def remote_sessions(self, line: str) -> None:
        """List the sessions of %%remote -s with their variables; --end NAME stops a session."""
        words = line.split()
        if words[:1] == ["--end"] and len(words) == 2:
            self.sessions.end(words[1])
            print(f"The session {words[1]} was stopped; its variables are gone.")
        elif words:
            raise UsageError("%remote_sessions: the only flag is --end NAME")
        else:
            print("\n".join(self.sessions.listing()) or "No sessions. %%remote -s NAME starts one.")

    @no_var_expand
    @line_magic
    def remote_shutdown(self, line: str) -> None:
        """End the cluster, with all tasks, all actors and all values that were not fetched."""
        if current.peek() is None:
            print("No cluster is running.")
            return
        lifecycle.shutdown()
        print("The cluster was shut down. init(), or the next .remote(), starts a new one.")

    # ------------------------------------------------------------------------------------------------------- internals

    def forget(self, backend: Backend) -> None:
        """Forget the cells, sessions, stored values and logs of a backend that has ended."""
        self.sessions.forget(backend)
        self.submitter.stored_inputs.clear()
        self._cells.clear()
        self._logs.clear()

    def _namespace(self, local_ns: Mapping[str, Any] | None) -> Mapping[str, Any]:
        space: dict[str, Any] = self._shell.user_ns
        return space if local_ns is None or local_ns is space else {**space, **local_ns}

    def _values(self, refs: list[ObjectRef[Any]]) -> list[Any]:
        """Return the values of a cell. Errors are raised as if the cell had run here; an interrupt cancels the cell."""
        __tracebackhide__ = True
        backend = refs[0]._backend
        assert backend is not None, "it was just submitted"
        try:
            return backend.get([ref._id for ref in refs])
        except KeyboardInterrupt:
            backend.cancel(refs[0]._id)
            raise CellInterruptedError(f"{refs[0]._label} was cancelled.") from None
        except IPyRemoteError as error:
            lines = _in_place(error)
            error._render_traceback_ = lambda: lines  # type: ignore[method-assign]  # for this one, where it is shown
            raise

    def _refs(self, expression: str, magic: str) -> list[ObjectRef[Any]]:
        """Return the refs in the value of an expression of the user. Raises UsageError."""
        return _refs_in(self._evaluated(expression, magic), expression, magic)

    def _evaluated(self, expression: str, magic: str) -> Any:
        """Return the value of an expression of the user. Raises UsageError."""
        if not expression.strip():
            raise UsageError(f"%{magic}: the ref is missing. Write %{magic} REF")
        try:
            return self._shell.ev(expression)
        except Exception as error:  # raised by the user's expression
            raise UsageError(f"%{magic}: {type(error).__name__}: {error}") from None

    def _unfinished(self, backend: Backend) -> list[ObjectId]:
        if backend.history is not None:
            return backend.history.unfinished()
        cells = [any_id for owner, any_id in self._cells if owner is backend]
        return [*cells, *(ref._id for ref in self._screen.unsettled_refs() if ref._backend is backend)]


def _refs_in(value: Any, expression: str, magic: str) -> list[ObjectRef[Any]]:
    """Return the refs in the value of an expression. Raises UsageError."""
    found = [ref for ref in output_history.all_refs(value) if isinstance(ref, ObjectRef)]
    if not found:
        raise UsageError(f"%{magic}: {expression.strip()} is not a ref, and has no refs inside")
    return list(dict.fromkeys(found))


def _in_place(error: IPyRemoteError) -> list[str]:
    """Return the traceback of an error as if the cell had run in the notebook."""
    if not isinstance(error, TaskError):
        return [f"{type(error).__name__}: {str(error).strip()}"]
    kind = type(error if error.cause is None else error.cause).__name__
    remote = tracebacks.body_of(error.traceback_text).rstrip("\n").splitlines()
    return ["-" * 75, f"{kind:<42}Traceback (most recent call last)", *remote]


def _explain(refs: list[ObjectRef[Any]], more: str) -> None:
    for ref in refs[:_EXPLAINED]:
        if ref._backend is None or ref._backend is not current.peek():
            print(f"{ref._label} belongs to a session that has ended.")
        else:
            print(_explained(ref, ref._backend))
    if len(refs) > _EXPLAINED:
        print(f"and {len(refs) - _EXPLAINED} {more}")


def _explained(ref: ObjectRef[Any], backend: Backend) -> str:
    text = backend.explain(ref._id)
    return text if text.startswith(ref._label) else f"{ref._label}: {text}"


def _some(refs: Iterable[ObjectRef[Any] | ActorHandle[Any]]) -> str:
    labels = [repr(ref) for ref in refs]
    more = f" and {len(labels) - _NAMED:,} more" if len(labels) > _NAMED else ""
    return ", ".join(labels[:_NAMED]) + more


def _cpu_first(name: str) -> tuple[bool, str]:
    return name != "CPU", name


def _amount(name: str, total: float, available: float) -> str:
    if name.startswith("node:"):
        return ""
    show: Callable[[float], str] = bytes_text if name in ("memory", "object_store_memory") else "{:g}".format
    return f"{name} {show(available)} of {show(total)} free"


def resources_of(backend: Backend) -> tuple[tuple[str, str], ...]:
    """Return the resources of a cluster for the cluster card. Waits for the backend's answer."""
    total, _ = backend.resources()
    number = "{:g}".format
    amounts = {"CPUs": ("CPU", number), "GPUs": ("GPU", number), "store": ("object_store_memory", bytes_text)}
    return tuple((title, show(total[name])) for title, (name, show) in amounts.items() if total.get(name))
