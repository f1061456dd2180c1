"""What can be asked of each table, the question to the scheduler, and its rows as records.

The scheduler filters and cuts, so a filter is put into its words here: ids as numbers, and nothing where a column is
the same for all rows (there is one job and one node).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from ipyremote import messages as m
from ipyremote.backend import current
from ipyremote.client.session import Session
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.ids import group_hex_of, hex_of, job_hex_of, task_hex_of
from ipyremote.util.state.exception import StateApiException
from ipyremote.util.state.records import (
    ActorDetails,
    ActorState,
    ObjectState,
    Record,
    TaskDetails,
    TaskState,
    WorkerDetails,
    WorkerState,
)

__all__ = ["IP", "LARGEST_LIMIT", "Place", "Question", "checked", "listed", "session_of", "summarized"]

#: As in Ray.
LARGEST_LIMIT: Final = 10_000
#: An id that nothing has.
_NOTHING: Final = -1
IP: Final = "127.0.0.1"


class Question(NamedTuple):
    """The arguments of a list."""

    address: str | None
    filters: Sequence[tuple[Any, ...]] | None
    limit: int
    timeout: float
    detail: bool
    is_strict: bool


class Place(NamedTuple):
    """The session that is asked, and how its ids and clock are told. No id and no time: None."""

    key: str
    #: What is added to a time of the scheduler's clock.
    offset: float = 0.0

    @property
    def job(self) -> str:
        return job_hex_of(self.key)

    @property
    def node(self) -> str:
        return hex_of(self.key, 0)

    def id(self, any_id: int) -> str | None:
        return hex_of(self.key, any_id) if any_id else None

    def group(self, group_id: int) -> str | None:
        return group_hex_of(self.key, group_id) if group_id else None

    def task(self, task_id: int) -> str | None:
        return task_hex_of(self.key, task_id) if task_id else None

    def ms(self, moment: float) -> int | None:
        return round((moment + self.offset) * 1000) if moment else None


# ---------------------------------------------------------------------------------------------------------- filters

#: What a filter's value is for the scheduler.
Reading: TypeAlias = Callable[[Place, str, Any], int | str]


def _text(place: Place, column: str, value: Any) -> str:
    return str(value).lower()


def _number(place: Place, column: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"the column {column!r} has whole numbers, and the filter asks for {value!r}"
        ) from None


def _truth(place: Place, column: str, value: Any) -> int:
    word = str(value).lower()
    if word in ("true", "1", "false", "0"):
        return int(word in ("true", "1"))
    raise ValueError(f"the column {column!r} is True or False, and the filter asks for {value!r}")


def _role(place: Place, column: str, value: Any) -> int:
    return {"driver": 1, "worker": 0}.get(str(value).lower(), _NOTHING)


def _id(place: Place, column: str, value: Any) -> int:
    """The number behind an id's digits, which for tasks and for groups are fewer."""
    digits = str(value).lower()
    try:
        number = int(digits[-16:], 16)
    except ValueError:
        return _NOTHING
    known = digits in {form(place.key, number) for form in (hex_of, task_hex_of, group_hex_of)}
    return number if known and number >> 63 == 0 else _NOTHING


class _Table(NamedTuple):
    """A kind of records."""

    plain: type[Record]
    #: Column of the records -> column of the rows, and how a filter's value is read.
    asked: Mapping[str, tuple[str, Reading]]
    #: Columns that are the same everywhere.
    fixed: Mapping[str, Callable[[Place], str]]
    record: Callable[[Place, Any, bool], Any]


def _job(place: Place) -> str:
    return place.job


def _node(place: Place) -> str:
    return place.node


def _ip(place: Place) -> str:
    return IP


def _conditions(table: _Table, place: Place, filters: Sequence[tuple[Any, ...]]) -> list[m.Filter] | None:
    """What the scheduler is asked for; None when nothing can meet the filters."""
    conditions = []
    for column, operator, value in filters:
        fixed = table.fixed.get(column)
        if fixed is None:
            name, read = table.asked[column]
            conditions.append(m.Filter(name, operator == "=", read(place, column, value)))
        elif (str(value).lower() == fixed(place)) is not (operator == "="):
            return None
    return conditions


