"""Dask's distributed scheduler with a LocalCluster of one-threaded worker processes.

The scheduler runs in the driver, so a part of the driver's memory is the engine's. Actors run inside the workers, so
creating an actor starts no process.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ipyremote.benchmark.engine import BenchmarkEngine

OPTIONS = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}


def _tree(depth: int) -> int:
    """Run a node of the blocking tree and return its number of nodes; `worker_client` frees the waiting thread."""
    from distributed import worker_client

    if depth == 0:
        return 1
    with worker_client() as client:
        children = [client.submit(_tree, depth - 1, pure=False) for _ in range(2)]
        ran: list[int] = client.gather(children)
        return 1 + sum(ran)


class DaskEngine:
    """A `BenchmarkEngine` that uses a `distributed.Client`."""

    lives_in_driver = True

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None

    def first_result_program(self, workers: int) -> tuple[str, str]:
        return (
            f"import posixpath\n"
            f"from distributed import Client, LocalCluster\n"
            f"cluster = LocalCluster(n_workers={workers}, **{OPTIONS!r})\n"
            f"client = Client(cluster)\n"
            f"assert client.submit(posixpath.basename, 'a/b').result() == 'b'\n",
            "client.close()\ncluster.close()\n",
        )

    def start(self, workers: int) -> None:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(n_workers=workers, **OPTIONS)
        self._client = Client(self._cluster)

    def stop(self) -> None:
        self._client.close()
        self._cluster.close()

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        # Pure tasks with equal arguments would run only once and share one future.
        return partial(self._client.submit, fn, pure=False)

    def get(self, handle: Any) -> Any:
        return handle.result()

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        from distributed import Future

        if all(isinstance(handle, Future) for handle in handles):
            values: list[Any] = self._client.gather(list(handles))
            return values
        return [handle.result() for handle in handles]

    def wait_any(self, handles: list[Any]) -> list[Any]:
        from distributed import wait

        ready = next(iter(wait(handles, return_when="FIRST_COMPLETED").done))
        return [handle for handle in handles if handle is not ready]

    def put(self, value: Any) -> Any:
        # With the default `hash=True`, equal values would get one key and be sent only once.
        return self._client.scatter(value, hash=False)

    def put_all(self, values: list[Any]) -> list[Any]:
        handles: list[Any] = self._client.scatter(values, hash=False)
        return handles

    def actor(self, cls: type) -> Any:
        return self._client.submit(cls, actor=True, pure=False)

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(actor.result(), name)
        return method

    def tree(self, depth: int) -> int:
        ran: int = self._client.submit(_tree, depth, pure=False).result()
        return ran


def engine() -> BenchmarkEngine:
    """Return a Dask engine whose workers have one thread each, like the workers of the other engines."""
    return DaskEngine()
