"""`Pool`: the standard library's process pool, whose processes are actors.

It is the standard library's own `ThreadPool`, in which each thread hands what it is given to a process of its own
(`util/pool_worker.py`) and waits. So results, callbacks, iterators, `close`, `terminate` and `join` are the standard
library's. The processes hold no CPU, so that a pool inside a task never waits for it.

Differences from the standard library: functions of a notebook work; a call whose process dies fails with
ActorDiedError, and the pool goes on with a new process; what had not ended when the pool is terminated fails with
TaskCancelledError, and nobody waits for ever. From Ray: options may also be called `address` and `remote_args`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import pool as standard
from multiprocessing.dummy import DummyProcess
from typing import Any

from ipyremote import api
from ipyremote.exceptions import TaskCancelledError
from ipyremote.util.calls import name_of, total_cpus
from ipyremote.util.pool_worker import Process, users_own

__all__ = ["AsyncResult", "IMapIterator", "Pool"]

AsyncResult = standard.AsyncResult
IMapIterator = standard.IMapIterator


class Pool(standard.ThreadPool):
    """The standard library's process pool, whose processes are actors. As `ray.util.multiprocessing.Pool`.

    Results, callbacks, iterators, `close`, `terminate` and `join` are the standard library's. Functions of a notebook
    work. A call whose process dies fails with ActorDiedError, and the pool goes on with a new process.

    Parameters
    ----------
    processes : int, optional
        Number of processes, at most the CPUs of the cluster, which is the default.
    initializer : callable, optional
        Runs first in each process. If it raises, each call fails with ActorDiedError, which says so.
    initargs : iterable, optional
        Arguments of `initializer`.
    maxtasksperchild : int, optional
        Calls (a chunk of `map` is one) after which a process is replaced.
    context : object, optional
        Not used.
    ray_address : str, optional
        As `address`.
    ray_remote_args : mapping, optional
        As `remote_args`.
    address : str, optional
        Address for `init`, if no session is running.
    remote_args : mapping, optional
        Options of the actors.

    Raises
    ------
    ValueError
        `processes` is below 1 or above the CPUs.
    TypeError
        An argument has a wrong type.

    Examples
    --------
    >>> from ipyremote.util.multiprocessing import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
        *,
        address: str | None = None,
        remote_args: Mapping[str, Any] | None = None,
    ) -> None:
        if context is not None:
            warnings.warn("Pool does not use its 'context' argument: its processes are actors", stacklevel=2)
        options = _one_of("remote_args", remote_args, ray_remote_args)
        where = _one_of("address", address, ray_address)
        count = _processes(processes, where)
        # The standard library asks the pool for its class of processes.
        vars(self)["Process"] = functools.partial(_PoolThread, options or {})
        # Not ThreadPool's own, which leaves out the last argument.
        standard.Pool.__init__(self, count, initializer, tuple(initargs or ()), maxtasksperchild)

    def terminate(self) -> None:
        """End the processes at once. Calls that have not ended fail with TaskCancelledError."""
        super().terminate()
        reason = (False, TaskCancelledError("The pool was terminated before this had ended."))
        cache: dict[int, Any] = vars(self)["_cache"]
        for job, result in list(cache.items()):
            _settle(cache, job, result, reason)


def _settle(cache: dict[int, Any], job: int, result: Any, reason: tuple[bool, Exception]) -> None:
    """End a result that nothing will come for any more."""
    if hasattr(result, "_set_length"):
        result._set(result._index, reason)
        if job in cache:
            result._set_length(result._index)
    while job in cache:
        result._set(0, reason)


def _one_of(name: str, ours: Any, rays: Any) -> Any:
    if ours is not None and rays is not None:
        raise TypeError(f"{name} and ray_{name} mean the same: give one of them")
    return rays if ours is None else ours


def _processes(asked: int | None, address: str | None) -> int:
    if asked is not None and (not isinstance(asked, int) or isinstance(asked, bool)):
        raise TypeError(f"processes is a whole number, not {asked!r}")
    if asked is not None and asked < 1:
        raise ValueError(f"Processes in the pool must be >0, not {asked}.")
    if not api.is_initialized():
        api.init(address) if address is not None else api.init(num_cpus=asked)
    cpus = int(total_cpus())
    if asked is not None and asked > cpus:
        raise ValueError(
            f"Tried to start a pool with {asked} processes on a cluster with only {cpus} CPUs. "
            f"Ask for fewer, or start the session with init(num_cpus={asked})."
        )
    return asked or max(cpus, 1)


class _PoolThread(DummyProcess):
    """A thread in the place of one of the standard library's processes: it takes calls, and has a process run them."""

    def __init__(
        self, options: Mapping[str, Any], context: Any, *, target: Any, args: tuple[Any, ...]
    ) -> None:
        """Take the arguments of a context's `Process`; `args` are those of the standard library's own loop."""
        super().__init__(target=self._serve)
        self._inbox, self._outbox, initializer, initargs, max_calls, _ = args
        self._process = Process(initializer, initargs, options, max_calls)
        self._stopped = False

    @property
    def pid(self) -> int:
        """Return a number for the standard library's log."""
        return self.native_id or 0

    def terminate(self) -> None:
        """End the thread and its process at once."""
        self._stopped = True
        self._process.kill()

    def _serve(self) -> None:
        while not self._stopped and (task := self._inbox.get()) is not None:
            job, index, fn, args, kwargs = task
            self._outbox.put((job, index, self._outcome(fn, args, kwargs)))
            # Nothing is held until the next one comes.
            del task, fn, args, kwargs
        self._process.end()

    def _outcome(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bool, Any]:
        try:
            ref = self._process.start(name_of(users_own(fn, args)), fn, args, kwargs)
            return True, self._process.finish(ref)
        except Exception as error:  # whatever the user's function raised: it is what came of it
            return False, error.with_traceback(None)