def checked(question: Question, known: Iterable[str]) -> Sequence[tuple[Any, ...]]:
    """The filters. Raises ValueError and TypeError for whatever is wrong with a question."""
    limit, timeout = question.limit, question.timeout
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit is a whole number, not {limit!r}")
    if not 0 <= limit <= LARGEST_LIMIT:
        raise ValueError(f"limit is from 0 to {LARGEST_LIMIT:,}, not {limit:,}")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    filters = question.filters or ()
    if isinstance(filters, str) or not isinstance(filters, Sequence):
        raise TypeError(f"filters is a list of (column, operator, value), not {filters!r:.80}")
    for condition in filters:
        _check_filter(condition, known)
    return filters


def _check_filter(condition: Any, known: Iterable[str]) -> None:
    if not isinstance(condition, tuple | list) or len(condition) != 3:
        raise ValueError(f'a filter is a triple such as ("state", "=", "RUNNING"), not {condition!r:.80}')
    column, operator, value = condition
    names = sorted(known)
    if column not in names:
        raise ValueError(f"there is no column {column!r} to filter by. There are: {', '.join(names)}.")
    if operator not in ("=", "!="):
        raise ValueError(f'the operator of a filter is "=" or "!=", not {operator!r}')
    if not isinstance(value, str | bool | int | float):
        raise TypeError(f"the value of a filter is a text, a number or a bool, not {value!r:.80}")


# ---------------------------------------------------------------------------------------------------------- records


def _task_record(at: Place, row: m.TaskRow, detail: bool) -> TaskState:
    plain = (
        at.task(row.task_id),
        row.attempt,
        row.label,
        row.name,
        row.state,
        at.job,
        at.id(row.actor_id),
        row.type,
        row.function,
        at.task(row.parent),
        at.node if row.worker_id else None,
        at.id(row.worker_id),
        row.pid or None,
        row.error_type or None,
    )
    if not detail:
        return TaskState(*plain)  # type: ignore[arg-type]  # the columns in order; a task has an id
    times = at.ms(row.submitted), at.ms(row.started), at.ms(row.ended)
    more = _amounts(row.resources), at.group(row.group)
    return TaskDetails(*plain, *more, *times, row.error or None)  # type: ignore[arg-type]  # the same


def _actor_record(at: Place, row: m.ActorRow, detail: bool) -> ActorState:
    plain = (
        at.id(row.actor_id),
        row.label,
        row.class_name,
        row.state,
        at.job,
        row.name,
        at.node if row.pid else None,
        row.pid or None,
        row.namespace,
    )
    if not detail:
        return ActorState(*plain)  # type: ignore[arg-type]  # the columns in order; an actor has an id
    cause = {"error_message": row.cause} if row.cause else None
    more = _amounts(row.resources), cause, row.is_detached, at.group(row.group), row.title, row.restarts
    return ActorDetails(*plain, *more)  # type: ignore[arg-type]  # the same


def _object_record(at: Place, row: m.ObjectRow, detail: bool) -> ObjectState:
    return ObjectState(
        hex_of(at.key, row.object_id),
        row.label,
        row.size,
        row.status,
        row.reference,
        _role_of(row.is_of_driver),
        row.pid or None,
        IP,
    )


def _worker_record(at: Place, row: m.WorkerRow, detail: bool) -> WorkerState:
    plain = (
        hex_of(at.key, row.worker_id),
        row.is_alive,
        _role_of(row.is_driver),
        row.state or None,
        row.label,
        row.exit_type or None,
        at.node,
        IP,
        row.pid or None,
    )
    if not detail:
        return WorkerState(*plain)
    return WorkerDetails(*plain, row.exit_detail or None, at.ms(row.started), at.ms(row.ended))


def _role_of(is_driver: bool) -> str:
    return "DRIVER" if is_driver else "WORKER"


def _amounts(resources: m.Resources) -> dict[str, float]:
    return {name: amount / m.RESOURCE_UNIT for name, amount in resources}


