"""The notebook's side of the sessions of `%%remote -s`: the running sessions, and the values that each session has.

A session is an actor (`remote_cells/sessions.py`), which the first cell with the session's name starts.

- A name is sent to a session when a cell reads the name for the first time, and again when the notebook has bound the
  name to another object. Functions and classes are sent each time, because the names that they use may have changed.
- A name that a cell of the session binds is the session's own from then on. Such a name is sent only if a cell has the
  name behind -i.
- A session whose process has died is started again, empty, by the next cell with the session's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Final

from IPython.core.error import UsageError

from ipyremote.actor import ActorClass, ActorHandle
from ipyremote.backend import Backend, current
from ipyremote.declare.options import method_options
from ipyremote.exceptions import ActorError, GetTimeoutError, IPyRemoteError, TaskError
from ipyremote.ids import ObjectId, TaskId
from ipyremote.notebook.cells.cell_arguments import CellArguments
from ipyremote.notebook.cells.inputs import PackedInputs, SameObject
from ipyremote.notebook.display.html import bytes_text
from ipyremote.remote_cells.cell import Cell
from ipyremote.remote_cells.sessions import CellSession, Variable
from ipyremote.session.recovery import joined, recover, recoverable

__all__ = ["NAME_PREFIX", "Sessions"]

#: Time that `%remote_sessions` waits for a session's answer, in seconds, and number of variables listed for a session.
_PATIENCE: Final = 1.0
_LISTED: Final = 20
#: Prefix of the sessions' names among the names that outlive a kernel.
NAME_PREFIX: Final = "%%remote -s "


@dataclass(slots=True)
class _OpenSession:
    """A session that this kernel has started or recovered."""

    #: Handle of the session's actor.
    handle: ActorHandle[Any]
    backend: Backend
    #: Options of the session's first cell.
    options: tuple[tuple[str, Any], ...]
    #: Names that cells of the session bind.
    own: set[str] = field(default_factory=set)
    #: Values that were sent, by name.
    sent: dict[str, SameObject] = field(default_factory=dict)
    #: Whether the session's process has died, or is about to.
    dead: bool = False


class Sessions:
    """All sessions of a notebook. Used by the user's cells only."""

    def __init__(self) -> None:
        self._class = ActorClass(CellSession, {})
        self._sessions: dict[str, _OpenSession] = {}
        #: Handles by the names under which a later kernel recovers them.
        self.handles: dict[str, ActorHandle[Any]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._sessions))

    def need(
        self, name: str, backend: Backend, values: Mapping[str, Any], asked: Iterable[str]
    ) -> dict[str, Any]:
        """Return those of the values that the session does not have; names in `asked` are always included."""
        session = self._found(name, backend)
        if session is None:
            return dict(values)
        return {
            key: value
            for key, value in values.items()
            if key in asked or (key not in session.own and not _has(session, key, value))
        }

    def submit(
        self,
        backend: Backend,
        arguments: CellArguments,
        cell: Cell,
        values: Mapping[str, Any],
        packed: PackedInputs,
        bound: Iterable[str],
    ) -> tuple[TaskId, str]:
        """Submit a cell to its session. Returns the first id and the label of the call.

        `values` are those that `need` returned, `packed` has the same values. `bound` has the names that the cell
        binds.
        """
        assert arguments.session is not None, "the cell runs in a session"
        session = self._session(arguments.session, backend, arguments.options)
        asked = arguments.inputs or ()
        options = method_options({"num_returns": 1 + len(arguments.outputs), "name": arguments.label}, 0)
        first, label = backend.call(
            session.handle._id,
            "CellSession",
            "run",
            (cell, packed.inputs, tuple(packed.refs), asked, *packed.refs.values()),
            {},
            options,
        )
        session.sent.update((name, SameObject(value)) for name, value in values.items())
        session.own.difference_update(asked)
        session.own.update(bound)
        backend.on_ready(first, lambda object_id: self._on_ended(session, object_id, label))
        return first, label

    def end(self, name: str) -> None:
        """Stop a session, even if a cell is running in it. Raises UsageError if there is no session of this name."""
        self._take_over()
        session = self._sessions.pop(name, None)
        if session is None:
            known = ", ".join(self._sessions) or "none"
            raise UsageError(f"%remote_sessions: there is no session {name!r}. Sessions: {known}")
        del self.handles[NAME_PREFIX + name]
        session.backend.kill(session.handle._id)

    def forget(self, backend: Backend) -> None:
        """Forget the sessions of a backend that has ended."""
        for name, session in tuple(self._sessions.items()):
            if session.backend is backend:
                del self._sessions[name], self.handles[NAME_PREFIX + name]

    def listing(self) -> list[str]:
        """Return lines about each session and its variables. Waits up to a second for each session's answer."""
        self._take_over()
        lines = []
        for name, session in self._sessions.items():
            state, variables = _variables(session)
            lines.append(f"{name}: {state}")
            width = max((len(variable[0]) for variable in variables[:_LISTED]), default=0)
            for variable, kind, size in variables[:_LISTED]:
                shown = "" if size is None else f", {bytes_text(size)}"
                lines.append(f"    {variable:{width}}  {kind}{shown}")
            if len(variables) > _LISTED:
                lines.append(f"    and {len(variables) - _LISTED} more")
        return lines

    def _take_over(self) -> None:
        """Add the sessions of an earlier kernel whose cluster this kernel has recovered."""
        backend = current.peek()
        names = [label.removeprefix(NAME_PREFIX) for label in joined() if label.startswith(NAME_PREFIX)]
        for name in names:
            if backend is not None and name not in self._sessions:
                handle = _recovered(name, backend)
                if handle is not None:
                    self._add(name, _OpenSession(handle, backend, ()))

    def _add(self, name: str, session: _OpenSession) -> _OpenSession:
        self._sessions[name] = session
        self.handles[NAME_PREFIX + name] = session.handle
        return session

    def _found(self, name: str, backend: Backend) -> _OpenSession | None:
        session = self._sessions.get(name)
        return session if session is not None and session.backend is backend and not session.dead else None

    def _session(self, name: str, backend: Backend, options: tuple[tuple[str, Any], ...]) -> _OpenSession:
        session = self._found(name, backend)
        if session is None:
            lost = self._sessions.get(name)
            if lost is not None and lost.dead and lost.backend is backend:
                print(
                    f"ipyremote: the process of the session {name} has died; "
                    "the session starts again, without variables."
                )
            handle = _recovered(name, backend)
            if handle is None:
                _warn_of_kept(name)
                handle = self._class.options(**dict(options)).remote()
            session = self._add(name, _OpenSession(handle, backend, options))
        elif options and options != session.options:
            raise UsageError(
                f"%%remote: the session {name!r} is running, so its resources cannot be chosen any more. "
                f"`%remote_sessions --end {name}` stops it."
            )
        return session

    def _on_ended(self, session: _OpenSession, object_id: ObjectId, label: str) -> None:
        """Note the end of a cell. The values that were sent with a cell that never ran have not arrived."""
        error = _failure(session.backend, object_id)
        if isinstance(error, ActorError):
            session.dead = True
        elif error is not None and not (isinstance(error, TaskError) and error.label == label):
            session.sent.clear()


