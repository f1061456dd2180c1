"""Sessions that another process has started: how a process of the same user finds, inspects, visits or takes over one.

A session's directory has a file `session`, mode 0600, with all that a process must know to join, the secret included,
and with the program that started the session. The scheduler knows the rest: whether there is a driver, and what is
saved.

Rules. `look` changes nothing in a session: this process joins as one more driver, asks, and leaves. `visit` works in a
session beside the session's driver. `join` takes over a session that has outlived its driver; of two processes that
try, one is refused. A process that has joined watches the scheduler by a descriptor of the scheduler's process, because
the scheduler is not its child.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipyremote import settings
from ipyremote.backend import KeptNames, KeptSession
from ipyremote.exceptions import ClusterLostError
from ipyremote.ids import FIRST_JOINED_CLIENT, SCHEDULER, ClientId
from ipyremote.messages import Bye, Hello, Kept, KeptReply
from ipyremote.store.directory import PREFIX, SessionDirectory

if TYPE_CHECKING:
    from ipyremote.client.session import Session

__all__ = [
    "KEEPER",
    "LOG",
    "STOP_SECONDS",
    "FoundSession",
    "Mark",
    "at",
    "find",
    "join",
    "last_lines",
    "look",
    "origin",
    "places",
    "running",
    "visit",
    "write_mark",
]

#: The scheduler's log, in the session directory.
LOG: Final = "scheduler.log"
#: Time that the scheduler has to stop its workers and itself before it is killed, in seconds.
STOP_SECONDS: Final = 5.0
#: Number of lines of the scheduler's log in the error about the scheduler's end.
LOG_LINES: Final = 10
#: Time that a scheduler has to say what is saved, in seconds; a stopped or starting scheduler does not answer in time.
LOOK_SECONDS: Final = 2.0

#: Name of the file, in a session directory, by which other processes find the session.
_MARK: Final = "session"


def origin() -> list[str]:
    """Return the identity of this program: working directory and arguments, which a restarted kernel keeps."""
    with contextlib.suppress(OSError):
        return [os.getcwd(), *(word for word in getattr(sys, "argv", ()) if isinstance(word, str))]
    return ["/"]


@dataclass(frozen=True, slots=True)
class Mark:
    """The contents of the file `session`."""

    #: Process id of the scheduler.
    pid: int
    key: str
    secret: bytes
    #: Capacity of the object store, in bytes.
    capacity: int
    #: Time for which the session outlives its driver, in seconds; 0: the session ends with its driver.
    keep_alive: float
    #: Arguments of the `init` that started the session.
    terms: dict[str, Any]
    #: Identity of the program that started the session; see the function `origin`.
    origin: list[str] = field(default_factory=origin)


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A running session of this user."""

    path: Path
    mark: Mark

    @property
    def is_ours(self) -> bool:
        """Whether this program, or this kernel before its restart, has started the session."""
        return self.mark.origin == origin()


def places() -> set[Path]:
    """Return the directories that can contain session directories."""
    known = settings.read()
    chosen = (known.temp_dir, known.object_spilling_directory)
    temporary = (Path(tempfile.gettempdir()), settings.LARGE_TEMP_DIR)
    return {Path("/dev/shm"), *temporary, *(path for path in chosen if path is not None)}


