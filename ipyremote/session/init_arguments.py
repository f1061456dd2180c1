"""The arguments of `init` and their checks. Nothing is started here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from ipyremote.backend import registry
from ipyremote.backend.placement import check_labels
from ipyremote.declare.options import check_amounts

__all__ = ["check_address", "check_more", "check_terms", "refuse", "seconds_of", "spilling_of"]

#: Arguments of Ray's `init` that are accepted for programs written for Ray, and have no effect: there is no dashboard,
#: and the session's directory is chosen by IPYREMOTE_TEMP_DIR.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "include_dashboard",
        "dashboard_host",
        "dashboard_port",
        "_cluster_id",
        "_driver_object_store_memory",
        "_enable_object_reconstruction",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_plasma_directory",
        "_redis_max_memory",
        "_redis_password",
        "_redis_username",
        "_skip_env_hook",
        "_system_config",
        "_temp_dir",
        "_tracing_startup_hook",
    }
)

#: Arguments of Ray's `init` with an underscore that have an effect.
_PRIVATE: Final = frozenset({"_memory", "_object_spilling_directory"})
#: Key in Ray's `_system_config` that turns spilling off.
_SPILLING_SWITCH: Final = "automatic_object_spilling_enabled"

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])")


def check_more(more: Mapping[str, Any], namespace: Any, logging: Collection[str] = ()) -> None:
    """Raise RuntimeError for unknown arguments, TypeError or ValueError for a wrong namespace.

    `logging` has the names of arguments that are checked elsewhere.
    """
    unknown = [name for name in more if name not in _WITHOUT_EFFECT | _PRIVATE and name not in logging]
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(unknown)}")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace is a string, not {type(namespace).__name__}: {namespace!r}")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None for one of your own.')


def refuse(**absent: Any) -> None:
    """Raise NotImplementedError if any of these arguments is given."""
    for name, value in absent.items():
        if value:
            raise NotImplementedError(f"init({name}=...) is not supported yet")


def check_terms(terms: Mapping[str, Any]) -> None:
    """Raise TypeError, ValueError or NotImplementedError for wrong arguments of `init`."""
    kind = terms.get("backend", registry.DEFAULT)
    if not registry.is_known(kind):
        raise ValueError(f"backend is one of {', '.join(map(repr, registry.names()))}, not {kind!r}")
    check_amounts(
        {name: terms[name] for name in ("num_cpus", "num_gpus", "resources", "memory") if name in terms}
    )
    capacity = terms.get("object_store_memory")
    if capacity is not None and (not isinstance(capacity, int) or isinstance(capacity, bool)):
        raise TypeError(f"object_store_memory is a whole number of bytes, not {capacity!r}")
    if capacity is not None and capacity <= 0:
        raise ValueError(f"object_store_memory is more than 0 bytes, not {capacity}")
    if "labels" in terms:
        check_labels("labels", terms["labels"])
    if kind == registry.DEFAULT:
        return
    capabilities = registry.engine(kind).capabilities
    if "runtime_env" in terms and capabilities.runtime_env:
        raise NotImplementedError(capabilities.runtime_env)
    if "keep_alive" in terms and capabilities.keep_alive:
        raise ValueError(capabilities.keep_alive)


def spilling_of(directory: Any, more: Mapping[str, Any]) -> str | None:
    """Return the directory for spilled objects; "" if objects are not to be spilled; None if no argument says so.

    Raises TypeError for a `directory` that is no path, False or None.
    """
    if directory is None:
        directory = more.get("_object_spilling_directory")
    config = more.get("_system_config")
    if isinstance(config, Mapping) and config.get(_SPILLING_SWITCH, True) is False:
        directory = False
    if directory is None or directory is False:
        return None if directory is None else ""
    if not isinstance(directory, str | os.PathLike) or not isinstance(os.fspath(directory), str):
        raise TypeError(
            f"object_spilling_directory is a path, or False to keep objects in memory, not {directory!r}"
        )
    return os.path.abspath(directory)


def seconds_of(keep_alive: Any) -> float | None:
    """Return a duration such as 600, "10m", "90 s" or "1h30m" in seconds; None for None and for 0."""
    if keep_alive is None:
        return None
    if isinstance(keep_alive, str):
        parts = _PART.findall(keep_alive)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if not parts or _PART.sub("", keep_alive).strip():
            raise ValueError(f'keep_alive is a text like "90s", "10m" or "1h30m", not {keep_alive!r}')
    elif isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool):
        seconds = float(keep_alive)
    else:
        raise TypeError(f'keep_alive is a number of seconds or a text like "10m", not {keep_alive!r}')
    if not 0 <= seconds < math.inf:
        raise ValueError(f"keep_alive is from 0 seconds up, and finite, not {keep_alive!r}")
    return seconds or None


def check_address(address: Any, shape: Mapping[str, Any]) -> None:
    """Raise TypeError, ValueError or NotImplementedError for a wrong address.

    `shape` has the other arguments of `init`, most of which only a session that starts can have.
    """
    if not isinstance(address, str):
        raise TypeError(f"address is a string, not {type(address).__name__}: {address!r}")
    found = registry.engine_of(address)
    if found is None and "://" in address:
        raise NotImplementedError(
            f"init(address={address!r}): there is no engine {address.partition('://')[0]!r} that could join sessions "
            f"of other machines; there are: {', '.join(registry.names())}. Other packages can add engines."
        )
    if found is None:
        raise NotImplementedError(
            f"init(address={address!r}): sessions of other machines cannot be joined. Use init() to start one here, or "
            'join one of this machine: address="auto", or its context\'s address_info["address"].'
        )
    if found[0] == address.removesuffix("://"):
        return
    fixed = [name for name in shape if name not in ("backend", "log_to_driver", "namespace", "runtime_env")]
    if fixed:
        raise ValueError(f"The session is running, so {', '.join(fixed)} cannot be chosen any more.")
