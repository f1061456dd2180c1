"""Status, runs and rows of the whole session: the scheduler's replies in the words of `backend.Insight`.

The scheduler filters and cuts the rows, so a condition is put into the scheduler's words here: ids become numbers, and
conditions on a column that is the same in all rows (a session is one job on one node) are decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from ipyremote import messages as m
from ipyremote.backend import ClusterStatus, Condition, Similar, TableCounts, TableRows, TaskRun
from ipyremote.client.requests import SchedulerRequests
from ipyremote.ids import GroupId, TaskId, group_hex_of, hex_of, job_hex_of, task_hex_of

__all__ = ["LOOPBACK", "SessionInsight"]

#: Address of this machine for a session, which does not listen to the network.
LOOPBACK: Final = "127.0.0.1"
#: An id that nothing has.
_NO_ID: Final = -1


class SessionInsight:
    """The status, runs and rows of one session. `backend.Insight` has the contracts of the methods."""

    def __init__(self, key: str, requests: SchedulerRequests) -> None:
        self._key = key
        self._requests = requests

    def status(self) -> ClusterStatus:
        return self._requests.status()

    def runs(self, since: float = 0.0) -> tuple[float, tuple[TaskRun, ...]]:
        return self._requests.spans(since)

    def rows(
        self, table: str, conditions: Sequence[Condition], limit: int, timeout: float, *, detail: bool
    ) -> TableRows:
        kind = _TABLES[table]
        filters = _filters(kind, _RowForm(self._key), conditions)
        if filters is None:
            return TableRows((), 0, 0)
        ask = partial(m.ListState, kind=table, filters=tuple(filters), limit=limit, detail=detail)
        reply = self._requests.listing(ask, timeout)
        form = _RowForm(self._key, time.time() - reply.now)
        found: Sequence[Any] = getattr(reply, table)
        return TableRows(tuple(kind.columns(form, row, detail) for row in found), reply.matched, reply.unseen)

    def summary(self, table: str, timeout: float) -> TableCounts:
        reply = self._requests.summary(table, timeout)
        groups = (
            Similar(group.name, group.type, group.state, group.reference, group.count, group.size)
            for group in reply.groups
        )
        return TableCounts(tuple(groups), reply.unseen)


class _RowForm(NamedTuple):
    """The session of the rows, and the form of its ids and times. Where the scheduler has 0, the form is None."""

    key: str
    #: Difference between seconds since 1970 and the scheduler's clock, in seconds.
    offset: float = 0.0

    @property
    def job(self) -> str:
        return job_hex_of(self.key)

    @property
    def node(self) -> str:
        return hex_of(self.key, 0)

    def id(self, any_id: int) -> str | None:
        return hex_of(self.key, any_id) if any_id else None

    def group(self, group_id: GroupId) -> str | None:
        return group_hex_of(self.key, group_id) if group_id else None

    def task(self, task_id: TaskId) -> str | None:
        return task_hex_of(self.key, task_id) if task_id else None

    def ms(self, moment: float) -> int | None:
        return round((moment + self.offset) * 1000) if moment else None


# ------------------------------------------------------------------------------------------------------- conditions

#: Function from (session, column, value) of a condition to the scheduler's value. Raises ValueError.
_ReadValue: TypeAlias = Callable[[_RowForm, str, Any], int | str]


def _text(form: _RowForm, column: str, value: Any) -> str:
    return str(value).lower()


def _number(form: _RowForm, column: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"the column {column!r} has whole numbers, but the filter asks for {value!r}"
        ) from None


def _truth(form: _RowForm, column: str, value: Any) -> int:
    word = str(value).lower()
    if word in ("true", "1", "false", "0"):
        return int(word in ("true", "1"))
    raise ValueError(f"the column {column!r} is True or False, but the filter asks for {value!r}")


def _role(form: _RowForm, column: str, value: Any) -> int:
    return {"driver": 1, "worker": 0}.get(str(value).lower(), _NO_ID)


def _id(form: _RowForm, column: str, value: Any) -> int:
    """Return the number behind an id's digits; tasks and groups have fewer digits than other ids."""
    digits = str(value).lower()
    try:
        number = int(digits[-16:], 16)
    except ValueError:
        return _NO_ID
    known = digits in {to_hex(form.key, number) for to_hex in (hex_of, task_hex_of, group_hex_of)}
    return number if known and number >> 63 == 0 else _NO_ID


