"""The sessions of `%%remote -s`, as the notebook sees them: which there are, and what each has got already.

A session is an actor (`remote_cells/sessions.py`), started by the first cell that names it. Rules. A name is sent to a
session when a cell reads it for the first time, and again when the notebook has bound it to another object; functions
and classes are sent each time, because what they use may have changed. What a cell of the session binds is the
session's own from then on, and is sent only if the cell names it behind -i. A session whose process died is started
afresh, empty, by the next cell that names it.
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
from ipyremote.notebook.cells.cell_arguments import CellArguments
from ipyremote.notebook.cells.inputs import SameObject
from ipyremote.notebook.display.html import bytes_text
from ipyremote.remote_cells.sessions import CellSession, Variable
from ipyremote.session.recovery import joined, recover, recoverable

__all__ = ["NAME_PREFIX", "Sessions"]

#: Seconds that `%remote_sessions` waits for a session's answer, and variables that it lists.
_PATIENCE: Final = 1.0
_LISTED: Final = 20
#: What a session is called among the names that outlive a kernel.
NAME_PREFIX: Final = "%%remote -s "


@dataclass(slots=True)
class _OpenSession:
    """One session."""

    handle: ActorHandle
    backend: Backend
    #: Options that its first cell gave.
    options: tuple[tuple[str, Any], ...]
    #: Names that its cells bind.
    own: set[str] = field(default_factory=set)
    #: What was sent, by name.
    sent: dict[str, SameObject] = field(default_factory=dict)
    #: It has lost its process, or is about to.
    dead: bool = False


class Sessions:
    """All sessions of a notebook. Used by the user's cells only."""

    def __init__(self) -> None:
        self._class = ActorClass(CellSession, {})
        self._sessions: dict[str, _OpenSession] = {}
        #: Handles by what they are called for a kernel that comes later.
        self.handles: dict[str, ActorHandle] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._sessions))

    def need(
        self, name: str, backend: Backend, values: Mapping[str, Any], asked: Iterable[str]
    ) -> dict[str, Any]:
        """Those of the values that the session lacks."""
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
        job: tuple[Any, FunctionType, tuple[str, ...]],
        values: Mapping[str, Any],
        shipped: Mapping[str, Any],
        bound: Iterable[str],
    ) -> tuple[int, str]:
        """Run a cell in its session. `values`: what `need` gave; `shipped`: the same as it is sent; `bound`: names that
        the cell binds."""
        assert arguments.session is not None, "it runs in a session"
        session = self._session(arguments.session, backend, arguments.options)
        asked = arguments.inputs or ()
        options = method_options({"num_returns": 1 + len(arguments.outputs), "name": arguments.label}, 0)
        cell, home, names = job
        first, label = backend.call(
            session.handle._id,
            "CellSession",
            "run",
            (cell, home, names, asked, *shipped.values()),
            {},
            options,
        )
        session.sent.update((name, SameObject(value)) for name, value in values.items())
        session.own.difference_update(asked)
        session.own.update(bound)
        backend.on_ready(first, lambda object_id: self._on_ended(session, object_id, label))
        return first, label

    def end(self, name: str) -> None:
        """Stop a session, whatever it is doing. Raises UsageError for one that is not there."""
        self._take_over()
        session = self._sessions.pop(name, None)
        if session is None:
            known = ", ".join(self._sessions) or "none"
            raise UsageError(f"%remote_sessions: there is no session {name!r}; there are: {known}")
        del self.handles[NAME_PREFIX + name]
        session.backend.kill(session.handle._id)

    def forget(self, backend: Backend) -> None:
        """Those of a backend that has ended."""
        for name, session in tuple(self._sessions.items()):
            if session.backend is backend:
                del self._sessions[name], self.handles[NAME_PREFIX + name]

    def listing(self) -> list[str]:
        """Lines about each session and its variables. Waits a moment for their answers."""
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
        """Those of an earlier kernel, when this one has recovered its cluster, are sessions like any other."""
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
                    f"ipyremote: the session {name} had lost its process; it starts afresh, without its variables."
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

    def _on_ended(self, session: _OpenSession, object_id: int, label: str) -> None:
        """A cell has ended. If it never ran, what was sent with it did not arrive."""
        error = _failure(session.backend, object_id)
        if isinstance(error, ActorError):
            session.dead = True
        elif error is not None and not (isinstance(error, TaskError) and error.label == label):
            session.sent.clear()


def _recovered(name: str, backend: Backend) -> ActorHandle | None:
    """The session of that name of an earlier kernel, if this one has taken over its cluster."""
    try:
        handle = recover(NAME_PREFIX + name, session=backend.key)
    except (LookupError, RuntimeError):  # it was not taken over, or had no such session
        return None
    return handle if isinstance(handle, ActorHandle) else None


def _warn_of_kept(name: str) -> None:
    """Say so when an earlier kernel has left a session of that name, and this one is about to start another."""
    if any(found.is_ours and NAME_PREFIX + name in found.names for found in recoverable()):
        print(
            f"ipyremote: an earlier run has left a session {name}; this is a new one. To have the other, begin with "
            "ipyremote.recover(all=True), after %remote_shutdown."
        )


def _has(session: _OpenSession, name: str, value: Any) -> bool:
    sent = session.sent.get(name)
    return sent is not None and not isinstance(value, FunctionType | type) and sent.is_(value)


def _failure(backend: Backend, object_id: int) -> BaseException | None:
    """What became of a task that has ended, without counting as asking for it."""
    if backend.history is not None:
        return backend.history.failure(object_id)
    try:
        backend.get([object_id], timeout=0)
    except Exception as error:  # the failure
        return error
    return None


def _variables(session: _OpenSession) -> tuple[str, list[Variable]]:
    """(state, variables)"""
    if session.dead:
        return "dead; the next cell that names it starts it afresh", []
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
        # No ObjectRef stands for the answer, so nobody else gives it back.
        backend.release(object_id)
    count = len(found)
    return f"idle, {count} variable{'s' * (count != 1)}", found
