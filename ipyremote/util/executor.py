"""`Executor`: the cluster as a standard `concurrent.futures.Executor`, for whatever takes one.

Each of `max_workers` threads of this process, those of a `ThreadPoolExecutor`, hands one call at a time to the cluster
and waits for it. So a future behaves as the standard library's do: it is pending until one of them takes it, and can be
cancelled until then, without ever having run; `shutdown`, broken initializers and the end of the interpreter are the
standard library's too. (Without `max_workers` there are a few threads for each CPU, so that the next calls are there
when one ends: some futures are running that still queue in the cluster, as in a `ProcessPoolExecutor`'s call queue.)

A call is a task, and needs a CPU to run. With an `initializer`, each worker is a process of its own instead (an actor,
`pool_worker.py`), which holds no CPU.

Differences from `ProcessPoolExecutor`: a call whose process dies fails alone, with WorkerCrashedError or
ActorDiedError, and the executor goes on; functions of a notebook work; a ref as an argument arrives as its value.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from ipyremote import api
from ipyremote.refs import ObjectRef
from ipyremote.remote import RemoteFunction, remote
from ipyremote.util.calls import name_of, total_cpus, value_of
from ipyremote.util.origin import Origin, inside_task, origin
from ipyremote.util.pool_worker import Process

__all__ = ["Executor"]

#: Calls that are handed to the cluster for each of its CPUs, where nobody asked for a number.
_AHEAD = 4
#: Number of functions whose pickles one executor keeps.
_FUNCTIONS = 64


class Executor(futures.Executor):
    """The cluster as a standard `concurrent.futures.Executor`, for whatever takes one.

    Functions of a notebook work. A call whose process dies fails alone, and the executor goes on.

    Parameters
    ----------
    max_workers : int, optional
        Calls at a time; by default the CPUs of the cluster. With more workers than CPUs each call takes a part of a
        CPU.
    initializer : callable, optional
        Runs once in each worker's process, which is an actor then. If it raises, calls fail with BrokenExecutor.
    initargs : tuple, default ()
        Arguments of `initializer`.
    remote_args : mapping, optional
        Options of the tasks, such as `{"num_gpus": 1}`; `max_retries` is 0 otherwise. With an `initializer`, options of
        the workers' actors.

    Raises
    ------
    ValueError, TypeError
        An argument does not fit.

    Examples
    --------
    >>> from ipyremote.util import Executor
    >>> def power(base, exponent):
    ...     return base ** exponent
    >>> with Executor() as executor:
    ...     future = executor.submit(power, 2, 10)
    ...     print(future.result(), list(executor.map(power, range(3), [2, 2, 2])))
    1024 [0, 1, 4]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        remote_args: Mapping[str, Any] | None = None,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r:.80}")
        given = dict(remote_args or {})
        if "num_returns" in given:
            raise ValueError("remote_args cannot have num_returns: a future has one value")
        cpus = total_cpus()
        #: As of the standard library's executors; Dask asks for it.
        self._max_workers = max_workers or max(int(cpus), 1)
        how: _How
        if initializer is None:
            how = _Tasks({"num_cpus": _share(cpus, self._max_workers), "max_retries": 0, **given})
        else:
            how = _Processes(initializer, initargs, given)
        self._runs = _Runs(how)
        # Where the cluster itself sees to it that no more calls run than it has CPUs, a few more are on their way.
        ahead = _AHEAD if max_workers is None and initializer is None else 1
        self._threads = ThreadPoolExecutor(
            self._max_workers * ahead, "ipyremote-executor", None if initializer is None else how.begin
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `fn(*args, **kwargs)` run, and return a future at once.

        Parameters
        ----------
        fn : callable
            A plain function. TypeError for a remote one.
        *args, **kwargs
            Its arguments. A ref arrives as its value.

        Returns
        -------
        concurrent.futures.Future
            Pending until the call begins; until then it can be cancelled.

        Raises
        ------
        RuntimeError
            The executor was shut down.
        """
        if isinstance(fn, RemoteFunction):
            raise TypeError(f"submit() takes the plain function, not {fn!r}: call {fn!r}.remote() for a ref")
        return self._submit(name_of(fn), fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Return an iterator of the values of `fn(*items)` in order, as the built-in `map` does.

        Parameters
        ----------
        fn : callable
            A plain function. TypeError for a remote one.
        *iterables : iterable
            Its arguments.
        timeout : float, optional
            Seconds from now, after which the iterator raises TimeoutError.
        chunksize : int, default 1
            Calls that travel together, for short ones.
        buffersize : int, optional
            Chunks on their way while nobody asks, at most; by default all (as in Python 3.14).

        Returns
        -------
        iterator
            The values.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        if isinstance(fn, RemoteFunction):
            raise TypeError(f"map() takes the plain function, not {fn!r}")
        starts = self._starts(fn, zip(*iterables, strict=False), chunksize)
        begun = deque(itertools.islice(starts, buffersize))
        values = _in_order(begun, starts, end)
        return values if chunksize == 1 else itertools.chain.from_iterable(values)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait : bool, default True
            Wait until all calls have ended.
        cancel_futures : bool, default False
            Cancel the calls that have not begun.
        """
        if cancel_futures:
            with self._runs.clearing():
                self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown(wait)

    def terminate_workers(self) -> None:
        """Shut down, cancel waiting calls, and interrupt running tasks (KeyboardInterrupt) or kill their processes."""
        self._stop(force=False)

    def kill_workers(self) -> None:
        """Shut down, cancel waiting calls, and kill the processes in which calls run."""
        self._stop(force=True)

    def _stop(self, *, force: bool) -> None:
        self.shutdown(wait=False, cancel_futures=True)
        self._runs.stop(force=force)

    def _submit(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Future[Any]:
        future = self._threads.submit(self._runs.run, origin(), name, fn, args, kwargs)
        future.add_done_callback(self._runs.on_done)
        return future

    def _starts(
        self, fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]], chunksize: int
    ) -> Iterator[Future[Any]]:
        """Return an iterator that submits one more call, or chunk of calls, at each step."""
        name = name_of(fn)
        if chunksize == 1:
            return (self._submit(name, fn, args, {}) for args in calls)
        chunks = iter(lambda: tuple(itertools.islice(calls, chunksize)), ())
        return (self._submit(name, _call_each, (fn, chunk), {}) for chunk in chunks)


