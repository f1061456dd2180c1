"""The public functions and classes, by the names that users import."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import ipyremote
from ipyremote import exceptions

__all__ = ["MODULES", "exception_classes", "public_objects"]

#: Public modules. The public names of each module are the names in its `__all__`.
MODULES = (
    "ipyremote",
    "ipyremote.util",
    "ipyremote.util.joblib",
    "ipyremote.util.metrics",
    "ipyremote.util.multiprocessing",
    "ipyremote.util.placement_group",
    "ipyremote.util.queue",
    "ipyremote.util.scheduling_strategies",
    "ipyremote.util.state",
)


def public_objects() -> dict[str, Any]:
    """Return the functions and classes of the public modules by name, each once, without exceptions."""
    found: dict[str, Any] = {}
    for module in MODULES:
        here = importlib.import_module(module)
        for name in here.__all__:
            value = getattr(here, name)
            is_own = getattr(value, "__module__", "").startswith("ipyremote")
            is_error = inspect.isclass(value) and issubclass(value, BaseException)
            if not is_own or is_error or not callable(value):
                continue
            if not any(known is value for known in found.values()):
                found[f"{module}.{name}"] = value
    return found


def exception_classes() -> dict[str, type[BaseException]]:
    """Return the classes of `ipyremote.exceptions` by their own names, without Ray's names for them."""
    classes = {}
    for name in exceptions.__all__:
        value = getattr(ipyremote.exceptions, name)
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__name__ == name:
            classes[name] = value
    return classes