def write_mark(path: Path, mark: Mark) -> None:
    """Write the file `session`, by which later processes find this session."""
    text = json.dumps({**asdict(mark), "secret": mark.secret.hex()}, default=float)
    hidden = path / f".{_MARK}"
    with open(hidden, "x", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        file.write(text)
    # Renamed when complete: a reader never sees half of the file.
    os.rename(hidden, path / _MARK)


def find() -> list[FoundSession]:
    """Return this user's sessions that may outlive their drivers, with and without a driver, in a few milliseconds.

    The sessions are not changed.
    """
    return [session for session in running() if session.mark.keep_alive]


def running() -> list[FoundSession]:
    """Return this user's sessions in the directories where this process would start its own, the latest first."""
    found = []
    chosen = settings.read().temp_dir
    for place in [chosen] if chosen else places():
        with contextlib.suppress(OSError):
            for path in place.glob(f"{PREFIX}*"):
                mark = _read_mark(path)
                if mark is not None:
                    found.append((path.stat().st_ctime_ns, FoundSession(path, mark)))
    return [session for _, session in sorted(found, key=lambda pair: (-pair[0], pair[1].path))]


def at(address: str) -> FoundSession | None:
    """Return the session in this directory; None if the directory has no running session of this user."""
    path = Path(address)
    mark = _read_mark(path) if path.is_absolute() else None
    return None if mark is None else FoundSession(path, mark)


def _read_mark(path: Path) -> Mark | None:
    try:
        SessionDirectory.attach(path)
        fd = os.open(path / _MARK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, encoding="utf-8") as file:
            fields = json.load(file)
        mark = Mark(**{**fields, "secret": bytes.fromhex(fields["secret"])})
    # The file is absent, another user's, damaged, or of another version.
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return mark if _is_held(path) else None


def _is_held(path: Path) -> bool:
    """Return whether the session's processes are running: they hold a lock on the file `lock`."""
    fd = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def look(kept: FoundSession) -> KeptReply | None:
    """Return the record of what is saved in a session; None if the session has ended or does not answer."""
    # Imported here, because starting a cluster does not need the connection.
    from ipyremote.wire.connection import Connection

    try:
        alive = os.pidfd_open(kept.mark.pid)
    except (
        OSError,
        AttributeError,
    ):  # the session has ended, or this system is not Linux and keeps no sessions
        return None
    connection = None
    try:
        hello = Hello(_number(), os.getpid(), "driver")
        connection = Connection(str(kept.path / "s"), kept.mark.secret, hello)
        connection.queue(Kept(1))
        connection.flush()
        poller = select.poll()
        poller.register(connection.fd, select.POLLIN)
        poller.register(alive, select.POLLIN)
        deadline = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < deadline:
            for message in connection.messages():
                if isinstance(message, KeptReply):
                    connection.queue(Bye())
                    return message
            if any(fd == alive for fd, _ in poller.poll(20)):
                return None
        return None
    finally:
        os.close(alive)
        if connection is not None:
            connection.close()


def visit(kept: FoundSession) -> Session:
    """Join a session beside its driver. Raises ClusterLostError when the session has ended meanwhile."""
    return _enter(kept, _Joiner(kept))


def join(kept: FoundSession) -> tuple[Session, KeptReply]:
    """Become the driver of a session that has none; return the session and the record of what is saved in it.

    Raises ClusterLostError when the session has ended meanwhile, RuntimeError when another process was faster.
    """
    joiner = _Joiner(kept)
    session = _enter(kept, joiner)
    try:
        reply = session.requests.claim()
        if reply.is_taken:
            raise RuntimeError(
                "Another process has recovered this session meanwhile, and a session has one driver at a time. "
                "The saved names can be recovered again after that process has ended."
            )
    except BaseException:
        # Nothing was claimed, so `shutdown` only leaves the session.
        session.shutdown()
        raise
    joiner.has_claimed = True
    return session, reply


def _enter(kept: FoundSession, joiner: _Joiner) -> Session:
    from ipyremote.client.session import Session
    from ipyremote.store.segments import SegmentStore

    number = _number()
    mark = kept.mark
    try:
        return Session(
            key=mark.key,
            client_id=number,
            socket_path=str(kept.path / "s"),
            secret=mark.secret,
            store=SegmentStore(kept.path, number, mark.capacity),
            alive=joiner.alive,
            owner=joiner,
            address=str(kept.path),
        )
    except BaseException as error:
        joiner.close()
        if isinstance(error, OSError):
            raise ClusterLostError(f"The session has just ended: {error}") from error
        raise


def _number() -> ClientId:
    return ClientId(FIRST_JOINED_CLIENT + secrets.randbelow(SCHEDULER - FIRST_JOINED_CLIENT))


class _LocalKeeper:
    """The keeper of the sessions on this machine. Method contracts are those of `backend.registry.Keeper`."""

    def find(self) -> list[KeptSession]:
        return [
            KeptSession(
                key=found.mark.key,
                address=str(found.path),
                directory=found.mark.origin[0],
                is_ours=found.is_ours,
                keep_alive=found.mark.keep_alive,
                arguments=found.mark.terms,
            )
            for found in find()
        ]

    def look(self, session: KeptSession) -> KeptNames | None:
        found = at(session.address)
        reply = None if found is None else look(found)
        if reply is None:
            return None
        from ipyremote.client.detached import kept_names

        return kept_names(reply)

    def take_over(self, session: KeptSession) -> Session:
        found = at(session.address)
        if found is None:
            raise ClusterLostError("The session has just ended.")
        return join(found)[0]


#: The keeper, for the engine.
KEEPER: Final = _LocalKeeper()


class _Joiner:
    """The owner of a session that this process has joined: the scheduler is not a child of this process."""

    def __init__(self, kept: FoundSession) -> None:
        self._path = kept.path
        #: Whether this process is the session's driver, with which the session ends.
        self.has_claimed = False
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError(
                "joining a session of another process needs Linux: elsewhere only the parent of a process can wait for "
                "its end"
            )
        try:
            #: File descriptor that is readable when the scheduler has ended; -1 when closed.
            self.alive = os.pidfd_open(kept.mark.pid)
        except OSError as error:
            raise ClusterLostError("The session has just ended.") from error

    def cancel_start(self) -> bool:
        """Return False: a session that was joined is past its start."""
        return False

    def stop(self) -> None:
        """Wait for the end of this driver's scheduler, kill the scheduler if it does not end, remove the directory."""
        if self.has_claimed:
            if not self._has_ended(STOP_SECONDS):
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self.alive, signal.SIGKILL)
                self._has_ended(STOP_SECONDS)
            self._remove()
        self.close()

    def explain_end(self) -> str:
        """Return the last lines of the scheduler's log, for an error message, and remove the directory."""
        words = last_lines(self._path)
        self._remove()
        return words

    def close(self) -> None:
        """Stop watching the scheduler. A second call does nothing."""
        if self.alive >= 0:
            alive, self.alive = self.alive, -1
            os.close(alive)

    def _has_ended(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self.alive, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def _remove(self) -> None:
        # The scheduler removes the directory at its own end, if it can: then there is nothing left to remove.
        with contextlib.suppress(OSError):
            SessionDirectory.attach(self._path).remove()


def last_lines(path: Path) -> str:
    """Return the end of the scheduler's log in a session directory, as text to append to an error message."""
    try:
        lines = (path / LOG).read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return ""
    return "\nThe last lines of its log:\n" + "\n".join(lines) if lines else ""
