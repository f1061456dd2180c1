"""`recover`: the values of an ended program's names, which a session with `keep_alive` has kept for the next program.

The usual case is a restarted kernel: the refs and actors of its names are kept, and running tasks go on.

Actors with names of their own (`.options(name=...)`) are recovered by these names, too. After the session was joined,
`get_actor` finds the actors in the same namespaces as before.

Rules. `recover()` and `recoverable()` list names and change nothing. The first `recover(name)` joins the kept session,
which becomes the session of this process, as if it had been started here; this process must not have used another
session. Names stay recoverable until they are recovered or their time is over, and recovered values live as long as
there are refs. Sessions of the same program (for a kernel: the same kernel before its restart) come first.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ipyremote.actor import ActorHandle
from ipyremote.backend import Backend, KeptName, KeptNames, KeptSession, Recovery, current, registry, required
from ipyremote.backend.registry import Keeper
from ipyremote.declare.methods import ActorRecord
from ipyremote.session import lifecycle

__all__ = ["Recoverable", "RecoverableSession", "joined", "recover", "recoverable"]


@dataclass(frozen=True, slots=True)
class RecoverableSession:
    """A kept session without a driver, and the names that can be recovered from the session."""

    #: Key of the session, in hexadecimal digits; `recover(session=...)` takes the first few digits.
    key: str
    #: Description and state by name, such as ("train#1", "running") or ("8 refs", "5 done, 3 running").
    names: dict[str, tuple[str, str]]
    #: Time for which the session is kept from now on, in seconds.
    seconds: float
    #: Whether this program, or this kernel before its restart, has left the session.
    is_ours: bool
    #: Working directory of the program that has left the session.
    directory: str

    def __str__(self) -> str:
        """Return a sentence about the session, for a notice."""
        some = ", ".join(list(self.names)[:5]) + (", ..." if len(self.names) > 5 else "")
        who = "the last run" if self.is_ours else f"another program (in {self.directory})"
        return f"{who} has left {some}, kept for {_duration(self.seconds)} more: see ipyremote.recover()"


@dataclass(slots=True)
class _RecoveredSession:
    """The session that this process has joined."""

    backend: Backend
    recovery: Recovery
    #: Names that this process has recovered.
    taken: dict[str, KeptName]


class _RecoveredSlot:
    """The only slot for a joined session of this process; changed inside `lifecycle.changing()` only."""

    recovered: _RecoveredSession | None = None


class Recoverable(Mapping[str, str]):
    """The result of `recover()`: a snapshot of the recoverable names with their states."""

    def __init__(self, found: RecoverableSession | None, others: list[RecoverableSession]) -> None:
        self._found = found
        self._others = others

    def __getitem__(self, name: str) -> str:
        return self._names[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def _names(self) -> dict[str, tuple[str, str]]:
        return self._found.names if self._found is not None else {}

    @property
    def seconds(self) -> float:
        """Time for which the names are kept, in seconds from the snapshot on."""
        return self._found.seconds if self._found is not None else 0.0

    def discard(self) -> None:
        """End the session that keeps the names, at once.

        Raises RuntimeError when another program has recovered the session.
        """
        if self._found is None:
            return
        with lifecycle.changing():
            recovered = _recovered()
            if recovered is not None and recovered.backend.key == self._found.key:
                lifecycle.shutdown()
                return
            keeper = _keeper()
            for session in keeper.find():
                if session.key == self._found.key:
                    keeper.take_over(session).shutdown()

    def _sentences(self) -> list[str]:
        lines = []
        if self._found is None:
            lines.append(
                "Nothing is kept. A cluster started with init(keep_alive=...) keeps the values of names when its "
                "program ends."
            )
        else:
            what = "1 name is" if len(self) == 1 else f"{len(self)} names are"
            where = "" if self._found.is_ours else f" of a program in {self._found.directory}"
            lines.append(
                f"{what} kept{where} for {_duration(self.seconds)} more; recover(name) gives one back, "
                "recover(all=True) all of them:"
            )
        lines += [
            f"Another session, {other.key[:8]} of a program in {other.directory}, keeps {', '.join(other.names)}: "
            f'recover(..., session="{other.key[:8]}").'
            for other in self._others
        ]
        return lines

    def __repr__(self) -> str:
        head, *rest = self._sentences()
        rows = [(name, what, state) for name, (what, state) in self._names.items()]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        table = [f"  {name:<{widths[0]}}  {what:<{widths[1]}}  {state}" for name, what, state in rows]
        return "\n".join([head, *table, *rest])

    def _repr_html_(self) -> str:
        head, *rest = map(html.escape, self._sentences())
        rows = "".join(
            f"<tr><th scope='row'>{name}</th><td>{what}</td><td>{state}</td></tr>"
            for name, what, state in (map(html.escape, (name, *look)) for name, look in self._names.items())
        )
        table = f"<table>{rows}</table>" if rows else ""
        return f"<div class='ipyremote-recoverable'>{head}{table}{'<br>'.join(rest)}</div>"


def recoverable() -> list[RecoverableSession]:
    """Return the kept sessions of this user without a driver, those of this program first, then the latest first.

    The sessions are not changed. The search takes a few milliseconds if there are none.
    """
    return [found for _, found in _found()]


def joined() -> list[str]:
    """Return the names in the kept session that this process has joined, recovered names included."""
    recovered = _recovered()
    if recovered is None:
        return []
    return list(
        dict.fromkeys([*(kept.name for kept in recovered.recovery.kept_names().names), *recovered.taken])
    )


def recover(
    names: str | Iterable[str] | None = None,
    *,
    all: bool = False,
    session: str | None = None,
) -> Any:
    """Return values that an ended program, such as this kernel's last run, left in a session with `keep_alive`.

    The first call with a name makes the kept session that of this process. `recover()` only lists the names.

    Parameters
    ----------
    names : str or iterable of str, optional
        Names of the program's variables. By default a table of the names and their states is returned.
    all : bool, default False
        Recover every name.
    session : str, optional
        The first digits of the session's key, if several sessions are kept.

    Returns
    -------
    object
        For one name its value: a ref, the handle of an actor, or a list, tuple or dict of refs and handles. For several
        names, or `all`, a dict from names to values. Without names a table to look at.

    Raises
    ------
    LookupError
        A name is not kept, or not any more.
    RuntimeError
        This process uses another session already, or another process has recovered the kept session.
    TypeError, ValueError
        `names` is not a collection of strings, or is given together with `all`.

    Examples
    --------
    >>> try:
    ...     ray.recover("model")
    ... except (LookupError, RuntimeError) as error:
    ...     print("nothing is kept here")
    nothing is kept here
    """
    wanted = [names] if isinstance(names, str) else None if names is None else list(names)
    for name in wanted or ():
        if not isinstance(name, str):
            raise TypeError(f"recover() takes names, not {type(name).__name__}: {name!r}")
    if wanted is not None and all:
        raise ValueError("recover() takes names or all=True, not both")
    if wanted is None and not all:
        return _table(session)
    with lifecycle.changing():
        recovered = _recovered()
        if recovered is None or (session is not None and not recovered.backend.key.startswith(session)):
            recovered = _join(session, "everything" if wanted is None else ", ".join(wanted))
        taken = _take(recovered, wanted)
    return taken[names] if isinstance(names, str) else taken


# ---------------------------------------------------------------------------------------------------------- looking


def _recovered() -> _RecoveredSession | None:
    """Return the kept session that this process has joined, if it is still the current session."""
    recovered = _RecoveredSlot.recovered
    if recovered is None or recovered.backend is not current.peek() or recovered.backend.ended:
        return None
    return recovered


def _found() -> list[tuple[KeptSession, RecoverableSession]]:
    running = current.peek()
    keeper = _keeper()
    found = []
    for session in keeper.find():
        if running is not None and session.key == running.key:
            continue
        kept = keeper.look(session)
        if kept is not None and kept.names:
            found.append((session, _as_found(kept, session.key, session.is_ours, session.directory)))
    return sorted(found, key=lambda pair: (not pair[1].is_ours, pair[0].keep_alive - pair[1].seconds))


def _keeper() -> Keeper:
    """Return the keeper of the default engine, whose sessions are the only ones that are kept."""
    keeper = registry.engine(registry.DEFAULT).keeper
    assert keeper is not None, "sessions of processes on this machine can be kept"
    return keeper


def _as_found(kept: KeptNames, key: str, is_ours: bool, directory: str) -> RecoverableSession:
    names = {name.name: (_described(name), name.state) for name in kept.names}
    return RecoverableSession(key, names, kept.seconds, is_ours, directory)


def _described(kept: KeptName) -> str:
    count = len(kept.ids)
    return f"{count} refs" if count > 1 else kept.label or "value"


def _table(session: str | None) -> Recoverable:
    others = [found for found in recoverable() if session is None or found.key.startswith(session)]
    recovered = _recovered()
    if recovered is not None and (session is None or recovered.backend.key.startswith(session)):
        kept = recovered.recovery.kept_names()
        if kept.names:
            return Recoverable(_as_found(kept, recovered.backend.key, True, ""), others)
    return Recoverable(others[0], others[1:]) if others else Recoverable(None, [])


# ----------------------------------------------------------------------------------------------------------- taking


def _join(key: str | None, what: str) -> _RecoveredSession:
    """Join a kept session, and make it the session of this process. `what` names what is asked for, in errors."""
    running = current.peek()
    keeper = _keeper()
    if running is not None and key is not None and running.key.startswith(key):
        raise LookupError(f"{what}: this session was started here, so it has nothing to recover.")
    if running is not None and running.is_worker:
        raise RuntimeError("recover() is for the program that starts tasks, not for a task.")
    if running is not None and not lifecycle.is_unused(running) and not running.ended:
        raise RuntimeError(
            "This process uses a cluster of its own already, and a process has one cluster at a time. Call recover() "
            "before anything else, or shutdown() first, which drops all values of the present cluster."
        )
    found = [pair for pair in _found() if key is None or pair[1].key.startswith(key)]
    if not found:
        raise _nothing(what, keeper.find())
    chosen, first = found[0]
    if key is None and len(found) > 1 and not first.is_ours:
        keys = ", ".join(f"{other.key[:8]} (in {other.directory})" for _, other in found)
        raise LookupError(f"Several programs have left sessions; choose one by session=...: {keys}")
    backend = keeper.take_over(chosen)
    recovery = required(backend.recovery, backend.capabilities.keep_alive)
    try:
        lifecycle.adopt(backend, chosen.arguments)
    except BaseException:
        # A shutdown would end the session. Leaving keeps the session, so that its names can still be recovered.
        recovery.leave()
        raise
    _RecoveredSlot.recovered = recovered = _RecoveredSession(backend, recovery, {})
    return recovered


def _nothing(what: str, sessions: list[KeptSession]) -> Exception:
    """Return the error to raise when none of these sessions can be joined."""
    running = current.peek()
    used = [session for session in sessions if running is None or session.key != running.key]
    if any(session.is_ours for session in used):
        return RuntimeError(
            f"{what}: another process has recovered the session of the last run, and a session has one driver at a "
            "time. The saved names can be recovered again after that process has ended."
        )
    others = " (Sessions of other programs are in use, and have nothing to recover.)" if used else ""
    return LookupError(
        f"{what}: nothing is kept. Its time is over, or its cluster was not started with init(keep_alive=...).{others}"
    )


def _take(recovered: _RecoveredSession, wanted: list[str] | None) -> dict[str, Any]:
    """Return the values of these names (None: of all names that are left), which this process holds from now on."""
    recovery = recovered.recovery
    left = {kept.name: kept for kept in recovery.kept_names().names}
    again = {} if wanted is None else recovered.taken
    chosen: dict[str, KeptName] = {}
    for name in left if wanted is None else wanted:
        kept = left.get(name) or again.get(name)
        # A value that was recovered before is returned again as long as this process has refs to it.
        if kept is None or (name not in left and not recovery.has_refs(kept.ids)):
            has = f"there are: {', '.join(left)}" if left else "nothing is left"
            gone = (
                "was recovered before, and its last ref was released" if kept is not None else "is not kept"
            )
            raise LookupError(f"{name!r} {gone}; {has}.")
        chosen[name] = kept
    values = {name: _revived(recovered.backend, kept) for name, kept in chosen.items()}
    recovered.taken.update(chosen)
    recovery.take([name for name in chosen if name in left])
    return values


def _revived(backend: Backend, kept: KeptName) -> Any:
    from ipyremote.serialization import pickling

    value = pickling.loads(kept.payload)
    if not isinstance(value, ActorRecord):
        return value
    # The record of an actor with a name of its own; a variable's value would be pickled as a handle.
    (actor_id,) = kept.ids
    backend.hold(actor_id)
    return ActorHandle(actor_id, backend, kept.label, value)


def _duration(seconds: float) -> str:
    """Return a time such as "9 min 48 s"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    parts = [f"{hours} h" * bool(hours), f"{minutes} min" * bool(minutes)]
    if not hours:
        parts.append(f"{whole % 60} s")
    return " ".join(part for part in parts if part)
