"""A cluster on this machine: starts the scheduler's process and joins it as its first driver.

The scheduler gets what it needs through an inherited pipe. Two more pipes tie the processes together: the scheduler
ends when this process does, and this process learns at once when the scheduler does (see `wire/lifeline.py`). The
scheduler lives in a session of its own, so a notebook's interrupt or restart, which signals the kernel's whole process
group, does not hit it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipyremote import settings
from ipyremote.backend import Backend, Capabilities
from ipyremote.backend.placement import NODE_ID
from ipyremote.backends import discovery
from ipyremote.backends.discovery import LOG, STOP_SECONDS, Mark, last_lines, places, write_mark
from ipyremote.client import CAPABILITIES
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.ids import DRIVER, hex_of
from ipyremote.messages import RESOURCE_UNIT, SECRET_BYTES, Boot, encode_boot
from ipyremote.scheduler import command
from ipyremote.store.directory import SessionDirectory, choose_base, sweep

if TYPE_CHECKING:
    from ipyremote.backend.registry import Keeper
    from ipyremote.client.session import Session

__all__ = ["ENGINE", "start"]


class _LocalEngine:
    """The engine of sessions of processes on this machine. Method contracts are those of `backend.registry.Engine`."""

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def keeper(self) -> Keeper:
        return discovery.KEEPER

    def start(self, arguments: Mapping[str, Any]) -> Backend:
        # The store's share of the memory is not known to a user who says how much memory tasks may ask for.
        memory = {"memory": arguments["memory"]} if "memory" in arguments else {}
        return start(
            num_cpus=arguments.get("num_cpus"),
            num_gpus=arguments.get("num_gpus"),
            resources={**arguments.get("resources", {}), **memory},
            object_store_memory=arguments.get("object_store_memory"),
            object_spilling_directory=arguments.get("object_spilling_directory"),
            keep_alive=arguments.get("keep_alive", 0.0),
            labels=arguments.get("labels"),
            # What its tasks have besides is this driver's own.
            terms={name: value for name, value in arguments.items() if name != "runtime_env"},
        )

    def join(self, address: str, arguments: Mapping[str, Any]) -> tuple[Backend, Mapping[str, Any]]:
        is_any = address == "auto"
        found = next(iter(discovery.running()), None) if is_any else discovery.at(address)
        if found is None:
            where = "found no running session" if is_any else "finds no running session of this user there"
            raise ConnectionError(f"init(address={address!r}) {where}. Start one with init().")
        return discovery.visit(found), found.mark.terms


#: The engine, for the registry.
ENGINE: Final = _LocalEngine()


def start(
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    object_store_memory: int | None = None,
    object_spilling_directory: str | None = None,
    keep_alive: float = 0.0,
    labels: Mapping[str, str] | None = None,
    terms: Mapping[str, Any] | None = None,
) -> Session:
    """Start a cluster and return the driver's session, without waiting until the cluster is up.

    `num_cpus`, `num_gpus`: default to what this process may use. `object_store_memory`: bytes, default 30 % of the
    memory that this process may use. `object_spilling_directory`: where objects go that have no room there; "":
    nowhere; default: the temp directory if that is on a disk. `keep_alive`: for how many seconds the cluster outlives
    this process; whoever joins it then finds `terms`, the arguments with which it was started. `labels`:
    those of the machine. Raises IPyRemoteSystemError when the scheduler's process cannot be started, ValueError when
    objects cannot be spilled where they should be.
    """
    if keep_alive and not hasattr(os, "pidfd_open"):
        raise NotImplementedError(
            "init(keep_alive=...) needs Linux: elsewhere nobody can follow an orphan's end"
        )
    chosen = settings.read().temp_dir
    spill_base = _spill_base(object_spilling_directory)
    sweep(places() | ({spill_base} if spill_base is not None else set()))
    memory = settings.detect_memory()
    capacity = object_store_memory or settings.store_capacity(memory, settings.shm_free())
    totals = _totals(num_cpus, num_gpus, resources or {}, memory, capacity)
    base, warning = (chosen, None) if chosen else choose_base(capacity)
    if warning:
        warnings.warn(warning, RuntimeWarning, stacklevel=4)
    directory = SessionDirectory.create(capacity, base)
    key = secrets.token_hex(20)
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        if spill_base is not None:
            _spill_to(spill_base, directory, is_asked_for=bool(object_spilling_directory))
        with _standard_descriptors_taken():
            scheduler = _Scheduler(directory, key, secret, capacity, totals, keep_alive, labels or {})
    except BaseException:
        directory.remove()
        raise
    # Imported while the scheduler starts: a third of what `init` takes would otherwise come before that.
    from ipyremote.client.session import Session
    from ipyremote.store.segments import SegmentStore

    try:
        mark = Mark(scheduler.pid, key, secret, capacity, keep_alive, dict(terms or {}))
        write_mark(directory.path, mark)
        return Session(
            key=key,
            client_id=DRIVER,
            socket_path=str(directory.socket_path),
            secret=secret,
            store=SegmentStore(directory.path, DRIVER, capacity),
            alive=scheduler.alive,
            owner=scheduler,
            address=str(directory.path),
        )
    except BaseException:  # no descriptor is left, say, or an interrupt
        scheduler.abandon()
        raise


def _spill_base(asked: str | None) -> Path | None:
    """Where to make the directory for objects that have no room in memory; None: nowhere."""
    known = settings.read()
    if asked == "" or (asked is None and not known.automatic_object_spilling_enabled):
        return None
    if not asked:
        default = (Path(tempfile.gettempdir()), settings.LARGE_TEMP_DIR)
        return known.object_spilling_directory or settings.spill_base(default)
    try:
        os.makedirs(asked, exist_ok=True)
    except OSError as error:
        raise ValueError(f"object_spilling_directory={asked!r} cannot be made: {error}") from error
    if not os.access(asked, os.W_OK | os.X_OK):
        raise ValueError(f"object_spilling_directory={asked!r} cannot be written to by this user")
    return Path(asked)


def _spill_to(base: Path, directory: SessionDirectory, *, is_asked_for: bool) -> None:
    try:
        directory.spill_to(base)
    except OSError as error:
        if is_asked_for:
            raise ValueError(f"object_spilling_directory={str(base)!r} cannot be used: {error}") from error
        # Nobody asked for it, so it is no reason to fail: the store ends where the memory does.


def _totals(
    num_cpus: float | None, num_gpus: float | None, resources: Mapping[str, float], memory: int, capacity: int
) -> tuple[tuple[str, int], ...]:
    cpus = num_cpus if num_cpus is not None else settings.read().num_workers or settings.detect_cpus()
    gpus = num_gpus if num_gpus is not None else settings.detect_gpus()
    amounts = {"CPU": cpus, "GPU": gpus, "memory": max(memory - capacity, 0), "object_store_memory": capacity}
    amounts |= resources
    return tuple(sorted((name, round(amount * RESOURCE_UNIT)) for name, amount in amounts.items() if amount))


class _Scheduler:
    """The scheduler's process, as its session's owner."""

    def __init__(
        self,
        directory: SessionDirectory,
        key: str,
        secret: bytes,
        capacity: int,
        totals: tuple[tuple[str, int], ...],
        keep_alive: float,
        labels: Mapping[str, str],
    ) -> None:
        self._directory = directory
        fds: list[int] = []
        try:
            for _ in range(3):
                fds.extend(os.pipe())
            boot_read, boot_write, lifeline_read, self._lifeline, self.alive, alive_write = fds
            self._process = _launch(directory, key, (boot_read, lifeline_read, alive_write))
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, OSError):
                raise IPyRemoteSystemError(f"Could not start the scheduler's process: {error}") from error
            raise
        for fd in (boot_read, lifeline_read, alive_write):
            os.close(fd)
        boot = Boot(
            directory=str(directory.path),
            key=key,
            secret=secret,
            lifeline=lifeline_read,
            alive=alive_write,
            resources=totals,
            capacity=capacity,
            # People put Path objects there too, which Python passes over.
            sys_path=tuple(os.fsencode(entry) for entry in sys.path if isinstance(entry, str)),
            cwd=os.fsencode(_cwd()),
            argv=tuple(os.fsencode(word) for word in getattr(sys, "argv", ()) if isinstance(word, str)),
            keep_alive=keep_alive,
            labels=tuple({NODE_ID: hex_of(key, 0), **labels}.items()),
        )
        # A pipe holds 64 KiB; what is in it is far less, so this does not wait for the reader.
        with open(boot_write, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(encode_boot(boot))

    @property
    def pid(self) -> int:
        """Process id of the scheduler."""
        return self._process.pid

    def call_off(self) -> bool:
        """Kill a scheduler that is only starting: nobody can have asked it for anything. What it has forked ends with
        it."""
        is_starting = not self._directory.socket_path.exists()
        if is_starting:
            self._process.kill()
        return is_starting

    def stop(self) -> None:
        """See the scheduler end; kill it if it does not; remove the directory."""
        # Whether or not it has heard a goodbye: one that was sent before it listened may have been lost.
        self._cut_lifeline()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def abandon(self) -> None:
        """Nobody will ever greet it: see it end."""
        self.stop()

    def obituary(self) -> str:
        """Why the scheduler ended, for an error message; reaps it and removes the directory."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        status = self._process.poll()
        words = last_lines(self._directory.path)
        self._directory.remove()
        return (f" It ended with status {status}." if status is not None else "") + words

    def _cut_lifeline(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    def _close(self) -> None:
        self._directory.remove()
        self._cut_lifeline()
        alive, self.alive = self.alive, -1
        if alive >= 0:
            os.close(alive)


@contextlib.contextmanager
def _standard_descriptors_taken() -> Iterator[None]:
    """Where this process runs without standard streams, no pipe of ours may get their numbers: a child's own streams
    would replace it."""
    taken = [os.open(os.devnull, os.O_RDWR)]
    try:
        while taken[-1] <= 2:
            taken.append(os.open(os.devnull, os.O_RDWR))
        yield
    finally:
        for fd in taken:
            os.close(fd)


def _launch(directory: SessionDirectory, key: str, fds: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    with open(directory.path / LOG, "wb") as log:
        locks = [held.lock_fd for held in (directory, directory.spill) if held and held.lock_fd is not None]
        return subprocess.Popen(
            command(fds[0]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(*fds, *locks),
            start_new_session=True,
            env=settings.child_environment(key),
        )


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "/"
