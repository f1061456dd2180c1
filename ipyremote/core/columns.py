"""The columns and rows of lists of attempts, actors, objects and workers, in Ray's words.

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

#: Ray's words for the states of attempts.
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
    # These two are states of runs that did not end their task.
    RETRIED: "FAILED",
    LOST: "FAILED",
}
#: Ray's words for the states of actors.
ACTOR_STATES: Final = {
    WAITING: "PENDING_CREATION",
    STARTING: "PENDING_CREATION",
    ALIVE: "ALIVE",
    RESTARTING: "RESTARTING",
    DEAD: "DEAD",
}
#: Ray's words for kinds of failures; a kind that is not here is the same word in capitals.
ERROR_TYPES: Final = {"task_error": "TASK_EXECUTION_EXCEPTION", "worker_crashed": "WORKER_DIED"}

# ----------------------------------------------------------------------------------------------------------- tasks


def _type(ledger: Ledger, attempt: Attempt) -> str:
    if not attempt.actor_id:
        return "NORMAL_TASK"
    return "ACTOR_CREATION_TASK" if attempt.actor_id == attempt.task_id else "ACTOR_TASK"


def _name(ledger: Ledger, attempt: Attempt) -> str:
    return attempt.name


def _function(ledger: Ledger, attempt: Attempt) -> str:
    """Return the name of the function or method as it is defined, whatever the call is named."""
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


#: Columns of attempts, by the fields of `TaskRow`.
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
    """Return the row of an attempt. Without `detail` the row has no text of an error and no resources."""
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
    # An object that waits for the value of another object has no task any more.
    return TASK_STATES[obj.producer.state if obj.producer is not None else WAITING]


def _reference(ledger: Ledger, obj: Object) -> str:
    """Return Ray's word for the kind of an object's holders; of several kinds, the word that says most."""
    if obj.id in ledger.actors:
        return "ACTOR_HANDLE"
    have = obj.holders
    holders = have if isinstance(have, set) else (have,)
    if min(holders) < 0:
        return "USED_BY_PENDING_TASK"
    if max(holders) >= FIRST_ID:
        return "CAPTURED_IN_OBJECT"
    # The only holders are SESSION, SAVED or DETACHED.
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


#: Columns of objects, by the fields of `ObjectRow`.
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
    """Return the row of an object."""
    return ObjectRow(**{name: column(ledger, obj) for name, column in OBJECT_COLUMNS.items()})


# ----------------------------------------------------------------------------------------------------------- actors


def actor_rows(ledger: Ledger, names: ActorNameTable, *, detail: bool) -> Iterator[ActorRow]:
    """Yield rows of the ledger's actors, in the order of their creation, then of the other remembered dead actors,
    the latest first."""
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
    """Yield rows of the drivers, the workers that have greeted, and remembered workers, the latest first."""
    for client in ledger.clients.values():
        if client.id not in ledger.workers:
            yield WorkerRow(client.id, client.pid, is_driver=True, is_alive=True)
    for worker in ledger.workers.values():
        if worker.pid:
            yield _worker_row(worker)
    yield from reversed(ledger.past.workers)


def worker_exit(worker: Worker, end: WorkerEnd, now: float) -> WorkerRow:
    """Return the row of a worker whose process has just ended."""
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
