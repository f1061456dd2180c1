"""The session directory: everything of a session that has a name in a file system, so that removing it removes all.

    ipyremote-<12 hex digits>/     mode 0700
        lock                       held with flock while the session lives
        s                          the scheduler's socket
        session                    how to join it, the secret included
        usage, seg-*               the store
        spill                      a link to a directory of the same kind on a disk, for what has no room here
        (whatever else the session's programs put there)

Rules. What is linked as `spill` goes before the directory does. The directory appears under its name with its lock
held, so one whose lock is free belongs to nobody: `sweep` removes it. It disappears from its name before it is
emptied, so that no program still alive can add to it meanwhile. Under construction and under removal it is called
`.ipyremote-<12 hex digits>`.

The lock belongs to the open file, not to a process: it is held until every process that has this descriptor has closed
it or ended. Descriptors are closed by exec unless handed on deliberately.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ipyremote.settings import SHM_WORTHWHILE, shm_free

__all__ = ["PREFIX", "SPILL_LINK", "SessionDirectory", "choose_base", "sweep"]

PREFIX: Final = "ipyremote-"
SPILL_LINK: Final = "spill"
_SHARED_MEMORY: Final = Path("/dev/shm")
#: A Unix socket's path has less than this many bytes on every system (macOS: 104, Linux: 108).
_LONGEST_SOCKET_PATH: Final = 103
_NAME: Final = re.compile(r"\.?ipyremote-[0-9a-f]{12}")
_NAME_LENGTH: Final = len(PREFIX) + 12
#: Seconds after which a hidden directory without a lock file is not under construction any more.
_ABANDONED: Final = 60.0
_REMOVAL_TRIES: Final = 10


class SessionDirectory:
    """A session directory that exists. Made by `create`, `adopt` or `attach`."""

    def __init__(self, path: Path, lock_fd: int | None) -> None:
        self.path = path
        #: Keeps the lock; None in a process that only uses the directory, and after `close`. To let another program
        #: keep it too, pass it on (`pass_fds`) and `adopt` it there.
        self.lock_fd = lock_fd
        #: The directory that is linked as `spill`, in the process that made it.
        self.spill: SessionDirectory | None = None

    @classmethod
    def create(cls, capacity: int, base: Path | None = None) -> SessionDirectory:
        """Make a new one and hold its lock. `base`: where; None: as `choose_base` says for a store of `capacity`."""
        base = choose_base(capacity)[0] if base is None else base
        while True:
            name = PREFIX + secrets.token_hex(6)
            hidden = base / f".{name}"
            hidden.mkdir(mode=0o700)
            # A umask may have taken bits away, and a default ACL may have added some.
            hidden.chmod(0o700)
            lock_fd = _open_lock(hidden, create=True)
            # A sweeper may come between any two of these lines and win: then begin again.
            if lock_fd is None or not _try_lock(lock_fd):
                _close(lock_fd)
                continue
            try:
                os.rename(hidden, base / name)
            except FileNotFoundError:
                os.close(lock_fd)
                continue
            except BaseException:
                os.close(lock_fd)
                raise
            return cls(base / name, lock_fd)

    @classmethod
    def adopt(cls, path: Path, lock_fd: int | None) -> SessionDirectory:
        """Use an existing one and keep its lock, too. `lock_fd` was inherited from the process that made it.

        Raises PermissionError when it is not safe: not ours, open to others, or a symbolic link.
        """
        _check(path)
        if lock_fd is not None:
            os.set_inheritable(lock_fd, False)
        return cls(path, lock_fd)

    @classmethod
    def attach(cls, path: Path) -> SessionDirectory:
        """Use an existing one. Raises PermissionError as `adopt` does."""
        return cls.adopt(path, None)

    @property
    def socket_path(self) -> Path:
        """Where the scheduler listens."""
        return self.path / "s"

    def spill_to(self, base: Path) -> SessionDirectory:
        """Make a directory in `base` for what has no room here. Raises OSError."""
        self.spill = SessionDirectory.create(0, base.resolve())
        os.symlink(self.spill.path, self.path / SPILL_LINK)
        return self.spill

    def close(self) -> None:
        """Let go of the lock in this process; the directory stays. Idempotent."""
        if self.spill is not None:
            self.spill.close()
        lock_fd, self.lock_fd = self.lock_fd, None
        _close(lock_fd)

    def remove(self) -> None:
        """Remove it with all that is in it. Idempotent, also when another process does the same at the same time."""
        _remove(self.path)
        self.close()


def choose_base(capacity: int) -> tuple[Path, str | None]:
    """Where to make a session directory for a store of `capacity` bytes: (directory, a warning for the user).

    Shared memory, unless too little of it is free: containers often have 64 MB.
    """
    free = shm_free(str(_SHARED_MEMORY)) if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else 0
    if free >= min(capacity, SHM_WORTHWHILE):
        return _SHARED_MEMORY, None
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base / ("x" * _NAME_LENGTH) / "s")) > _LONGEST_SOCKET_PATH:
        base = Path("/tmp")
    return base, (
        f"Only {free >> 20} MiB of shared memory are free in {_SHARED_MEMORY}, so large objects are kept in files "
        f"under {base}, which is slower. To avoid that, give the container more (docker run --shm-size=2g)."
    )


def sweep(bases: Iterable[Path]) -> list[Path]:
    """Remove the session directories of this user that nobody holds, such as after a power cut. Returns their paths."""
    swept = []
    for base in bases:
        with suppress(OSError):
            for entry in list(os.scandir(base)):
                if _NAME.fullmatch(entry.name) and _sweep_one(Path(entry.path)):
                    swept.append(Path(entry.path))
    return swept


def _sweep_one(path: Path) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        lock_fd = _open_lock(path, create=False)
    except OSError:
        return False
    if lock_fd is None:
        # One with its name has its lock file until its removal began. A hidden one may be a moment old.
        if path.name.startswith(".") and time.time() - status.st_mtime < _ABANDONED:
            return False
        _remove(path)
        return True
    try:
        if not _try_lock(lock_fd):
            return False
        # While this is held, whoever constructs the directory sees that it lost.
        _remove(path)
        return True
    finally:
        os.close(lock_fd)


def _remove(path: Path) -> None:
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}")
    # Gone: removed by another process, which may have died before it was done.
    with suppress(FileNotFoundError):
        os.rename(path, hidden)
    _remove_linked(hidden)
    for _ in range(_REMOVAL_TRIES):
        # What appears while it is being emptied is caught by the next round.
        shutil.rmtree(hidden, ignore_errors=True)
        if not os.path.lexists(hidden):
            return


def _remove_linked(path: Path) -> None:
    """Remove what is linked as `spill`, if it is what it should be."""
    with suppress(OSError):
        linked = Path(os.readlink(path / SPILL_LINK))
        status = linked.lstat()
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        if ours and _NAME.fullmatch(linked.name):
            _remove(linked)


def _check(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{path} is not a session directory: it is a link or a file")
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {status.st_uid}, but user {os.geteuid()} runs this")
    mode = stat.S_IMODE(status.st_mode)
    if mode != 0o700:
        raise PermissionError(f"{path} is open to others: its mode is {mode:o} and should be 700")


def _open_lock(path: Path, *, create: bool) -> int | None:
    """None: there is no lock file, or no such directory."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0)
    try:
        return os.open(path / "lock", flags, 0o600)
    except FileNotFoundError:
        return None


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
