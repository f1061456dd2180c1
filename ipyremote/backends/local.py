"""The engine of sessions on this machine: starts the scheduler's process and joins the scheduler as its first driver.

The scheduler gets its settings through an inherited pipe. Two more pipes tie the processes together: the scheduler ends
when this process ends, and this process learns at once when the scheduler ends (see `wire/lifeline.py`). The scheduler
lives in a process session of its own, so it is not hit by a notebook's interrupt or restart, which signals the kernel's
whole process group.
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
        # `init(memory=...)` is the amount that tasks may ask for; the store's share is not subtracted.
        memory = {"memory": arguments["memory"]} if "memory" in arguments else {}
        return start(
            num_cpus=arguments.get("num_cpus"),
            num_gpus=arguments.get("num_gpus"),
            resources={**arguments.get("resources", {}), **memory},
            object_store_memory=arguments.get("object_store_memory"),
            object_spilling_directory=arguments.get("object_spilling_directory"),
            keep_alive=arguments.get("keep_alive", 0.0),
            labels=arguments.get("labels"),
            # A `runtime_env` belongs to this driver's tasks, not to the session that others may join.
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

    Parameters
    ----------
    num_cpus, num_gpus
        Numbers of CPUs and GPUs; default: those that this process may use.
    object_store_memory
        Capacity of the object store, in bytes; default: 30 % of the memory that this process may use.
    object_spilling_directory
        Directory for objects that do not fit into the store; "": none; default: the temp directory if it is on a disk.
    keep_alive
        Time for which the cluster outlives this process, in seconds.
    labels
        Labels of the machine.
    terms
        Arguments of the `init` that starts the cluster, for processes that join later.

    Raises
    ------
    IPyRemoteSystemError
        The scheduler's process cannot be started.
    ValueError
        The directory for spilled objects cannot be used.
    """
    if keep_alive and not hasattr(os, "pidfd_open"):
        raise NotImplementedError(
            "init(keep_alive=...) needs Linux: elsewhere only the parent of a process can wait for its end"
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
    # Imported while the scheduler starts: the import takes a third of `init`, and would otherwise delay that start.
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
    except BaseException:  # an interrupt, for example, or no file descriptor is left
        scheduler.abandon()
        raise


def _spill_base(asked: str | None) -> Path | None:
    """Return the parent of the directory for spilled objects; None: objects are not spilled."""
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
        # The user did not ask for spilling, so the session starts without: the store is limited to memory.


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
            # Users also put Path objects into sys.path, which Python's import ignores.
            sys_path=tuple(os.fsencode(entry) for entry in sys.path if isinstance(entry, str)),
            cwd=os.fsencode(_cwd()),
            argv=tuple(os.fsencode(word) for word in getattr(sys, "argv", ()) if isinstance(word, str)),
            keep_alive=keep_alive,
            labels=tuple({NODE_ID: hex_of(key, 0), **labels}.items()),
        )
        # A pipe holds 64 KiB, and the boot record is far smaller, so this write does not wait for the reader.
        with open(boot_write, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(encode_boot(boot))

    @property
    def pid(self) -> int:
        """Process id of the scheduler."""
        return self._process.pid

    def cancel_start(self) -> bool:
        """Kill a scheduler that is still starting; return whether it was.

        A starting scheduler has no requests yet, and the processes that it has forked end with it.
        """
        is_starting = not self._directory.socket_path.exists()
        if is_starting:
            self._process.kill()
        return is_starting

    def stop(self) -> None:
        """Wait for the end of the scheduler, kill the scheduler if it does not end, remove the directory."""
        # Even after a `Bye`: one that was sent before the scheduler listened may have been lost.
        self._cut_lifeline()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def abandon(self) -> None:
        """Stop a scheduler that no driver has joined."""
        self.stop()

    def explain_end(self) -> str:
        """Return why the scheduler ended, for an error message; reap its process and remove the directory."""
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
    """Occupy the file descriptors 0 to 2 if this process runs without standard streams.

    A pipe of ours that got one of these numbers would be replaced by the child's own standard stream.
    """
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
    except OSError:  # the working directory was removed
        return "/"