def _recovered(name: str, backend: Backend) -> ActorHandle[Any] | None:
    """Return the handle of an earlier kernel's session of this name, if this kernel has recovered the cluster."""
    try:
        handle = recover(NAME_PREFIX + name, session=backend.key)
    except (LookupError, RuntimeError):  # the cluster was not recovered, or has no such session
        return None
    return handle if isinstance(handle, ActorHandle) else None


def _warn_of_kept(name: str) -> None:
    """Warn the user if an earlier kernel has left a session of this name; a new session is about to start."""
    if any(found.is_ours and NAME_PREFIX + name in found.names for found in recoverable()):
        print(
            f"ipyremote: an earlier run of this notebook has left a session {name}; this cell starts a new one. "
            "To get the earlier one back, run %remote_shutdown, then ipyremote.recover(all=True)."
        )


def _has(session: _OpenSession, name: str, value: Any) -> bool:
    sent = session.sent.get(name)
    return sent is not None and not isinstance(value, FunctionType | type) and sent.is_(value)


def _failure(backend: Backend, object_id: ObjectId) -> BaseException | None:
    """Return the failure of a task that has ended, or None. The failure still counts as unretrieved."""
    if backend.history is not None:
        return backend.history.failure(object_id)
    try:
        backend.get([object_id], timeout=0)
    except Exception as error:  # the failure
        return error
    return None


def _variables(session: _OpenSession) -> tuple[str, list[Variable]]:
    """Return a session's state in words, and its variables."""
    if session.dead:
        return "dead; the next cell with this name starts it again", []
    backend = session.backend
    object_id, _ = backend.call(
        session.handle._id, "CellSession", "variables", (), {}, method_options({"name": "_variables"}, 0)
    )
    try:
        found: list[Variable] = backend.get([object_id], timeout=_PATIENCE)[0]
    except GetTimeoutError:
        return "busy", []
    except IPyRemoteError as error:
        return str(error).strip().partition("\n")[0], []
    finally:
        # No ObjectRef stands for the answer, so the hold on it is given back here.
        backend.release(object_id)
    count = len(found)
    return f"idle, {count} variable{'s' * (count != 1)}", found