_TABLES: Final[Mapping[str, _Table]] = {
    "tasks": _Table(
        TaskState,
        {
            "task_id": ("task_id", _id),
            "attempt_number": ("attempt", _number),
            "label": ("label", _text),
            "name": ("name", _text),
            "state": ("state", _text),
            "actor_id": ("actor_id", _id),
            "type": ("type", _text),
            "func_or_class_name": ("function", _text),
            "parent_task_id": ("parent", _id),
            "worker_id": ("worker_id", _id),
            "worker_pid": ("pid", _number),
            "error_type": ("error_type", _text),
            "placement_group_id": ("group", _id),
        },
        {"job_id": _job, "node_id": _node},
        _task_record,
    ),
    "actors": _Table(
        ActorState,
        {
            "actor_id": ("actor_id", _id),
            "label": ("label", _text),
            "class_name": ("class_name", _text),
            "state": ("state", _text),
            "name": ("name", _text),
            "pid": ("pid", _number),
            "ray_namespace": ("namespace", _text),
            "repr_name": ("title", _text),
            "placement_group_id": ("group", _id),
        },
        {"job_id": _job, "node_id": _node},
        _actor_record,
    ),
    "objects": _Table(
        ObjectState,
        {
            "object_id": ("object_id", _id),
            "label": ("label", _text),
            "object_size": ("size", _number),
            "task_status": ("status", _text),
            "reference_type": ("reference", _text),
            "type": ("is_of_driver", _role),
            "pid": ("pid", _number),
        },
        {"ip": _ip},
        _object_record,
    ),
    "workers": _Table(
        WorkerState,
        {
            "worker_id": ("worker_id", _id),
            "is_alive": ("is_alive", _truth),
            "worker_type": ("is_driver", _role),
            "state": ("state", _text),
            "label": ("label", _text),
            "exit_type": ("exit_type", _text),
            "pid": ("pid", _number),
        },
        {"node_id": _node, "ip": _ip},
        _worker_record,
    ),
}

# ------------------------------------------------------------------------------------------------------------ asking


def listed(kind: str, question: Question) -> list[Any]:
    """The records of a table."""
    table = _TABLES[kind]
    filters = checked(question, (*table.asked, *table.fixed))
    session = session_of(question.address)
    conditions = _conditions(table, Place(session.key), filters)
    if conditions is None:
        return []
    ask = partial(
        m.ListState, kind=kind, filters=tuple(conditions), limit=question.limit, detail=question.detail
    )
    reply = session.questions.listing(ask, question.timeout)
    _check_complete(kind, reply.unseen, question.is_strict)
    rows: Sequence[Any] = getattr(reply, kind)
    if len(rows) < reply.matched:
        warnings.warn(
            f"{len(rows):,} of {reply.matched:,} {kind} are listed. Give filters, or a higher limit (up to "
            f"{LARGEST_LIMIT:,}), for the others.",
            stacklevel=3,
        )
    at = Place(session.key, time.time() - reply.now)
    return [table.record(at, row, question.detail) for row in rows]


def summarized(kind: str, address: str | None, timeout: float, is_strict: bool) -> Sequence[m.RowCount]:
    """How many rows of a table are alike."""
    checked(Question(address, None, 0, timeout, False, is_strict), ())
    reply = session_of(address).questions.summary(kind, timeout)
    _check_complete(kind, reply.unseen, is_strict)
    return reply.groups


def _check_complete(kind: str, unseen: int, is_strict: bool) -> None:
    if unseen and is_strict:
        raise StateApiException(
            f"There are {unseen:,} {kind} more than one question looks through. A list without filters works, and "
            "raise_on_missing_output=False gives what was found among the others."
        )


def session_of(address: str | None) -> Session:
    """The running session. Raises IPyRemoteSystemError, NotImplementedError, ValueError."""
    backend = current.peek()
    if backend is None:
        raise IPyRemoteSystemError(
            "ipyremote.util.state needs a running session: call ipyremote.init() first."
        )
    if not isinstance(backend, Session):
        raise NotImplementedError(
            'With backend="inline" each task runs inside its .remote() call, so there is nothing to list. '
            'ipyremote.util.state needs a session of processes: init(backend="local").'
        )
    if address not in (None, "auto") and backend.address and address != backend.address:
        raise ValueError(
            f"address={address!r} is not the running session's. Only that one can be asked; init(address=...) joins "
            "another."
        )
    return backend
