"""What people build with tasks and actors again and again, on the public API. Names and signatures are those of
`ray.util` where it has them.

ActorPool                          work handed out to a set of actors
as_completed, map_unordered        values in the order in which they come
Executor                           a standard `concurrent.futures.Executor`
tqdm, safe_print                   progress bars that work inside tasks
list_named_actors                  the names of actors
placement_group and its kin        resources reserved together; `scheduling_strategies` has what refers to them
register_serializer, deregister_serializer, inspect_serializability    how values are pickled, and why not
queue, multiprocessing, joblib, metrics, scheduling_strategies, state    modules, imported when they are first used
"""

# Layout (each module imports from later lines only):
#
#   multiprocessing/ joblib/     backends of the standard library's pools and of joblib
#   state/                       tables of the session's tasks, actors, objects and processes
#   executor.py                  concurrent.futures
#   calls.py pool_worker.py      values of calls for threads that wait; processes that keep their globals
#   actor_pool.py completion.py queue.py metrics.py bars.py named_actors.py
#   scheduling_strategies.py placement_group.py    where tasks run and actors live (a function has its module's name)
#   serialization.py             custom serializers, and parts of a value that cannot be pickled
#   origin.py                    the cell and task on whose behalf a thread submits

from __future__ import annotations

import importlib
from typing import Any

from ipyremote.util.actor_pool import ActorPool
from ipyremote.util.bars import safe_print, tqdm
from ipyremote.util.completion import as_completed, map_unordered
from ipyremote.util.executor import Executor
from ipyremote.util.named_actors import list_named_actors
from ipyremote.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ipyremote.util.serialization import (
    deregister_serializer,
    inspect_serializability,
    register_serializer,
)

__all__ = [
    "ActorPool",
    "Executor",
    "as_completed",
    "deregister_serializer",
    "get_current_placement_group",
    "get_placement_group",
    "inspect_serializability",
    "joblib",
    "list_named_actors",
    "map_unordered",
    "metrics",
    "multiprocessing",
    "placement_group",
    "placement_group_table",
    "queue",
    "register_serializer",
    "remove_placement_group",
    "safe_print",
    "scheduling_strategies",
    "state",
    "tqdm",
]

_MODULES = frozenset({"joblib", "metrics", "multiprocessing", "queue", "scheduling_strategies", "state"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
