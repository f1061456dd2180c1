"""The adapter of engines whose module has the functions of Ray: Ray itself, and ipyremote."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipyremote.benchmark import workloads


class RayApi:
    """A `BenchmarkEngine` that uses `module.init`, `.remote`, `.get` and so on."""

    lives_in_driver = False

    def __init__(self, module: str, options: Mapping[str, Any]) -> None:
        self._module = module
        self._options = options
        #: The engine's module; None before `start`.
        self._api: Any = None

    def first_result_program(self, workers: int) -> tuple[str, str]:
        return (
            f"import posixpath\n"
            f"import {self._module} as api\n"
            f"api.init(num_cpus={workers}, **{dict(self._options)!r})\n"
            f"assert api.get(api.remote(posixpath.basename).remote('a/b')) == 'b'\n",
            "api.shutdown()\n",
        )

    def start(self, workers: int) -> None:
        self._api = importlib.import_module(self._module)
        self._api.init(num_cpus=workers, **self._options)

    def stop(self) -> None:
        self._api.shutdown()

    def task(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        submit: Callable[..., Any] = self._api.remote(fn).remote
        return submit

    def get(self, handle: Any) -> Any:
        return self._api.get(handle)

    def get_all(self, handles: Sequence[Any]) -> list[Any]:
        values: list[Any] = self._api.get(handles)
        return values

    def wait_any(self, handles: list[Any]) -> list[Any]:
        rest: list[Any] = self._api.wait(handles)[1]
        return rest

    def put(self, value: Any) -> Any:
        return self._api.put(value)

    def put_all(self, values: list[Any]) -> list[Any]:
        return [self._api.put(value) for value in values]

    def actor(self, cls: type) -> Any:
        return self._api.remote(cls).remote()

    def method(self, actor: Any, name: str) -> Callable[..., Any]:
        submit: Callable[..., Any] = getattr(actor, name).remote
        return submit

    def tree(self, depth: int) -> int:
        ran: int = self._api.get(self._api.remote(workloads.tree).remote(self._module, depth))
        return ran
