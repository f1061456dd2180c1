"""Tasks, actors and objects in worker processes, live in a Jupyter notebook.

import ipyremote as ray

@ray.remote
def square(x):
    return x * x

ray.get([square.remote(i) for i in range(4)])
"""

# Layout: ARCHITECTURE.md has the map of the rooms.

from __future__ import annotations

import importlib
from typing import Any

from ipyremote import exceptions
from ipyremote.api import (
    available_resources,
    cancel,
    cluster_resources,
    free,
    get,
    get_actor,
    get_gpu_ids,
    get_runtime_context,
    init,
    is_initialized,
    kill,
    nodes,
    put,
    recover,
    shutdown,
    wait,
)
from ipyremote.compat import absent
from ipyremote.refs import ObjectRef
from ipyremote.remote import ActorClass, ActorHandle, RemoteFunction, method, remote
from ipyremote.session.context import ClusterContext
from ipyremote.session.logging import LoggingConfig
from ipyremote.streams import DynamicObjectRefGenerator, ObjectRefGenerator

__version__ = "0.1.0"

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ClusterContext",
    "DynamicObjectRefGenerator",
    "LoggingConfig",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "dashboard",
    "exceptions",
    "free",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "install_as_ray",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "progress",
    "put",
    "recover",
    "remote",
    "shutdown",
    "timeline",
    "util",
    "wait",
]


#: Submodules that programs use without importing them, and most programs do not use.
_SUBMODULES = frozenset({"cloudpickle", "internal", "runtime_env", "util"})


def progress(refs: Any) -> None:
    """Show how far refs are, as a live board in a notebook and as a bar of text elsewhere.

    In a notebook the cell goes on at once. Elsewhere `progress` returns when all tasks behind the refs have ended, and
    failures of tasks do not raise.

    Parameters
    ----------
    refs : ObjectRef, ObjectRefGenerator, or a list, tuple or dict of them
        What to watch, nested or not.

    Raises
    ------
    TypeError
        `refs` is neither a ref nor a collection of refs.

    Examples
    --------
    >>> @ray.remote
    ... def half(x):
    ...     return x / 2
    >>> refs = [half.remote(i) for i in range(3)]
    >>> ray.progress(refs)
    >>> ray.get(refs)
    [0.0, 0.5, 1.0]
    """
    from ipyremote.notebook import views

    views.progress(refs)


def dashboard() -> None:
    """Show the cluster: workers with what they run, CPU, memory, queue, store, actors, and a timeline.

    In a notebook a live view, elsewhere text.

    Raises
    ------
    IPyRemoteSystemError
        No session is running.

    Examples
    --------
    >>> ray.dashboard()
    Cluster: CPU ... of 4 free...
    """
    from ipyremote.notebook import views

    views.dashboard()


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Write the latest runs of tasks as a Chrome trace, which chrome://tracing and Perfetto open.

    Parameters
    ----------
    filename : str, optional
        The file to write.

    Returns
    -------
    list of dict, or None
        Without `filename` the events themselves, of 20,000 runs at most; times are in microseconds.

    Raises
    ------
    RuntimeError
        No session is running.

    Examples
    --------
    >>> @ray.remote
    ... def traced():
    ...     return 1
    >>> ray.get(traced.remote())
    1
    >>> any("traced" in event["name"] for event in ray.timeline())
    True
    """
    from ipyremote.notebook import views

    return views.timeline(filename)


def install_as_ray() -> None:
    """Give ipyremote under the name `ray` from now on, so that programs written for Ray run unchanged.

    Also in the functions that this process sends to workers. A second call changes nothing.

    Raises
    ------
    RuntimeError
        Ray itself has been imported already.

    Examples
    --------
    >>> import subprocess, sys
    >>> program = "import ipyremote; ipyremote.install_as_ray(); import ray; print(ray.get is ipyremote.get)"
    >>> print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip())
    True
    """
    from ipyremote.compat import aliases

    aliases.install_as_ray()


def __getattr__(name: str) -> Any:
    # Programs written for Ray use its submodules without importing them.
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    sentence = absent.advice(name)
    if sentence is not None:
        raise absent.AbsentFeature(sentence)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The public names only: `ipyremote.<TAB>` is where beginners look around.
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Set up this shell for `%load_ext ipyremote`."""
    from ipyremote.notebook import extension

    extension.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Undo `load_ipython_extension` for `%unload_ext ipyremote`."""
    from ipyremote.notebook import extension

    extension.unload(shell)
