"""How a backend is started from checked arguments of `init`; importing one is put off until then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ipyremote.backend import Backend

__all__ = ["BACKENDS"]


def _start_local(shape: Mapping[str, Any], resources: Mapping[str, float]) -> Backend:
    from ipyremote.backends import local

    return local.start(
        num_cpus=shape.get("num_cpus"),
        num_gpus=shape.get("num_gpus"),
        resources=resources,
        object_store_memory=shape.get("object_store_memory"),
        object_spilling_directory=shape.get("object_spilling_directory"),
        keep_alive=shape.get("keep_alive", 0.0),
        labels=shape.get("labels"),
        # What its tasks have besides is this driver's own.
        terms={name: value for name, value in shape.items() if name != "runtime_env"},
    )


def _start_inline(shape: Mapping[str, Any], resources: Mapping[str, float]) -> Backend:
    from ipyremote.backends.inline.backend import InlineBackend

    return InlineBackend(
        num_cpus=shape.get("num_cpus"),
        num_gpus=shape.get("num_gpus"),
        resources=resources,
        labels=shape.get("labels"),
    )


#: By the name that `init(backend=...)` takes.
BACKENDS: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, float]], Backend]]] = {
    "local": _start_local,
    "inline": _start_inline,
}
