"""ipyparallel with a local controller and a load-balanced view, which has tasks only."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from typing import Any

from ipyremote.benchmark.engine import BenchmarkEngine, Unsupported


class IpyparallelEngine:
    """A `BenchmarkEngine` that uses a `LoadBalancedView`."""

    lives_in_driver = False

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None
        self._view: Any = None

    def first_result_program(self, workers: int) -> tuple[str, str]:
        return (
            f"import logging, posixpath\n"
            f"import ipyparallel\n"
            f"cluster = ipyparallel.Cluster(n={workers}, log_level=logging.ERROR)\n"
            f"view = cluster.start_and_connect_sync().load_balanced_view()\n"
            f"assert view.apply_async(posixpath.basename, 'a/b').get() == 'b'\n",
            "cluster.stop_cluster_sync()\n",
        )

    def start(self, workers: int) -> None:
        import logging

        import ipyparallel

        self._cluster = ipyparallel.Cluster(n=workers, log_level=logging.ERROR)
        self._client = self._cluster.start_and_connect_sync()
        self._view = self._client.load_balanced_view()

    def stop(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self._view.apply_async, fn)

    def get(self, handle: Any) -> Any:
        return handle.get()

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def wait_any(self, handles: list[Any]) -> list[Any]:
        ready = next(iter(wait(handles, return_when=FIRST_COMPLETED).done))
        return [handle for handle in handles if handle is not ready]

    def put(self, value: Any) -> Any:
        raise Unsupported("values are pushed to engines by name; there are no handles of them")

    def put_all(self, values: list[Any]) -> list[Any]:
        raise Unsupported("values are pushed to engines by name; there are no handles of them")

    def actor(self, cls: type) -> Any:
        raise Unsupported("there are no actors")

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        raise Unsupported("there are no actors")

    def tree(self, depth: int) -> int:
        raise Unsupported("an engine that waits for a task runs no other")


def engine() -> BenchmarkEngine:
    """Return an ipyparallel engine with a cluster on this machine."""
    return IpyparallelEngine()
