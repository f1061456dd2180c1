"""What there is in the session, as tables: tasks, actors, objects, workers, as `ray.util.state` has them.

    pandas.DataFrame(list_tasks(filters=[("state", "=", "FAILED")], detail=True))

Records are made anew by each call and do not change. Columns and the words for states are Ray's.
"""

# Layout:
#
#   state_functions.py    the public functions
#   derived.py            the tables that are made from what other functions say
#   tables.py             the tables that the scheduler is asked for: filters to its words, rows to records
#   state_records.py      the records
#   exception.py          the error for an answer that would not be complete

from __future__ import annotations

from typing import Any, Final

from ipyremote.compat import absent
from ipyremote.util.state.exception import StateApiException
from ipyremote.util.state.state_functions import (
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)
from ipyremote.util.state.state_records import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    TaskState,
    WorkerState,
)

__all__ = [
    "ActorState",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "StateApiException",
    "TaskState",
    "WorkerState",
    "get_actor",
    "get_job",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]

_HERE: Final = "util.state"


def __getattr__(name: str) -> Any:
    sentence = absent.advice(f"{_HERE}.{name}")
    if sentence is not None:
        raise absent.AbsentFeature(sentence)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