def _share(cpus: float, workers: int) -> float:
    """Return the CPUs for each call with which as many calls as workers run at a time."""
    if inside_task():
        # The task that waits for its calls keeps its own CPU meanwhile, since it does not wait in `get`: if that is the
        # last one, calls that need one would wait for the task.
        return 0
    return 1 if workers <= max(cpus, 1) else max(math.floor(cpus / workers * 10_000), 1) / 10_000


def _in_order(begun: deque[Future[Any]], starts: Iterator[Future[Any]], end: float | None) -> Iterator[Any]:
    try:
        while begun:
            future = begun[0]
            value = future.result() if end is None else future.result(end - time.monotonic())
            begun.popleft()
            begun.extend(itertools.islice(starts, 1))
            # Not held here while somebody works on it.
            holder, value = [value], None
            yield holder.pop()
    finally:
        for future in begun:
            future.cancel()


def _call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def _call_each(fn: Callable[..., Any], chunk: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return [fn(*args) for args in chunk]


class _How(Protocol):
    """A way to run the calls of a worker: as tasks, or in a process of the worker's own."""

    def begin(self) -> None:
        """Make the calling thread a worker."""

    def start(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Begin a call, and return its ref."""

    def finish(self, ref: ObjectRef[Any]) -> Any:
        """Wait for a call, and return its value."""

    def stop(self, refs: Iterable[ObjectRef[Any]], *, force: bool) -> None:
        """End these calls, and whatever other calls would need. Any thread."""


class _Tasks:
    """Calls that are tasks."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._any = remote(**options)(_call)
        #: Remote functions by plain ones, so that each is pickled once; the most recent ones.
        self._functions: dict[Callable[..., Any], Any] = {}

    def begin(self) -> None:
        """Do nothing: a worker is a thread."""

    def start(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if not _is_plain(fn):
            return self._any.options(name=name).remote(fn, *args, **kwargs)
        known = self._remote(fn)
        return (known if fn.__name__ == name else known.options(name=name)).remote(*args, **kwargs)

    def finish(self, ref: ObjectRef[Any]) -> Any:
        return value_of(ref)

    def stop(self, refs: Iterable[ObjectRef[Any]], *, force: bool) -> None:
        for ref in refs:
            api.cancel(ref, force=force)

    def _remote(self, fn: Callable[..., Any]) -> Any:
        known = self._functions.get(fn)
        if known is None:
            known = self._functions[fn] = remote(**self._options)(fn)
            for oldest in list(self._functions)[:-_FUNCTIONS]:
                self._functions.pop(oldest, None)
        return known


def _is_plain(fn: Callable[..., Any]) -> bool:
    """Return whether a function can be a remote function as it is."""
    return inspect.isfunction(fn) and not (
        inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn)
    )


class _Processes:
    """Calls in a process for each worker."""

    def __init__(
        self, initializer: Callable[..., Any], initargs: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._make = functools.partial(Process, initializer, initargs, options)
        self._origin = origin()
        self._own = threading.local()
        self._all: list[Process] = []

    def begin(self) -> None:
        with self._origin():
            process = self._own.process = self._make()
            self._all.append(process)
            process.ready()

    def start(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        return self._own.process.start(name, fn, args, kwargs)

    def finish(self, ref: ObjectRef[Any]) -> Any:
        return self._own.process.finish(ref)

    def stop(self, refs: Iterable[ObjectRef[Any]], *, force: bool) -> None:
        for process in tuple(self._all):
            process.kill()


class _Runs:
    """The calls that run. Knows no executor, so that an executor which is dropped ends its threads."""

    def __init__(self, how: _How) -> None:
        self._how = how
        self._lock = threading.Lock()
        self._running: set[ObjectRef[Any]] = set()
        self._stopped = False
        #: The thread that takes out of the queue what has not begun, or 0.
        self._clearer = 0

    @contextlib.contextmanager
    def clearing(self) -> Iterator[None]:
        """Mark this thread as the one that cancels calls and takes them out of the queue."""
        self._clearer = threading.get_ident()
        try:
            yield
        finally:
            self._clearer = 0

    def on_done(self, future: Future[Any]) -> None:
        """React to the end of a future."""
        if not future.cancelled():
            error = future.exception()
            if error is not None:
                # It has the frames of its task; those of the thread here are of no use to anybody.
                error.__traceback__ = None
        elif self._clearer == threading.get_ident():
            # No worker will come across it, and `futures.wait` waits until one has.
            future.set_running_or_notify_cancel()

    def run(
        self,
        origin: Origin,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Run one call on a worker's thread, and return its value."""
        with origin():
            ref = self._start(name, fn, args, kwargs)
        try:
            return self._how.finish(ref)
        finally:
            with self._lock:
                self._running.discard(ref)

    def _start(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        with self._lock:
            if self._stopped:
                raise futures.CancelledError
        ref = self._how.start(name, fn, args, kwargs)
        with self._lock:
            self._running.add(ref)
            stopped = self._stopped
        if stopped:
            self._how.stop([ref], force=True)
        return ref

    def stop(self, *, force: bool) -> None:
        """End the running calls, and let no others begin."""
        with self._lock:
            self._stopped = True
            running = tuple(self._running)
        self._how.stop(running, force=force)
