"""Sessions that another process has started: how a process of the same user finds, asks, visits or takes over one.

A session has a file `session` in its directory, mode 0600: what a process must know to join, the secret included, and
whose it is. The scheduler knows the rest: whether a driver is there, and what is saved.

Rules. Looking takes nothing: it is a driver that joins, asks, and leaves. A guest works in a session beside its driver,
and leaves it as it is. An heir takes over a session that has outlived its driver: of two that try, one is refused.
Whoever joined watches the scheduler's process by its descriptor, for it is not the joiner's child.
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
from ipyremote.ids import FIRST_JOINED_CLIENT, SCHEDULER
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
#: How long the scheduler may take to stop its workers and itself before it is killed.
STOP_SECONDS: Final = 5.0
#: Lines of the scheduler's log that go into the error about its death.
LOG_LINES: Final = 10
#: How long a scheduler may take to say what is saved. Nobody waits for one that is stopped or starts just now.
LOOK_SECONDS: Final = 2.0

_MARK: Final = "session"


def origin() -> list[str]:
    """What tells programs apart and is the same for a notebook's kernel before and after its restart."""
    with contextlib.suppress(OSError):
        return [os.getcwd(), *(word for word in getattr(sys, "argv", ()) if isinstance(word, str))]
    return ["/"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the file `session` says."""

    #: Process id of the scheduler.
    pid: int
    key: str
    secret: bytes
    #: Bytes that the object store may hold.
    capacity: int
    #: For how many seconds the session outlives its driver; 0: not at all.
    keep_alive: float
    #: The arguments of the `init` that started it.
    terms: dict[str, Any]
    #: See `origin`.
    origin: list[str] = field(default_factory=origin)


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session of this user that lives."""

    path: Path
    mark: Mark

    @property
    def is_ours(self) -> bool:
        """Whether this program, or this kernel before its restart, has started it."""
        return self.mark.origin == origin()


def places() -> set[Path]:
    """Where session directories can be."""
    known = settings.read()
    chosen = (known.temp_dir, known.object_spilling_directory)
    temporary = (Path(tempfile.gettempdir()), settings.LARGE_TEMP_DIR)
    return {Path("/dev/shm"), *temporary, *(path for path in chosen if path is not None)}


def write_mark(path: Path, mark: Mark) -> None:
    """Let a later process find this session."""
    text = json.dumps({**asdict(mark), "secret": mark.secret.hex()}, default=float)
    hidden = path / f".{_MARK}"
    with open(hidden, "x", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        file.write(text)
    # Under its name it is complete.
    os.rename(hidden, path / _MARK)


def find() -> list[FoundSession]:
    """The sessions of this user that may outlive their drivers, with and without a driver. Takes nothing, and costs a
    few milliseconds."""
    return [session for session in running() if session.mark.keep_alive]


def running() -> list[FoundSession]:
    """All sessions of this user that run where this process would start its own, the latest first."""
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
    """The session in this directory, if there is one of this user."""
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
    except (OSError, ValueError, TypeError, KeyError):  # not one, not ours, not whole, or of another version
        return None
    return mark if _is_held(path) else None


def _is_held(path: Path) -> bool:
    """Whether the session's processes live."""
    fd = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def look(kept: FoundSession) -> KeptReply | None:
    """What is saved in a session. None: it is gone, or does not answer."""
    # Imported here, because starting a cluster needs none of it.
    from ipyremote.wire.connection import Connection

    try:
        alive = os.pidfd_open(kept.mark.pid)
    except (OSError, AttributeError):  # The session has ended, or this system (not Linux) keeps none.
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
    """Work in a session beside its driver. Raises ClusterLostError when it has ended meanwhile."""
    return _enter(kept, _Joiner(kept))


def join(kept: FoundSession) -> tuple[Session, KeptReply]:
    """Be the driver of a session that has none.

    Raises ClusterLostError when it has ended meanwhile, RuntimeError when another process was faster.
    """
    joiner = _Joiner(kept)
    session = _enter(kept, joiner)
    try:
        reply = session.requests.claim()
        if reply.is_taken:
            raise RuntimeError(
                "Another process has recovered this session meanwhile, and a session has one driver at a time. "
                "What it does not need any more can be had when it has ended."
            )
    except BaseException:
        # With nothing claimed, this only leaves.
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


def _number() -> int:
    return FIRST_JOINED_CLIENT + secrets.randbelow(SCHEDULER - FIRST_JOINED_CLIENT)


class _LocalKeeper:
    """How the sessions of this machine are found again. Method contracts are those of `backend.registry.Keeper`."""

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
    """Who joined a session, as its owner: the scheduler is not its child."""

    def __init__(self, kept: FoundSession) -> None:
        self._path = kept.path
        #: Whether the session ends with a goodbye of this process.
        self.has_claimed = False
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError(
                "joining a session of another process needs Linux: elsewhere nobody but its parent can follow its end"
            )
        try:
            #: Readable when the scheduler has ended.
            self.alive = os.pidfd_open(kept.mark.pid)
        except OSError as error:
            raise ClusterLostError("The session has just ended.") from error

    def call_off(self) -> bool:
        """It has started: somebody has worked in it."""
        return False

    def stop(self) -> None:
        """See the scheduler end; kill it if it does not; remove the directory."""
        if self.has_claimed:
            if not self._has_ended(STOP_SECONDS):
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self.alive, signal.SIGKILL)
                self._has_ended(STOP_SECONDS)
            self._remove()
        self.close()

    def obituary(self) -> str:
        """The scheduler's last words; removes the directory."""
        words = last_lines(self._path)
        self._remove()
        return words

    def close(self) -> None:
        """Watch no more. Idempotent."""
        if self.alive >= 0:
            alive, self.alive = self.alive, -1
            os.close(alive)

    def _has_ended(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self.alive, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def _remove(self) -> None:
        # The scheduler has removed it, if it could.
        with contextlib.suppress(OSError):
            SessionDirectory.attach(self._path).remove()


def last_lines(path: Path) -> str:
    """The end of the scheduler's log in a session directory, to be appended to an error message."""
    try:
        lines = (path / LOG).read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return ""
    return "\nIts last words:\n" + "\n".join(lines) if lines else ""
