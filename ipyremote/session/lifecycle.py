"""The session of this process: its beginning, at `init` or at first use, and its end, at `shutdown` or at exit.

Rules. `init` with the arguments of the running session, or without arguments, returns the running session, so that a
notebook's cell can be run again. The next `init` clears away a session that was lost. A forked child has no session: it
can neither use nor end the session of its parent. One lock guards beginning and end, and an interrupt waits until
either is complete: half a session would have threads, processes and sockets that nobody ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ipyremote import settings
from ipyremote.backend import Backend, Recovery, current, registry, required
from ipyremote.declare import exports
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.runtime_env import checked
from ipyremote.session import init_arguments, logging
from ipyremote.session.context import ClusterContext
from ipyremote.session.quiet_listener import QuietListener

__all__ = [
    "adopt",
    "changing",
    "init",
    "init_tentatively",
    "is_initialized",
    "is_unused",
    "log_to_driver",
    "remember",
    "shutdown",
]


@dataclass(slots=True)
class _RunningSession:
    """The session that this process has started or joined."""

    backend: Backend
    #: Arguments given to the session's `init`; a later `init` with equal arguments means the same session.
    shape: dict[str, Any]
    context: ClusterContext
    #: Id of the process that started or joined the session; a forked child has another id.
    pid: int
    #: Whether `init` may replace the session as long as it is unused.
    tentative: bool = False
    #: Keeper of this program's names; None unless the session may outlive this process.
    recovery: Recovery | None = None


class _SessionSlot:
    """The session of this process, and the lock under which it begins and ends."""

    def __init__(self) -> None:
        self.session: _RunningSession | None = None
        self.lock = threading.RLock()
        #: Whether `_at_exit` is registered.
        self.exits = False
        #: Namespaces with the program's names, for sessions that may outlive this process.
        self.names: tuple[Mapping[str, Any], ...] = ()
        #: Function that returns the arguments for a session that starts without a call of `init`; None: no arguments.
        self.arguments: Callable[[], dict[str, Any]] | None = None

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, without interruption."""
        with _interrupts_deferred(), self.lock:
            yield


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Handle a SIGINT that comes during the block after the block. Only the main thread is ever interrupted."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    noted: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            before(signal.SIGINT, noted[-1])


_slot = _SessionSlot()


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    object_spilling_directory: str | os.PathLike[str] | bool | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    job_config: Any = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    backend: str | None = None,
    keep_alive: float | str | None = None,
    **more: Any,
) -> ClusterContext:
    """Start a session, without waiting until its processes are up.

    If a session with the same arguments is running, or no arguments are given, `init` returns the running session, so a
    notebook's cell can be run again.

    Parameters
    ----------
    address : str, optional
        "local" starts a session (the default). "auto" joins the session that this user has started last on this
        machine, and `context.address_info["address"]` of a session joins that session; `shutdown` then only leaves.
        An engine of another package has addresses with its own scheme. The default is IPYREMOTE_ADDRESS, if set.
    num_cpus, num_gpus : float, optional
        Amounts for tasks and actors; by default what this process may use.
    resources : mapping, optional
        Amounts of resources with names of your own.
    labels : mapping, optional
        Labels of the machine, names to values, for `label_selector` and `NodeLabelSchedulingStrategy`.
    object_store_memory : int, optional
        Memory for large objects, in bytes. Objects that do not fit are moved to disk.
    object_spilling_directory : path or False, optional
        Directory for objects that are moved to disk; made if missing. By default the temp directory if that is on a
        disk. False: objects are not moved to disk.
    local_mode : bool, default False
        Not supported: use `backend="inline"`.
    ignore_reinit_error : bool, default False
        Return the running session whatever the other arguments are.
    job_config : object, optional
        Not supported: NotImplementedError for a value other than None.
    log_to_driver : bool, optional
        Whether to show the text that tasks print; True unless IPYREMOTE_LOG_TO_DRIVER turns the text off.
    namespace : str, optional
        Namespace of the names of this program's actors. By default a namespace of the session's own.
    runtime_env : mapping, optional
        Variables, packages and working directory of this program's tasks and actors; see
        `ipyremote.runtime_env.RuntimeEnv`. This process itself is not changed.
    backend : str, optional
        "local" (processes on this machine, the default) or "inline" (in this process, for debugging).
    keep_alive : float or str, optional
        Time for which the session outlives this process unless `shutdown` ends the session, in seconds or as a text
        such as "10m". `recover` gives back the values of the program's names. By default the session ends with this
        process.
    **more
        `logging_config`: a `LoggingConfig`. `logging_level`, `logging_format`: level and format of the records of
        ipyremote itself in this process, unless `configure_logging=False`. Ray's arguments for its dashboard are
        accepted and have no effect.

    Returns
    -------
    ClusterContext
        The session; as a context manager, the context ends the session with the block.

    Raises
    ------
    RuntimeError
        A session with other arguments is running, or an argument is unknown.
    ConnectionError
        There is no session to join.
    ValueError
        An argument has a wrong value, or cannot be chosen for a session that is joined.
    NotImplementedError
        The address belongs to another machine.

    Examples
    --------
    >>> context = ray.init()
    >>> context
    ClusterContext(local)
    >>> ray.init() is context
    True
    """
    if local_mode:
        raise RuntimeError(
            'local_mode was removed: use init(backend="inline") to run everything in this process'
        )
    init_arguments.check_more(more, namespace, logging.OPTIONS)
    logging.check(more)
    init_arguments.refuse(job_config=job_config)
    given = {
        "backend": backend,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "resources": dict(resources) if resources else None,
        "object_store_memory": object_store_memory,
        "object_spilling_directory": init_arguments.spilling_of(object_spilling_directory, more),
        "log_to_driver": log_to_driver,
        "memory": more.get("_memory"),
        "keep_alive": init_arguments.seconds_of(keep_alive),
        "namespace": namespace,
        "labels": (dict(labels) if isinstance(labels, Mapping) else labels) or None,
        "runtime_env": checked(runtime_env),
    }
    shape = {name: value for name, value in given.items() if value is not None}
    init_arguments.check_terms(shape)
    with _slot.changing():
        context = _begun(address, shape, ignores=ignore_reinit_error)
        # After the beginning: it may have ended another session, whose end undoes that session's logging.
        logging.configure(more)
        return context


