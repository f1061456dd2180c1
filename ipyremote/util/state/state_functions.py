"""The public functions of `util.state`: each is one query, which the scheduler answers at once."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ipyremote.refs import ObjectRef
from ipyremote.util.state.derived import groups, jobs, nodes
from ipyremote.util.state.state_records import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    TaskState,
    WorkerState,
)
from ipyremote.util.state.tables import LARGEST_LIMIT, StateQuery, listed, summarized

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
#: Explanations of the parameters, by name.
_PARAMETERS: Final = {
    "id": "str\n    Hexadecimal digits of the id.",
    "address": 'str, optional\n    None, "auto", or the address of the running session.',
    "filters": (
        'list of tuple, optional\n    Triples (column, "=" or "!=", value) that must all hold. The case of text does '
        "not matter."
    ),
    "limit": ("int, default 100\n    Records at most, up to 10,000. A warning says how many more there are."),
    "timeout": "float, default 30\n    Seconds that the scheduler may take.",
    "detail": "bool, default False\n    Whether the records have further columns.",
    "raise_on_missing_output": (
        "bool, default True\n    Whether to raise StateApiException when there is more than one query looks through."
    ),
}
_RAISES: Final = """Raises
------
ValueError, TypeError
    An argument does not fit.
IPyRemoteSystemError
    No session is running.
