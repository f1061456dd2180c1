"""cloudpickle under the name that programs written for Ray use: `ray.cloudpickle.dumps(value)`.

The functions pickle as the external package does, and use the serializers of `register_serializer`. A ref cannot be
pickled here: only ipyremote itself can keep an object alive whose ref travels.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import IO, Any

import cloudpickle
from cloudpickle import register_pickle_by_value, unregister_pickle_by_value

from ipyremote.serialization import pickling

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]

load = pickle.load
loads = pickle.loads


class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """A pickler that pickles functions and classes of `__main__` by value."""

    dispatch_table = pickling.dispatch_table


Pickler = CloudPickler


def dump(
    obj: Any,
    file: IO[bytes],
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None,
) -> None:
    """Pickle an object into a file."""
    CloudPickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(obj)


def dumps(
    obj: Any,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None,
) -> bytes:
    """Return the pickle of an object."""
    file = io.BytesIO()
    dump(obj, file, protocol, buffer_callback)
    return file.getvalue()
