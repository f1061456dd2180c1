"""`%%remote`, which runs a cell in a worker, and its family.

    %%remote, %remote EXPR       a cell or an expression as a task (`jobs.py`), or in a session (`sessions.py`)
    %remote_status, %remote_why  what the cluster does, and why something waits
    %remote_cancel, %remote_log  end tasks; all that a task has printed
    %remote_gc                   what IPython's outputs keep alive
    %remote_sessions             sessions and their variables
    %remote_shutdown             the end

What is wrong with a line is a UsageError, which IPython shows as one sentence.
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

#: Waiting refs that `%remote_status` and `%remote_why` explain.
_EXPLAINED: Final = 10
#: Refs of one output that `%remote_gc` names.
_NAMED: Final = 3
#: Cells that `%remote_cancel` without a ref looks at.
_RECENT: Final = 1_000


class CellInterruptedError(KeyboardInterrupt):
    """A cell that somebody waited for was interrupted, and so cancelled. IPython shows the sentence only."""

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
        #: Shows the cluster as a live view; False: that cannot be done here. None: nobody can.
        self.show_dashboard: Callable[[Backend], bool] | None = None
        self.sessions = Sessions()
        self.submitter = CellSubmitter(shell, self.sessions)
        #: (backend, id) of cells, the latest last.
        self._cells: deque[tuple[Backend | None, int]] = deque(maxlen=_RECENT)

    @output_can_be_silenced
    @no_var_expand
    @needs_local_scope
    @magic_arguments()  # type: ignore[no-untyped-call,untyped-decorator]  # IPython has no hints here
    @takes_cell_arguments
    @line_cell_magic
    def remote(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run a cell in a worker, and go on at once. `%remote EXPR` does the same with an expression.

        The cell gives a ref of its last expression, shown below it and bound to NAME if there is one; its output
        appears below the cell as it comes. A `;` at the end shows no ref.

        Names that the cell reads are copied from the notebook as they are now: values, functions and classes with what
        they use; modules are imported. Refs among them arrive as values, as soon as they have some, so a cell that
        reads the NAME of another one waits for it, and nothing else does. Values above 10 MB are stored once, and used
        again while they do not change. What the cell binds stays in the worker; `-o` brings it back.

        `await`, `!command`, display(), figures, and the magics %time, %timeit, %pip, %cd, %pwd, %env, %%time,
        %%timeit, %%bash and %%writefile work. input() does not: nobody could answer.

        Examples::

            %%remote model -i data -o scores          refs `model` and `scores`, of a cell that gets `data` only
            %%remote -b --num-cpus 2 --timeout 60     like a local cell, on two CPUs, for a minute at most
            %%remote -s lab                           in the session `lab`, whose variables stay
            total = %remote sum(parts)                an expression
        """
        __tracebackhide__ = True
        if cell is None:
            if not line.strip():
                raise UsageError("%remote: an expression is missing; %%remote? tells more")
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
        """Show what the cluster has and uses, and why the refs on screen wait."""
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
        """Say why a ref, or each of a list, has no value yet: %remote_why REF. Or why a placement group waits."""
        value = self._evaluated(line, "remote_why")
        why: Callable[[Any], str] | None = getattr(type(value), "_remote_why_", None)
        if why is not None:
            print(why(value))
        else:
            _explain(_refs_in(value, line, "remote_why"), "more refs")

    @no_var_expand
    @line_magic
    def remote_cancel(self, line: str) -> None:
        """End tasks: %remote_cancel REF (or a list of refs); --all: all of this notebook; nothing: its %%remote cells.

        Code that runs gets a KeyboardInterrupt. Actors go on.
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
        """Print all that a task has printed: %remote_log REF. Of much text the end is kept."""
        for ref in self._refs(line, "remote_log"):
            text = self._logs.read((ref._task, ref._id))
            if text is None:
                print(f"{ref._label} has printed nothing, or too long ago.")
            else:
                print(text, end="" if text.endswith("\n") else "\n")

    @no_var_expand
    @line_magic
    def remote_gc(self, line: str) -> None:
        """List refs and actors that only the outputs Out[...] and _ may keep alive; --free lets go of them."""
        if line.strip() not in ("", "--free"):
            raise UsageError("%remote_gc: the only flag is --free")
        if line.strip():
            count = output_history.free(self._shell)
            stored = self.submitter.stored_inputs.prune(self._shell.user_ns)
            print(
                f"Forgot {count} output{'s' * (count != 1)} with refs, and {stored} stored values of cells."
            )
            return
        found = output_history.kept(self._shell)
        for name, refs in found.items():
            print(f"{name}: {_some(refs)}")
        print("%remote_gc --free forgets them." if found else "No output keeps a ref or an actor alive.")

    @no_var_expand
    @line_magic
    def remote_sessions(self, line: str) -> None:
        """List the sessions of %%remote -s with their variables; --end NAME stops one."""
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
        """End the cluster, with everything that runs and all values that were not fetched."""
        if current.peek() is None:
            print("No cluster is running.")
            return
        lifecycle.shutdown()
        print("The cluster was shut down. init(), or the next .remote(), starts a new one.")

    # --------------------------------------------------------------------------------------------------------- inside

    def forget(self, backend: Backend) -> None:
        """A backend has ended, and what was made in it."""
        self.sessions.forget(backend)
        self.submitter.stored_inputs.clear()
        self._cells.clear()
        self._logs.clear()

    def _namespace(self, local_ns: Mapping[str, Any] | None) -> Mapping[str, Any]:
        space: dict[str, Any] = self._shell.user_ns
        return space if local_ns is None or local_ns is space else {**space, **local_ns}

    def _values(self, refs: list[ObjectRef[Any]]) -> list[Any]:
        """Wait for a cell. An error is raised as if the cell had run here; an interrupt ends the cell."""
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
        """The refs that an expression of the user names. Raises UsageError."""
        return _refs_in(self._evaluated(expression, magic), expression, magic)

    def _evaluated(self, expression: str, magic: str) -> Any:
        """What an expression of the user gives. Raises UsageError."""
        if not expression.strip():
            raise UsageError(f"%{magic}: which ref? Write %{magic} REF")
        try:
            return self._shell.ev(expression)
        except Exception as error:  # the user's own
            raise UsageError(f"%{magic}: {type(error).__name__}: {error}") from None

    def _unfinished(self, backend: Backend) -> list[int]:
        if backend.history is not None:
            return backend.history.unfinished()
        cells = [any_id for owner, any_id in self._cells if owner is backend]
        return [*cells, *(ref._id for ref in self._screen.unsettled_refs() if ref._backend is backend)]


def _refs_in(value: Any, expression: str, magic: str) -> list[ObjectRef[Any]]:
    """The refs inside of what an expression gave. Raises UsageError."""
    found = [ref for ref in output_history.all_refs(value) if isinstance(ref, ObjectRef)]
    if not found:
        raise UsageError(f"%{magic}: {expression.strip()} is no ref, and has none inside")
    return list(dict.fromkeys(found))


def _in_place(error: IPyRemoteError) -> list[str]:
    """A traceback as if the cell had run in the notebook."""
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
    """What a cluster has, for its card. Waits for the scheduler's answer."""
    total, _ = backend.resources()
    number = "{:g}".format
    amounts = {"CPUs": ("CPU", number), "GPUs": ("GPU", number), "store": ("object_store_memory", bytes_text)}
    return tuple((title, show(total[name])) for title, (name, show) in amounts.items() if total.get(name))