class _Table(NamedTuple):
    """The columns of one kind of rows."""

    #: By column, the name of the scheduler's column and the reader of a condition's value.
    filterable: Mapping[str, tuple[str, _ReadValue]]
    #: Columns that are the same in all rows, with their value.
    fixed: Mapping[str, Callable[[_RowForm], str]]
    #: Function from (session, row, whether with details) to the columns of the row.
    columns: Callable[[_RowForm, Any, bool], dict[str, Any]]


def _job(form: _RowForm) -> str:
    return form.job


def _node(form: _RowForm) -> str:
    return form.node


def _ip(form: _RowForm) -> str:
    return LOOPBACK


def _filters(table: _Table, form: _RowForm, conditions: Sequence[Condition]) -> list[m.Filter] | None:
    """Return the scheduler's filters for conditions; None when no row can meet the conditions."""
    filters = []
    for column, is_equal, value in conditions:
        fixed = table.fixed.get(column)
        if fixed is None:
            name, read = table.filterable[column]
            filters.append(m.Filter(name, is_equal, read(form, column, value)))
        elif (str(value).lower() == fixed(form)) is not is_equal:
            return None
    return filters


# -------------------------------------------------------------------------------------------------------------- rows


def _task_columns(form: _RowForm, row: m.TaskRow, detail: bool) -> dict[str, Any]:
    plain = {
        "task_id": form.task(row.task_id),
        "attempt_number": row.attempt,
        "label": row.label,
        "name": row.name,
        "state": row.state,
        "job_id": form.job,
        "actor_id": form.id(row.actor_id),
        "type": row.type,
        "func_or_class_name": row.function,
        "parent_task_id": form.task(row.parent),
        "node_id": form.node if row.worker_id else None,
        "worker_id": form.id(row.worker_id),
        "worker_pid": row.pid or None,
        "error_type": row.error_type or None,
    }
    if not detail:
        return plain
    return plain | {
        "required_resources": _amounts(row.resources),
        "placement_group_id": form.group(row.group),
        "creation_time_ms": form.ms(row.submitted),
        "start_time_ms": form.ms(row.started),
        "end_time_ms": form.ms(row.ended),
        "error_message": row.error or None,
    }


def _actor_columns(form: _RowForm, row: m.ActorRow, detail: bool) -> dict[str, Any]:
    plain = {
        "actor_id": form.id(row.actor_id),
        "label": row.label,
        "class_name": row.class_name,
        "state": row.state,
        "job_id": form.job,
        "name": row.name,
        "node_id": form.node if row.pid else None,
        "pid": row.pid or None,
        "ray_namespace": row.namespace,
    }
    if not detail:
        return plain
    return plain | {
        "required_resources": _amounts(row.resources),
        "death_cause": {"error_message": row.cause} if row.cause else None,
        "is_detached": row.is_detached,
        "placement_group_id": form.group(row.group),
        "repr_name": row.title,
        "num_restarts": row.restarts,
    }


def _object_columns(form: _RowForm, row: m.ObjectRow, detail: bool) -> dict[str, Any]:
    return {
        "object_id": hex_of(form.key, row.object_id),
        "label": row.label,
        "object_size": row.size,
        "task_status": row.status,
        "reference_type": row.reference,
        "type": _role_of(row.is_of_driver),
        "pid": row.pid or None,
        "ip": LOOPBACK,
    }


def _worker_columns(form: _RowForm, row: m.WorkerRow, detail: bool) -> dict[str, Any]:
    plain = {
        "worker_id": hex_of(form.key, row.worker_id),
        "is_alive": row.is_alive,
        "worker_type": _role_of(row.is_driver),
        "state": row.state or None,
        "label": row.label,
        "exit_type": row.exit_type or None,
        "node_id": form.node,
        "ip": LOOPBACK,
        "pid": row.pid or None,
    }
    if not detail:
        return plain
    return plain | {
        "exit_detail": row.exit_detail or None,
        "start_time_ms": form.ms(row.started),
        "end_time_ms": form.ms(row.ended),
    }


def _role_of(is_driver: bool) -> str:
    return "DRIVER" if is_driver else "WORKER"


def _amounts(resources: m.Resources) -> dict[str, float]:
    return {name: amount / m.RESOURCE_UNIT for name, amount in resources}


_TABLES: Final[Mapping[str, _Table]] = {
    "tasks": _Table(
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
        _task_columns,
    ),
    "actors": _Table(
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
        _actor_columns,
    ),
    "objects": _Table(
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
        _object_columns,
    ),
    "workers": _Table(
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
        _worker_columns,
    ),
}