def _begun(address: str | None, shape: dict[str, Any], *, ignores: bool) -> ClusterContext:
    """Return the session of these arguments: the running session, or one that is started or joined now."""
    _check_fork()
    _forget_ended()
    running = _running_session()
    if address is None and running is None:
        address = settings.read().address
    if address is not None:
        init_arguments.check_address(address, shape)
    if running is None:
        return (_start(shape) if address is None else _at(address, shape)).context
    if _is_elsewhere(running, address) or not _agrees(running, shape):
        if running.tentative and is_unused(running.backend):
            shutdown()
            return _start(shape).context
        if not ignores:
            raise RuntimeError(
                "Maybe you called init twice by accident? A session is running, with other arguments than these. "
                "Call shutdown() first, or pass ignore_reinit_error=True to go on with the running session."
            )
    running.tentative = False
    return running.context


def init_tentatively(**given: Any) -> ClusterContext:
    """Start a session as `init` does, which a later `init` with other arguments replaces if it is unused by then."""
    with _slot.changing():
        fresh = _running_session() is None
        context = init(**given)
        if fresh and _slot.session is not None:
            _slot.session.tentative = True
        return context


def start_with(arguments: Callable[[], dict[str, Any]] | None) -> None:
    """Set the function that returns the arguments for a session that starts without a call of `init`."""
    _slot.arguments = arguments


def shutdown(*, wait_for_processes: bool = False) -> None:
    """End the session. Its processes have ended when `shutdown` returns; its refs and handles cannot be used any more.

    Remote functions and classes stay usable in the next session. A program that has joined another program's session
    leaves the session. A second call does nothing.

    Parameters
    ----------
    wait_for_processes : bool, default False
        Has no effect, because `shutdown` always waits.

    Examples
    --------
    >>> import subprocess, sys
    >>> program = "import ipyremote as ray; ray.init(); ray.shutdown(); print(ray.is_initialized())"
    >>> print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip())
    False
    """
    with _slot.changing():
        backend = current.peek()
        if backend is None:
            return
        session = _slot.session
        if session is not None and session.recovery is not None:
            session.recovery.close()
        backend.shutdown()
        # In a worker the backend has not ended: the process serves the session, and the task goes on.
        if backend.ended:
            _slot.session = None
            current.remove(backend)
        # Dropped while interrupts wait: an interrupt inside a `__del__`, such as that of a Popen object, would be lost.
        del backend, session


def is_initialized() -> bool:
    """Return whether a session is running. No session is started.

    Returns
    -------
    bool
        False also for a session that was lost.

    Examples
    --------
    >>> ray.is_initialized()
    True
    """
    backend = current.peek()
    return backend is not None and not backend.ended


def is_unused(backend: Backend) -> bool:
    """Return whether this process has not yet given the backend a function, class or value."""
    return exports.last_used() is not backend


def remember(*names: Mapping[str, Any]) -> None:
    """Set the mappings with the program's names, whose values a session that outlives this process keeps.

    In such a session, the running one or a later one, the mappings are searched now and every second. In other sessions
    this costs nothing.
    """
    _slot.names = names
    session = _slot.session
    if session is not None and session.recovery is not None and session.backend is current.peek():
        session.recovery.watch(names)


def changing() -> contextlib.AbstractContextManager[None]:
    """Hold the lock under which a session begins and ends, without interruption."""
    return _slot.changing()


