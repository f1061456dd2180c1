"""The joblib backend: batches of calls run as tasks, through an `Executor`. Imported when it is registered.

joblib decides how large batches are (a fifth of a second to two) and how many are on their way (twice `n_jobs`).
Arguments as large as joblib's `max_nbytes` are put into the store once for each `Parallel` call, and shared.
Parallelism inside a batch is joblib's default: threads, then none; a `Parallel` inside a task that asks for this
backend again runs tasks that need no CPU, so that it cannot wait for itself.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)
from joblib.parallel import cpu_count

from ipyremote import api
from ipyremote.refs import ObjectRef
from ipyremote.serialization.pickling import Slot
from ipyremote.util.calls import name_of, total_cpus
from ipyremote.util.executor import Executor
from ipyremote.util.joblib.batches import pack, run_batch, size_of
from ipyremote.util.joblib.joblib_progress import JoblibProgress
from ipyremote.util.origin import Origin, origin

__all__ = ["IPyRemoteBackend"]


class IPyRemoteBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib ships no types
    """The backend; see the module docstring. `remote_args` of `parallel_config(...)`: options of the tasks."""

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, *, remote_args: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._remote_args = remote_args
        self.parallel: Any = None
        #: Arguments of the last `configure`.
        self._configured: tuple[int, dict[str, Any]] = (1, {})
        self._executor: Executor | None = None
        self._threads: int | None = None
        self._origin: Origin | None = None
        self._shared = _SharedArguments(None)
        self._progress = JoblibProgress()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of calls at a time; negative numbers count down from the CPUs of the cluster."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(int(total_cpus()) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Prepare for the use of a `Parallel`, and return its number of calls at a time."""
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._configured = n_jobs, options
        count = self.effective_n_jobs(n_jobs)
        # All CPUs: the cluster itself sees to it.
        self._executor = Executor(count if n_jobs > 0 else None, remote_args=self._remote_args)
        self._threads = self.inner_max_num_threads or max(cpu_count() // count, 1)
        self._origin = origin()
        self._shared = _SharedArguments(options.get("max_nbytes"))
        return count

    def submit(self, func: Any, callback: Any = None) -> Future[Any]:
        """Submit a batch, and return its future. `callback(future)` runs on a thread of the executor at the end."""
        assert self._executor is not None, "joblib configures it first"
        assert self._origin is not None
        with self._origin():
            items, refs = self._shared.leave_out(func.items)
            data = pack(items, (func._backend, func._n_jobs))
            name = name_of(func.items[0][0])
            future = self._executor._submit(name, run_batch, (data, self._threads, *refs), {})
            self._progress.submitted(name, len(items), getattr(self.parallel, "n_tasks", None))
        # It holds the batch too, in which there may be refs that must be there when it arrives.
        future.add_done_callback(functools.partial(_count, self._progress, func))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: Name of `submit` before joblib 1.5.
    apply_async = submit

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the values of a batch."""
        return out.result()

    def start_call(self) -> None:
        """Begin a call of a `Parallel`."""
        self._progress = JoblibProgress()

    def stop_call(self) -> None:
        """End a call of a `Parallel`."""
        self._progress.close()
        self._shared.clear()

    def terminate(self) -> None:
        """End the use of the `Parallel`."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
        self._shared.clear()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill all calls, because one has failed or the user has interrupted."""
        if self._executor is not None:
            self._executor.kill_workers()
        self._executor = None
        if ensure_ready:
            n_jobs, options = self._configured
            self.configure(n_jobs, self.parallel, **options)


def _count(progress: JoblibProgress, batch: Any, future: Future[Any]) -> None:
    if not future.cancelled():
        progress.ended(len(batch), failed=future.exception() is not None)


class _SharedArguments:
    """Large arguments of one `Parallel` call, each in the store once."""

    def __init__(self, least: int | None) -> None:
        """Begin without any. `least`: bytes of an argument from which on it is shared; None: no argument is."""
        self._least = least
        #: Arguments with their refs, by the argument's id. The argument is held, so that no other one gets the id.
        self._known: dict[int, tuple[Any, ObjectRef[Any]]] = {}

    def leave_out(self, items: list[Any]) -> tuple[list[Any], list[ObjectRef[Any]]]:
        """Return the items with slots in place of large arguments, and the refs of these arguments."""
        refs: list[ObjectRef[Any]] = []

        def shared(value: Any) -> Any:
            ref = self._ref(value)
            if ref is None:
                return value
            if ref not in refs:
                refs.append(ref)
            return Slot(refs.index(ref))

        slotted = [
            (fn, tuple(map(shared, args)), {name: shared(value) for name, value in kwargs.items()})
            for fn, args, kwargs in items
        ]
        return slotted, refs

    def _ref(self, value: Any) -> ObjectRef[Any] | None:
        if self._least is None or size_of(value) < self._least:
            return None
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = (value, api.put(value))
        return known[1]

    def clear(self) -> None:
        """Forget the arguments: the call has ended."""
        self._known.clear()
