"""The tables that the engine is asked for: which columns can be filtered by, and rows as records."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ipyremote.backend import Backend, Condition, Insight, Similar, current, required
from ipyremote.exceptions import IPyRemoteSystemError
from ipyremote.util.state.exception import StateApiException
from ipyremote.util.state.state_records import (
    ActorDetails,
    ActorState,
    ObjectState,
    StateRecord,
    TaskDetails,
    TaskState,
    WorkerDetails,
    WorkerState,
    columns,
)

__all__ = ["LARGEST_LIMIT", "StateQuery", "checked", "insight_of", "listed", "session_of", "summarized"]

#: Records that one list can have at most, as in Ray.
LARGEST_LIMIT: Final = 10_000


class StateQuery(NamedTuple):
    """The arguments of a list."""

    address: str | None
    filters: Sequence[tuple[Any, ...]] | None
    limit: int
    timeout: float
    detail: bool
    is_strict: bool


class _RecordKind(NamedTuple):
    """A kind of records."""

    plain: type[StateRecord]
    detailed: type[StateRecord]
    #: Details that a filter can name beside all plain columns.
    more: tuple[str, ...] = ()

    @property
    def filtered(self) -> tuple[str, ...]:
        """Return the columns that a filter can name."""
        return (*columns(self.plain), *self.more)


_KINDS: Final[Mapping[str, _RecordKind]] = {
    "tasks": _RecordKind(TaskState, TaskDetails, ("placement_group_id",)),
    "actors": _RecordKind(ActorState, ActorDetails, ("repr_name", "placement_group_id")),
    "objects": _RecordKind(ObjectState, ObjectState),
    "workers": _RecordKind(WorkerState, WorkerDetails),
}


def checked(query: StateQuery, known: Iterable[str]) -> Sequence[tuple[Any, ...]]:
    """Return the filters of a query. Raises ValueError and TypeError for wrong arguments."""
    limit, timeout = query.limit, query.timeout
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit is a whole number, not {limit!r}")
    if not 0 <= limit <= LARGEST_LIMIT:
        raise ValueError(f"limit is from 0 to {LARGEST_LIMIT:,}, not {limit:,}")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    filters = query.filters or ()
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


def listed(kind: str, query: StateQuery) -> list[Any]:
    """Return the records of a table."""
    known = _KINDS[kind]
    filters = checked(query, known.filtered)
    insight = insight_of(session_of(query.address))
    conditions = [Condition(column, operator == "=", value) for column, operator, value in filters]
    found = insight.rows(kind, conditions, query.limit, query.timeout, detail=query.detail)
    _check_complete(kind, found.unseen, query.is_strict)
    if len(found.rows) < found.matched:
        warnings.warn(
            f"{len(found.rows):,} of {found.matched:,} {kind} are listed. Give filters, or a higher limit (up to "
            f"{LARGEST_LIMIT:,}), for the others.",
            stacklevel=3,
        )
    record = known.detailed if query.detail else known.plain
    return [record(**row) for row in found.rows]


def summarized(kind: str, address: str | None, timeout: float, is_strict: bool) -> Sequence[Similar]:
    """Return how many rows of a table are alike."""
    checked(StateQuery(address, None, 0, timeout, False, is_strict), ())
    summary = insight_of(session_of(address)).summary(kind, timeout)
    _check_complete(kind, summary.unseen, is_strict)
    return summary.groups


def _check_complete(kind: str, unseen: int, is_strict: bool) -> None:
    if unseen and is_strict:
        raise StateApiException(
            f"There are {unseen:,} {kind} more than one query looks through. A list without filters works, and "
            "raise_on_missing_output=False gives what was found among the others."
        )


def session_of(address: str | None) -> Backend:
    """Return the running session. Raises IPyRemoteSystemError, NotImplementedError, ValueError."""
    backend = current.peek()
    if backend is None:
        raise IPyRemoteSystemError(
            "ipyremote.util.state needs a running session: call ipyremote.init() first."
        )
    insight_of(backend)
    if address not in (None, "auto") and backend.address and address != backend.address:
        raise ValueError(
            f"address={address!r} is not the running session's. Only that one can be asked; init(address=...) joins "
            "another."
        )
    return backend


def insight_of(backend: Backend) -> Insight:
    """Return what an engine can tell about the session. Raises NotImplementedError where that is nothing."""
    return required(backend.insight, backend.capabilities.insight)