def adopt(backend: Backend, shape: Mapping[str, Any]) -> None:
    """Make a joined session that of this process, in place of an unused one. `shape`: arguments of the session's start.

    Must be called inside `changing()`. Raises RuntimeError in a forked child.
    """
    _check_fork()
    own = {}
    if (running := _running_session()) is not None:
        own = {name: value for name, value in running.shape.items() if name == "runtime_env"}
        shutdown()
    _install(backend, {**shape, **own})


def _auto_start() -> Backend:
    if not settings.read().enable_auto_connect:
        raise IPyRemoteSystemError("ipyremote has not been started yet: call ipyremote.init() first.")
    with _slot.changing():
        running = _running_session()
        if running is None:
            init(**(_slot.arguments() if _slot.arguments is not None else {}))
            running = _running_session()
            assert running is not None, "the session was started a line above"
        return running.backend


current.start_with(_auto_start)


def _start(shape: dict[str, Any]) -> _RunningSession:
    return _install(registry.engine(shape.get("backend", registry.DEFAULT)).start(shape), shape)


def _install(backend: Backend, shape: dict[str, Any]) -> _RunningSession:
    """Make a backend the session of this process."""
    if not _log_to_driver(shape):
        backend.listen(QuietListener())
    if "namespace" in shape:
        required(backend.named_actors, backend.capabilities.named_actors).use(shape["namespace"])
    if "runtime_env" in shape:
        try:
            required(backend.environments, backend.capabilities.runtime_env).use(shape["runtime_env"])
        except BaseException:  # a directory is too large, for example; the session is not in use yet
            backend.shutdown()
            raise
    current.install(backend)
    context = ClusterContext(
        kind=shape.get("backend", registry.DEFAULT),
        node_id=backend.hex_of("node", 0),
        version=_version(),
        stop=lambda: _stop_if_running(backend),
        address=backend.address,
    )
    _slot.session = session = _RunningSession(backend, shape, context, os.getpid())
    if shape.get("keep_alive"):
        session.recovery = required(backend.recovery, backend.capabilities.keep_alive)
        if _slot.names:
            session.recovery.watch(_slot.names)
    if not _slot.exits:
        _slot.exits = True
        atexit.register(_at_exit)
    return session


def _version() -> str:
    from ipyremote import __version__

    return __version__


def _log_to_driver(shape: Mapping[str, Any]) -> bool:
    given = shape.get("log_to_driver")
    return settings.read().log_to_driver if given is None else bool(given)


def log_to_driver() -> bool:
    """Return whether the running session shows the text of its tasks, for listeners that replace the default one."""
    session = _slot.session
    return session is None or _log_to_driver(session.shape)


def _stop_if_running(backend: Backend) -> None:
    with _slot.changing():
        if current.peek() is backend:
            shutdown()


def _at_exit() -> None:
    session = _slot.session
    # A forked child inherits the handler, but not the session.
    if session is None or session.pid != os.getpid():
        return
    if session.recovery is not None and not session.backend.ended:
        # A notebook's restart ends the kernel in good order, and its session is to be recovered.
        session.recovery.at_exit()
    else:
        shutdown()


def _running_session() -> _RunningSession | None:
    """Return the running session, also one that a worker or a test has made current; None if there is none."""
    backend = current.peek()
    if backend is None:
        return None
    session = _slot.session
    if session is None or session.backend is not backend:
        context = ClusterContext(
            kind="installed",
            node_id=backend.hex_of("node", 0),
            version=_version(),
            stop=lambda: _stop_if_running(backend),
        )
        session = _slot.session = _RunningSession(backend, {}, context, os.getpid())
    return session


def _forget_ended() -> None:
    """Clear away a session that was lost, so that a new one can start."""
    backend = current.peek()
    if backend is not None and backend.ended:
        shutdown()


def _check_fork() -> None:
    session = _slot.session
    if session is not None and session.pid != os.getpid():
        raise RuntimeError(
            f"This process (pid {os.getpid()}) was forked from a process with an ipyremote session (pid {session.pid}) "
            "and can neither use that session nor start another. Start work from the original process, or start a new "
            "process without fork."
        )


def _agrees(running: _RunningSession, shape: dict[str, Any]) -> bool:
    """Return whether these arguments mean the running session: there are none, or they are the session's own."""
    return not shape or shape == running.shape


def _is_elsewhere(running: _RunningSession, address: str | None) -> bool:
    """Return whether a checked address means another session than the running one."""
    if address is None or address == "auto":
        return False
    return address == "local" or address != running.context.address_info["address"]


def _at(address: str, given: Mapping[str, Any]) -> _RunningSession:
    """Start or join the session that an address means."""
    found = registry.engine_of(address)
    assert found is not None, "the address was checked"
    name, engine = found
    if address in (name, f"{name}://"):
        return _start({**given, "backend": name} if name != registry.DEFAULT else dict(given))
    backend, arguments = engine.join(address, given)
    # The arguments of the session's start, except its namespace: a program that joins has one of its own.
    known = {key: value for key, value in arguments.items() if key != "namespace"}
    return _install(backend, {**known, "keep_alive": 0.0, **given})
