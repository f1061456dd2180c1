"""The public functions: each is one question, which the scheduler answers at once."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ipyremote.refs import ObjectRef
from ipyremote.util.state.derived import groups, jobs, nodes
from ipyremote.util.state.records import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    TaskState,
    WorkerState,
)
from ipyremote.util.state.tables import LARGEST_LIMIT, Question, listed, summarized

__all__ = [
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

Filters: TypeAlias = Sequence[tuple[str, str, str | bool | int | float]] | None

_LIMIT: Final = 100
_TIMEOUT: Final = 30
_MB: Final = 1 << 20
_ARGUMENTS: Final = """

Arguments, of those that it has. `address`: None, "auto", or the address of the running session. `filters`: (column, "="
or "!=", value) triples that all must hold; text is compared without regard to case. `limit`: records at most, up to
10,000; a warning says how many more there are. `timeout`: seconds that the scheduler may take. `detail`: with further
columns. `raise_on_missing_output`: raise StateApiException when there was more than one question looks through.

Raises ValueError and TypeError for unfit arguments, IPyRemoteSystemError when no session is running."""

F = TypeVar("F", bound=Callable[..., Any])


def _told(function: F) -> F:
    """Add what the arguments mean to a docstring."""
    function.__doc__ = inspect.cleandoc(function.__doc__ or "") + _ARGUMENTS
    return function


# ------------------------------------------------------------------------------------------------------------ lists


@_told
def list_tasks(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[TaskState]:
    """Tasks, method calls and creations of actors, a record for each attempt.

    First those that have not ended, in the order of submission; then the latest 20,000 that have, the last one first.
    """
    question = Question(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("tasks", question)


@_told
def list_actors(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ActorState]:
    """Actors in the order of their creation, then the latest 10,000 that nobody has a handle of any more."""
    question = Question(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("actors", question)


@_told
def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ObjectState]:
    """Objects that somebody has a ref to, the oldest first: what the memory is used for."""
    question = Question(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("objects", question)


@_told
def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[WorkerState]:
    """Drivers and workers, then the latest 1,000 workers that are gone, with the way they ended."""
    question = Question(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("workers", question)


@_told
def list_placement_groups(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[PlacementGroupState]:
    """Placement groups, the latest removed included."""
    return groups(Question(address, filters, limit, timeout, detail, raise_on_missing_output))


@_told
def list_nodes(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[NodeState]:
    """The machines of the session: one."""
    return nodes(Question(address, filters, limit, timeout, detail, raise_on_missing_output))


@_told
def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[JobState]:
    """The jobs of the session: itself."""
    return jobs(Question(address, filters, limit, timeout, detail, raise_on_missing_output))


# ------------------------------------------------------------------------------------------------------- single ones


@_told
def get_task(
    id: str | ObjectRef[Any], address: str | None = None, timeout: float = _TIMEOUT
) -> TaskState | list[TaskState] | None:
    """A task by its id or by a ref, with details: None if it is not known, a list if it had several attempts."""
    text = id.task_id().hex() if isinstance(id, ObjectRef) else id
    found: list[TaskState] = listed("tasks", _one("task_id", text, address, timeout))
    return found[0] if len(found) == 1 else found or None


@_told
def get_actor(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> ActorState | None:
    """An actor by its id, with details; None if it is not known."""
    found: list[ActorState] = listed("actors", _one("actor_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_objects(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> list[ObjectState]:
    """The object of this id, if there is one; a list, as in Ray."""
    return listed("objects", _one("object_id", id, address, timeout))


@_told
def get_worker(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> WorkerState | None:
    """A worker by its id, with details; None if it is not known."""
    found: list[WorkerState] = listed("workers", _one("worker_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_placement_group(
    id: str, address: str | None = None, timeout: float = _TIMEOUT
) -> PlacementGroupState | None:
    """A placement group by its id, with details; None if it is not known."""
    found = groups(_one("placement_group_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_node(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> NodeState | None:
    """The machine, if that is its id."""
    found = nodes(_one("node_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_job(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> JobState | None:
    """The session's job, if that is its id."""
    found = jobs(_one("job_id", id, address, timeout))
    return found[0] if found else None


def _one(column: str, id: str, address: str | None, timeout: float) -> Question:
    if not isinstance(id, str):
        raise TypeError(f"an id is a text of hexadecimal digits, not {id!r:.80}")
    return Question(address, [(column, "=", id)], LARGEST_LIMIT, timeout, True, False)


# ------------------------------------------------------------------------------------------------------------ counts


@_told
def summarize_tasks(
    address: str | None = None, timeout: float = _TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """How many attempts of tasks there are by name and state, in Ray's form.

    `summarize_tasks()["cluster"]["summary"]["square"]["state_counts"]` is such as `{"FINISHED": 3, "RUNNING": 1}`.
    """
    summary: dict[str, dict[str, Any]] = {}
    totals: defaultdict[str, int] = defaultdict(int)
    for group in summarized("tasks", address, timeout, raise_on_missing_output):
        entry = summary.setdefault(
            group.name, {"func_or_class_name": group.name, "type": group.type, "state_counts": {}}
        )
        counts = entry["state_counts"]
        counts[group.state] = counts.get(group.state, 0) + group.number
        totals[group.type] += group.number
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": totals["NORMAL_TASK"],
            "total_actor_tasks": totals["ACTOR_TASK"],
            "total_actor_scheduled": totals["ACTOR_CREATION_TASK"],
            "summary_by": "func_name",
        }
    }


@_told
def summarize_actors(
    address: str | None = None, timeout: float = _TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """How many actors there are by class and state, in Ray's form."""
    summary: dict[str, dict[str, Any]] = {}
    total = 0
    for group in summarized("actors", address, timeout, raise_on_missing_output):
        entry = summary.setdefault(group.name, {"class_name": group.name, "state_counts": {}})
        entry["state_counts"][group.state] = group.number
        total += group.number
    return {"cluster": {"summary": summary, "total_actors": total, "summary_by": "class"}}


@_told
def summarize_objects(
    address: str | None = None, timeout: float = _TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """How many objects there are, and how large they are, by the name of what made them ("put" for those of `put`).

    In Ray's form, which has them by the line of code that made them if that is recorded.
    """
    summary: dict[str, dict[str, Any]] = {}
    total = size = 0
    for group in summarized("objects", address, timeout, raise_on_missing_output):
        entry = summary.setdefault(
            group.name,
            {"total_objects": 0, "total_size_mb": 0.0, "task_state_counts": {}, "ref_type_counts": {}},
        )
        entry["total_objects"] += group.number
        entry["total_size_mb"] += group.size / _MB
        for counts, word in (("task_state_counts", group.state), ("ref_type_counts", group.reference)):
            entry[counts][word] = entry[counts].get(word, 0) + group.number
        total += group.number
        size += group.size
    return {
        "cluster": {
            "summary": summary,
            "total_objects": total,
            "total_size_mb": size / _MB,
            "callsite_enabled": False,
            "summary_by": "name",
        }
    }
