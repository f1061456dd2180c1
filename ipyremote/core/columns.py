"""What stands in the columns of lists, in Ray's words: of attempts, actors, objects and workers.

A column is a function of the ledger and a record, so that a filter looks at one column without making a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.events import OUT_OF_MEMORY, WorkerEnd
from ipyremote.core.state import FIRST_ID, ActorFacts, Attempt, Ledger, Object, Worker
from ipyremote.core.state.history import LOST, RETRIED, TEXT_LIMIT, facts_of
from ipyremote.core.transitions import (
    ALIVE,
    BLOCKED,
    CANCELLED,
    CANCELLING,
    DEAD,
    DONE,
    FAILED,
    READY,
    RESTARTING,
    RUNNING,
    SEALED,
    SENT,
    STARTING,
    STOPPING,
    WAITING,
)
from ipyremote.ids import CLIENTS, client_of
from ipyremote.messages import ActorRow, Failure, Inline, ObjectRow, Stored, TaskRow, WorkerRow

__all__ = [
    "OBJECT_COLUMNS",
    "TASK_COLUMNS",
    "Column",
    "actor_rows",
    "object_row",
    "task_row",
    "worker_exit",
    "worker_rows",
]

Column: TypeAlias = Callable[[Ledger, Any], Any]

TASK_STATES: Final = {
    WAITING: "PENDING_ARGS_AVAIL",
    READY: "PENDING_NODE_ASSIGNMENT",
    SENT: "SUBMITTED_TO_WORKER",
    RUNNING: "RUNNING",
    BLOCKED: "RUNNING_IN_RAY_GET",
    CANCELLING: "RUNNING",
    DONE: "FINISHED",
    FAILED: "FAILED",
    CANCELLED: "FAILED",
    # Those of runs that did not end their task.
    RETRIED: "FAILED",
    LOST: "FAILED",
}
ACTOR_STATES: Final = {
    WAITING: "PENDING_CREATION",
    STARTING: "PENDING_CREATION",
    ALIVE: "ALIVE",
    RESTARTING: "RESTARTING",
    DEAD: "DEAD",
}
#: Kinds of failures that Ray has another word for; the others are the same in capitals.
ERROR_TYPES: Final = {"task_error": "TASK_EXECUTION_EXCEPTION", "worker_crashed": "WORKER_DIED"}

# ----------------------------------------------------------------------------------------------------------- tasks


def _type(ledger: Ledger, attempt: Attempt) -> str:
    if not attempt.actor_id:
        return "NORMAL_TASK"
    return "ACTOR_CREATION_TASK" if attempt.actor_id == attempt.task_id else "ACTOR_TASK"


def _name(ledger: Ledger, attempt: Attempt) -> str:
    return attempt.name


def _function(ledger: Ledger, attempt: Attempt) -> str:
    """As it is defined, whatever the call is named."""
    target = attempt.target
    if isinstance(target, str):
        actor = ledger.actors.get(attempt.actor_id)
        return f"{actor.spec.class_name}.{target}" if actor is not None else _name(ledger, attempt)
    name = target.define.name if target is not None and target.define is not None else ""
    name = name or _name(ledger, attempt)
    return f"{name}.__init__" if attempt.actor_id else name


def _error_type(ledger: Ledger, attempt: Attempt) -> str:
    kind = attempt.failure.kind if attempt.failure is not None else ""
    return ERROR_TYPES.get(kind) or kind.upper()


def _group(ledger: Ledger, attempt: Attempt) -> int:
    shape = attempt.shape
    return shape.group.id if shape is not None and shape.group is not None else 0


#: By the fields of `TaskRow`.
TASK_COLUMNS: Final[Mapping[str, Column]] = {
    "task_id": lambda ledger, attempt: attempt.task_id,
    "attempt": lambda ledger, attempt: attempt.attempt,
    "label": lambda ledger, attempt: attempt.label,
    "name": _name,
    "state": lambda ledger, attempt: TASK_STATES[attempt.state],
    "type": _type,
    "function": _function,
    "actor_id": lambda ledger, attempt: attempt.actor_id,
    "parent": lambda ledger, attempt: attempt.parent,
    "worker_id": lambda ledger, attempt: attempt.worker.id if attempt.worker is not None else 0,
    "pid": lambda ledger, attempt: attempt.worker.pid if attempt.worker is not None else 0,
    "error_type": _error_type,
    "group": _group,
}


def task_row(ledger: Ledger, attempt: Attempt, *, detail: bool) -> TaskRow:
    """The row of an attempt."""
    failure, shape = attempt.failure, attempt.shape
    columns = {name: column(ledger, attempt) for name, column in TASK_COLUMNS.items()}
    return TaskRow(
        **columns,
        submitted=attempt.submitted,
        started=attempt.started,
        ended=attempt.ended,
        error=failure.text if detail and failure is not None else "",
        resources=shape.needs if detail and shape is not None else (),
    )


# ---------------------------------------------------------------------------------------------------------- objects


def _size(ledger: Ledger, obj: Object) -> int:
    value = obj.value
    if type(value) is Stored:
        return value.size
    if type(value) is Inline or type(value) is Failure:
        return len(value.data)
    return 0


def _status(ledger: Ledger, obj: Object) -> str:
    if obj.value is not None:
        return "FINISHED" if obj.state == SEALED else "FAILED"
    # One that waits for the value of another has no task any more.
    return TASK_STATES[obj.producer.state if obj.producer is not None else WAITING]


def _reference(ledger: Ledger, obj: Object) -> str:
    """The word for what it is held by, of several the one that says most."""
    if obj.id in ledger.actors:
        return "ACTOR_HANDLE"
    have = obj.holders
    holders = have if isinstance(have, set) else (have,)
    if min(holders) < 0:
        return "USED_BY_PENDING_TASK"
    if max(holders) >= FIRST_ID:
        return "CAPTURED_IN_OBJECT"
    # What exported functions refer to is kept for good.
    return "LOCAL_REFERENCE" if any(0 < holder < CLIENTS for holder in holders) else "PINNED_IN_MEMORY"


def _pid(ledger: Ledger, obj: Object) -> int:
    maker = client_of(obj.id)
    worker = ledger.workers.get(maker)
    if worker is not None:
        return worker.pid
    client = ledger.clients.get(maker)
    return client.pid if client is not None else 0


def _is_of_driver(ledger: Ledger, obj: Object) -> bool:
    maker = client_of(obj.id)
    return maker in ledger.clients and maker not in ledger.workers


#: By the fields of `ObjectRow`.
OBJECT_COLUMNS: Final[Mapping[str, Column]] = {
    "object_id": lambda ledger, obj: obj.id,
    "label": lambda ledger, obj: obj.label,
    "size": _size,
    "status": _status,
    "reference": _reference,
    "pid": _pid,
    "is_of_driver": _is_of_driver,
}


def object_row(ledger: Ledger, obj: Object) -> ObjectRow:
    """The row of an object."""
    return ObjectRow(**{name: column(ledger, obj) for name, column in OBJECT_COLUMNS.items()})


# ----------------------------------------------------------------------------------------------------------- actors


def actor_rows(ledger: Ledger, names: ActorNameTable, *, detail: bool) -> Iterator[ActorRow]:
    """The actors that are there, in the order of their creation, then those that are remembered, the latest first."""
    for actor in ledger.actors.values():
        facts = facts_of(actor)
        waits = actor.state == WAITING and actor.creation.state == WAITING
        yield _actor_row(facts, names, "DEPENDENCIES_UNREADY" if waits else "", detail=detail)
    for facts in reversed(ledger.past.actors):
        if facts.actor_id not in ledger.actors:
            yield _actor_row(facts, names, "", detail=detail)


def _actor_row(facts: ActorFacts, names: ActorNameTable, state: str, *, detail: bool) -> ActorRow:
    return ActorRow(
        facts.actor_id,
        facts.label,
        facts.class_name,
        state or ACTOR_STATES[facts.state],
        facts.name,
        facts.namespace or names.namespace_of(facts.driver),
        facts.pid,
        names.title_of(facts.actor_id),
        facts.resources,
        facts.is_detached,
        facts.restarts,
        facts.group,
        facts.cause if detail else "",
    )


# ---------------------------------------------------------------------------------------------------------- workers


def worker_rows(ledger: Ledger) -> Iterator[WorkerRow]:
    """The drivers, the workers, and those that are remembered, the latest first."""
    for client in ledger.clients.values():
        if client.id not in ledger.workers:
            yield WorkerRow(client.id, client.pid, is_driver=True, is_alive=True)
    for worker in ledger.workers.values():
        if worker.pid:
            yield _worker_row(worker)
    yield from reversed(ledger.past.workers)


def worker_exit(worker: Worker, end: WorkerEnd, now: float) -> WorkerRow:
    """Return the row of a worker that has just gone."""
    if end.kind == OUT_OF_MEMORY:
        kind = "NODE_OUT_OF_MEMORY"
    else:
        kind = "INTENDED_SYSTEM_EXIT" if worker.state == STOPPING else "SYSTEM_ERROR"
    return WorkerRow(
        worker.id,
        worker.pid,
        is_driver=False,
        is_alive=False,
        exit_type=kind,
        exit_detail=end.text[:TEXT_LIMIT],
        started=worker.started_at,
        ended=now,
    )


def _worker_row(worker: Worker) -> WorkerRow:
    label = worker.tasks[0].spec.label if worker.tasks else ""
    if worker.actor is not None:
        label = label or worker.actor.spec.class_name
    state = "blocked" if worker.blocked else worker.state
    return WorkerRow(
        worker.id,
        worker.pid,
        is_driver=False,
        is_alive=True,
        state=state,
        label=label,
        started=worker.started_at,
    )