"""

F = TypeVar("F", bound=Callable[..., Any])


def _told(function: F) -> F:
    """Add the explanations of the parameters and errors, which all functions share, to a docstring."""
    own = inspect.cleandoc(function.__doc__ or "")
    head, mark, rest = own.partition("Returns\n-------\n")
    result, examples, code = rest.partition("Examples\n--------\n")
    parameters = "\n".join(f"{name} : {_PARAMETERS[name]}" for name in inspect.signature(function).parameters)
    function.__doc__ = (
        f"{head}Parameters\n----------\n{parameters}\n\n{mark}{result}{_RAISES}\n{examples}{code}"
    )
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
    """List tasks, method calls and creations of actors, with a record for each attempt. As `ray.util.state.list_tasks`.

    Returns
    -------
    list of TaskState
        First the attempts that have not ended, in the order of submission, then the latest 20,000 that have, the last
        first.

    Examples
    --------
    >>> from ipyremote.util.state import list_tasks
    >>> @ray.remote
    ... def to_list():
    ...     return 1
    >>> ray.get(to_list.remote())
    1
    >>> [(task.label, task.state) for task in list_tasks(filters=[("name", "=", "to_list")])]
    [('to_list#1', 'FINISHED')]
    """
    query = StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("tasks", query)


@_told
def list_actors(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ActorState]:
    """List actors, dead or alive. As `ray.util.state.list_actors`.

    Returns
    -------
    list of ActorState
        Actors in the order of their creation, then the latest 10,000 that nobody has a handle of any more.

    Examples
    --------
    >>> from ipyremote.util.state import list_actors
    >>> @ray.remote
    ... class Listed:
    ...     def ready(self):
    ...         return True
    >>> actor = Listed.remote()
    >>> ray.get(actor.ready.remote())
    True
    >>> [(actor.label, actor.state) for actor in list_actors(filters=[("class_name", "=", "Listed")])]
    [('Listed#1', 'ALIVE')]
    """
    query = StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("actors", query)


@_told
def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ObjectState]:
    """List the objects that somebody has a ref of: what the memory is used for. As `ray.util.state.list_objects`.

    Returns
    -------
    list of ObjectState
        Objects, the oldest first.

    Examples
    --------
    >>> from ipyremote.util.state import list_objects
    >>> ref = ray.put(bytes(1000))
    >>> [record.object_size > 1000 for record in list_objects() if record.object_id == ref.hex()]
    [True]
    """
    query = StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("objects", query)


@_told
def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[WorkerState]:
    """List drivers and workers, with those that are gone. As `ray.util.state.list_workers`.

    Returns
    -------
    list of WorkerState
        Living processes, then the latest 1,000 workers that are gone, with the way in which they ended.

    Examples
    --------
    >>> from ipyremote.util.state import list_workers
    >>> [worker.worker_type for worker in list_workers(filters=[("worker_type", "=", "DRIVER")])]
    ['DRIVER']
    """
    query = StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output)
    return listed("workers", query)


@_told
def list_placement_groups(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[PlacementGroupState]:
    """List placement groups, with the latest that were removed. As `ray.util.state.list_placement_groups`.

    Returns
    -------
    list of PlacementGroupState
        The groups.

    Examples
    --------
    >>> from ipyremote.util import placement_group, remove_placement_group
    >>> from ipyremote.util.state import list_placement_groups
    >>> group = placement_group([{"CPU": 1}], name="listed group")
    >>> group.wait(60)
    True
    >>> [record.state for record in list_placement_groups() if record.name == "listed group"]
    ['CREATED']
    >>> remove_placement_group(group)
    """
    return groups(StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output))


@_told
def list_nodes(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[NodeState]:
    """List the machines of the session: one. As `ray.util.state.list_nodes`.

    Returns
    -------
    list of NodeState
        The machine.

    Examples
    --------
    >>> from ipyremote.util.state import list_nodes
    >>> [node.state for node in list_nodes()]
    ['ALIVE']
    """
    return nodes(StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output))


@_told
def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = _LIMIT,
    timeout: float = _TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[JobState]:
    """List the jobs of the session: the session itself. As `ray.util.state.list_jobs`.

    Returns
    -------
    list of JobState
        The job.

    Examples
    --------
    >>> from ipyremote.util.state import list_jobs
    >>> [job.status for job in list_jobs()]
    ['RUNNING']
    """
    return jobs(StateQuery(address, filters, limit, timeout, detail, raise_on_missing_output))


# ------------------------------------------------------------------------------------------------------- single ones


@_told
def get_task(
    id: str | ObjectRef[Any], address: str | None = None, timeout: float = _TIMEOUT
) -> TaskState | list[TaskState] | None:
    """Return what is known of a task, with details. As `ray.util.state.get_task`. A ref stands for its task.

    Returns
    -------
    TaskState, list of TaskState, or None
        A list if the task had several attempts; None if the task is not known.

    Examples
    --------
    >>> from ipyremote.util.state import get_task
    >>> @ray.remote
    ... def looked_up():
    ...     return 1
    >>> ref = looked_up.remote()
    >>> ray.get(ref)
    1
    >>> get_task(ref).func_or_class_name
    'looked_up'
    """
    text = id.task_id().hex() if isinstance(id, ObjectRef) else id
    found: list[TaskState] = listed("tasks", _one("task_id", text, address, timeout))
    return found[0] if len(found) == 1 else found or None


@_told
def get_actor(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> ActorState | None:
    """Return what is known of an actor, with details. As `ray.util.state.get_actor`.

    Returns
    -------
    ActorState or None
        None if the actor is not known.

    Examples
    --------
    >>> from ipyremote.util.state import get_actor, list_actors
    >>> @ray.remote
    ... class Known:
    ...     pass
    >>> actor = Known.remote()
    >>> (record,) = list_actors(filters=[("class_name", "=", "Known")])
    >>> get_actor(record.actor_id).num_restarts
    0
    """
    found: list[ActorState] = listed("actors", _one("actor_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_objects(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> list[ObjectState]:
    """Return what is known of an object. As `ray.util.state.get_objects`.

    Returns
    -------
    list of ObjectState
        One record, or none.

    Examples
    --------
    >>> from ipyremote.util.state import get_objects
    >>> ref = ray.put("a word")
    >>> [record.reference_type for record in get_objects(ref.hex())]
    ['LOCAL_REFERENCE']
    """
    return listed("objects", _one("object_id", id, address, timeout))


@_told
def get_worker(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> WorkerState | None:
    """Return what is known of a worker or driver, with details. As `ray.util.state.get_worker`.

    Returns
    -------
    WorkerState or None
        None if the process is not known.

    Examples
    --------
    >>> from ipyremote.util.state import get_worker
    >>> get_worker(ray.get_runtime_context().get_worker_id()).worker_type
    'DRIVER'
    """
    found: list[WorkerState] = listed("workers", _one("worker_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_placement_group(
    id: str, address: str | None = None, timeout: float = _TIMEOUT
) -> PlacementGroupState | None:
    """Return what is known of a placement group, with details. As `ray.util.state.get_placement_group`.

    Returns
    -------
    PlacementGroupState or None
        None if the group is not known.

    Examples
    --------
    >>> from ipyremote.util import placement_group, remove_placement_group
    >>> from ipyremote.util.state import get_placement_group
    >>> group = placement_group([{"CPU": 1}])
    >>> group.wait(60)
    True
    >>> get_placement_group(group.id.hex()).bundles[0]["resources"]
    {'CPU': 1.0}
    >>> remove_placement_group(group)
    """
    found = groups(_one("placement_group_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_node(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> NodeState | None:
    """Return what is known of a machine. As `ray.util.state.get_node`.

    Returns
    -------
    NodeState or None
        None if the session's machine has another id.

    Examples
    --------
    >>> from ipyremote.util.state import get_node
    >>> get_node(ray.get_runtime_context().get_node_id()).resources_total["CPU"]
    4.0
    """
    found = nodes(_one("node_id", id, address, timeout))
    return found[0] if found else None


@_told
def get_job(id: str, address: str | None = None, timeout: float = _TIMEOUT) -> JobState | None:
    """Return what is known of a job. As `ray.util.state.get_job`.

    Returns
    -------
    JobState or None
        None if the session's job has another id.

    Examples
    --------
    >>> from ipyremote.util.state import get_job
    >>> get_job(ray.get_runtime_context().get_job_id()).type
    'DRIVER'
    """
    found = jobs(_one("job_id", id, address, timeout))
    return found[0] if found else None


def _one(column: str, id: str, address: str | None, timeout: float) -> StateQuery:
    if not isinstance(id, str):
        raise TypeError(f"an id is a text of hexadecimal digits, not {id!r:.80}")
    return StateQuery(address, [(column, "=", id)], LARGEST_LIMIT, timeout, True, False)


# ------------------------------------------------------------------------------------------------------------ counts


@_told
def summarize_tasks(
    address: str | None = None, timeout: float = _TIMEOUT, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count attempts of tasks by name and state, in Ray's form. As `ray.util.state.summarize_tasks`.

    Returns
    -------
    dict
        Under `["cluster"]["summary"]` a dictionary for each name, with `type` and `state_counts`; totals beside.

    Examples
    --------
    >>> from ipyremote.util.state import summarize_tasks
    >>> @ray.remote
    ... def counted():
    ...     return 1
    >>> ray.get([counted.remote() for _ in range(3)])
    [1, 1, 1]
    >>> summarize_tasks()["cluster"]["summary"]["counted"]["state_counts"]
    {'FINISHED': 3}
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
    """Count actors by class and state, in Ray's form. As `ray.util.state.summarize_actors`.

    Returns
    -------
    dict
        Under `["cluster"]["summary"]` a dictionary for each class, with `state_counts`; totals beside.

    Examples
    --------
    >>> from ipyremote.util.state import summarize_actors
    >>> @ray.remote
    ... class Summed:
    ...     def ready(self):
    ...         return True
    >>> actor = Summed.remote()
    >>> ray.get(actor.ready.remote())
    True
    >>> summarize_actors()["cluster"]["summary"]["Summed"]["state_counts"]
    {'ALIVE': 1}
    """
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
    """Count objects and their megabytes by the name of what made them, in Ray's form.

    Ray has them by the line of code that made them, if that is recorded; here "put" stands for objects of `put`.

    Returns
    -------
    dict
        Under `["cluster"]["summary"]` a dictionary for each name, with `total_objects`, `total_size_mb` and counts;
        totals beside.

    Examples
    --------
    >>> from ipyremote.util.state import summarize_objects
    >>> ref = ray.put(bytes(1000))
    >>> summarize_objects()["cluster"]["summary"]["put"]["total_objects"] >= 1
    True
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
