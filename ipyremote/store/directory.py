"""The session directory, which holds everything of a session that has a name in a file system.

Removing the directory therefore removes all files of the session.

    ipyremote-<12 hex digits>/     mode 0700
        lock                       held with flock while the session lives
        s                          the scheduler's socket
        session                    how to join it, the secret included
        usage, seg-*               the store
        spill                      a link to a directory of the same kind on a disk, for objects without room here
        (other files of the session's programs)

Rules. The directory that `spill` links to is removed before the session directory. The session directory gets its name
with its lock held, so a directory whose lock is free belongs to nobody, and `sweep` removes it. Before the directory is
emptied it loses its name, so that no living program can add files meanwhile. While the directory is made or removed,
its name is `.ipyremote-<12 hex digits>`.

The lock belongs to the open file, not to a process: the lock is held until every process with the descriptor has closed
the descriptor or ended. Descriptors are closed by exec unless they are handed on deliberately.
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

#: Beginning of the name of every session directory.
PREFIX: Final = "ipyremote-"
#: Name of the link to the directory on disk.
SPILL_LINK: Final = "spill"
_SHARED_MEMORY: Final = Path("/dev/shm")
#: Longest path of a Unix socket that every system allows, in bytes (macOS allows less than 104, Linux less than 108).
_LONGEST_SOCKET_PATH: Final = 103
_NAME: Final = re.compile(r"\.?ipyremote-[0-9a-f]{12}")
_NAME_LENGTH: Final = len(PREFIX) + 12
#: Age at which a hidden directory without a lock file counts as abandoned, in seconds.
_ABANDONED: Final = 60.0
#: Number of rounds in which `_remove` empties a directory.
_REMOVAL_TRIES: Final = 10


class SessionDirectory:
    """An existing session directory, from `create`, `adopt` or `attach`."""

    def __init__(self, path: Path, lock_fd: int | None) -> None:
        self.path = path
        #: Descriptor that keeps the lock; None in a process that only uses the directory, and after `close`. Another
        #: program keeps the lock, too, if it inherits the descriptor (`pass_fds`) and calls `adopt`.
        self.lock_fd = lock_fd
        #: Directory that `spill` links to; known only in the process that made it.
        self.spill: SessionDirectory | None = None

    @classmethod
    def create(cls, capacity: int, base: Path | None = None) -> SessionDirectory:
        """Make a session directory and hold its lock.

        `base`: the directory in which to make it; None: the one that `choose_base` gives for a store of `capacity`.
        """
        base = choose_base(capacity)[0] if base is None else base
        while True:
            name = PREFIX + secrets.token_hex(6)
            hidden = base / f".{name}"
            hidden.mkdir(mode=0o700)
            # A umask may have removed permissions, and a default ACL may have added some.
            hidden.chmod(0o700)
            lock_fd = _open_lock(hidden, create=True)
            # A sweeper may remove the directory between any two of these lines. Then begin again.
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
        """Use an existing directory and keep its lock, too. `lock_fd` was inherited from the process that made it.

        Raises PermissionError for a directory of another user, one that is open to others, and a symbolic link.
        """
        _check(path)
        if lock_fd is not None:
            os.set_inheritable(lock_fd, False)
        return cls(path, lock_fd)

    @classmethod
    def attach(cls, path: Path) -> SessionDirectory:
        """Use an existing directory without keeping its lock. Raises PermissionError as `adopt` does."""
        return cls.adopt(path, None)

    @property
    def socket_path(self) -> Path:
        """Path of the socket on which the scheduler listens."""
        return self.path / "s"

    def spill_to(self, base: Path) -> SessionDirectory:
        """Make a directory in `base` for objects that have no room here. Raises OSError."""
        self.spill = SessionDirectory.create(0, base.resolve())
        os.symlink(self.spill.path, self.path / SPILL_LINK)
        return self.spill

    def close(self) -> None:
        """Let go of the lock in this process. The directory stays. Idempotent."""
        if self.spill is not None:
            self.spill.close()
        lock_fd, self.lock_fd = self.lock_fd, None
        _close(lock_fd)

    def remove(self) -> None:
        """Remove the directory with all its files. Idempotent, also while another process removes it."""
        _remove(self.path)
        self.close()


def choose_base(capacity: int) -> tuple[Path, str | None]:
    """Return where to make a session directory for a store of `capacity` bytes: (directory, warning for the user).

    The directory is in shared memory, unless too little of that is free. Containers often have 64 MB.
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
    """Remove the session directories of this user that no process holds, and return their paths.

    Such directories are left after a power cut, for example.
    """
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
        # A directory without a leading dot has a lock file until its removal begins. A hidden one may have just been
        # made, and get its lock file in a moment.
        if path.name.startswith(".") and time.time() - status.st_mtime < _ABANDONED:
            return False
        _remove(path)
        return True
    try:
        if not _try_lock(lock_fd):
            return False
        # The lock tells a process that is making this directory that the directory was swept.
        _remove(path)
        return True
    finally:
        os.close(lock_fd)


def _remove(path: Path) -> None:
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}")
    # If the directory has no such name, another process has begun to remove it, and may have died before the end.
    with suppress(FileNotFoundError):
        os.rename(path, hidden)
    _remove_linked(hidden)
    for _ in range(_REMOVAL_TRIES):
        # The next round removes files that appear during this one.
        shutil.rmtree(hidden, ignore_errors=True)
        if not os.path.lexists(hidden):
            return


def _remove_linked(path: Path) -> None:
    """Remove the directory that `spill` links to, if that is a session directory of this user."""
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
    """Open the lock file of a directory; None if there is no lock file, or no such directory."""
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
