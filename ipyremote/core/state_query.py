"""Lists and counts of tasks, objects, actors and workers, for people and monitoring programs. Nothing is decided here.

An answer takes a bounded time, however many records there are: at most `LOOKED_AT` live records of a kind are looked
at, beside the bounded number of records of the past, and a query without filters looks at no more records than it
returns. Filters and the limit are applied before rows are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from ipyremote.core.actor_names import ActorNameTable
from ipyremote.core.attempts import Attempts
from ipyremote.core.columns import (
    OBJECT_COLUMNS,
    TASK_COLUMNS,
    Column,
    actor_rows,
    object_row,
    task_row,
    worker_rows,
)
from ipyremote.core.commands import Send
from ipyremote.core.state import Ledger
from ipyremote.core.timeline import Timeline
from ipyremote.ids import ClientId
from ipyremote.messages import ActorRow, Filter, Listing, ListState, RowCount, Summarize, Summary, WorkerRow

__all__ = ["LOOKED_AT", "MOST_ROWS", "StateQueries"]

#: Largest number of live records of a kind that one query looks at.
LOOKED_AT: Final = 50_000
#: Largest number of rows in one answer, whatever limit the query has.
MOST_ROWS: Final = 10_000


class _Chosen(NamedTuple):
    """The records that meet the filters of a query, up to its limit."""

    records: list[Any]
    #: Number of records that meet the filters, including those beyond the limit.
    matched: int
    #: Number of records that were not looked at.
    unseen: int


class StateQueries:
    """The answers to queries for lists and counts. Nothing is kept here."""

    def __init__(self, ledger: Ledger, timeline: Timeline, names: ActorNameTable) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._names = names

    def on_query(self, sender: ClientId, query: ListState | Summarize) -> None:
        """Answer a client's query."""
        answer = self._listing(query) if isinstance(query, ListState) else self._summary(query)
        self._ledger.out.append(Send(sender, answer))

    # ----------------------------------------------------------------------------------------------------------- lists

    def _listing(self, query: ListState) -> Listing:
        ledger = self._ledger
        rows: dict[str, tuple[Any, ...]] = {}
        chosen = _Chosen([], 0, 0)
        match query.kind:
            case "tasks":
                chosen = self._choose_attempts(query)
                rows["tasks"] = tuple(
                    task_row(ledger, attempt, detail=query.detail) for attempt in chosen.records
                )
            case "objects":
                chosen = self._choose_objects(query)
                rows["objects"] = tuple(object_row(ledger, obj) for obj in chosen.records)
            case "actors":
                actors = actor_rows(ledger, self._names, detail=query.detail)
                chosen = _choose_rows(query, actors)
                rows["actors"] = tuple(chosen.records)
            case "workers":
                chosen = _choose_rows(query, worker_rows(ledger))
                rows["workers"] = tuple(chosen.records)
            case _:
                pass
        return Listing(query.request, ledger.now, chosen.matched, chosen.unseen, **rows)

    def _choose_attempts(self, query: ListState) -> _Chosen:
        attempts = Attempts(self._ledger, self._timeline)
        if not query.filters:
            limit = _limit(query)
            return _Chosen(list(islice(attempts.first(limit), limit)), attempts.count, 0)
        unseen = max(0, len(self._ledger.tasks) - LOOKED_AT)
        return self._filtered(query, attempts.first(LOOKED_AT), TASK_COLUMNS, unseen)

    def _choose_objects(self, query: ListState) -> _Chosen:
        objects = self._ledger.objects
        if not query.filters:
            return _Chosen(list(islice(objects.values(), _limit(query))), len(objects), 0)
        unseen = max(0, len(objects) - LOOKED_AT)
        return self._filtered(query, islice(objects.values(), LOOKED_AT), OBJECT_COLUMNS, unseen)

    def _filtered(
        self, query: ListState, records: Iterable[Any], columns: Mapping[str, Column], unseen: int
    ) -> _Chosen:
        ledger = self._ledger
        for condition in query.filters:
            column = columns.get(condition.column)
            if column is None:
                return _Chosen([], 0, 0)
            records = filter(_test(condition, _bound(column, ledger)), records)
        return _cut(query, records, unseen)

    # ---------------------------------------------------------------------------------------------------------- counts

    def _summary(self, query: Summarize) -> Summary:
        counts: Counter[tuple[str, str, str, str]] = Counter()
        sizes: Counter[tuple[str, str, str, str]] = Counter()
        unseen = 0
        match query.kind:
            case "tasks":
                unseen = self._count_attempts(counts)
            case "objects":
                unseen = self._count_objects(counts, sizes)
            case "actors":
                actors = actor_rows(self._ledger, self._names, detail=False)
                counts.update((row.class_name, "", row.state, "") for row in actors)
            case _:
                pass
        groups = tuple(RowCount(*key, count, sizes[key]) for key, count in counts.items())
        return Summary(query.request, unseen, groups)

    def _count_attempts(self, counts: Counter[tuple[str, str, str, str]]) -> int:
        ledger = self._ledger
        name, kind, state = (TASK_COLUMNS[column] for column in ("name", "type", "state"))
        for attempt in Attempts(ledger, self._timeline).first(LOOKED_AT):
            counts[name(ledger, attempt), kind(ledger, attempt), state(ledger, attempt), ""] += 1
        return max(0, len(ledger.tasks) - LOOKED_AT)

    def _count_objects(
        self, counts: Counter[tuple[str, str, str, str]], sizes: Counter[tuple[str, str, str, str]]
    ) -> int:
        ledger = self._ledger
        size, state, reference = (OBJECT_COLUMNS[column] for column in ("size", "status", "reference"))
        for obj in islice(ledger.objects.values(), LOOKED_AT):
            name = obj.name or "put"
            key = name, "", state(ledger, obj), reference(ledger, obj)
            counts[key] += 1
            sizes[key] += size(ledger, obj)
        return max(0, len(ledger.objects) - LOOKED_AT)


def _choose_rows(query: ListState, rows: Iterable[ActorRow] | Iterable[WorkerRow]) -> _Chosen:
    """Choose among the finished rows of a kind with few records."""
    found: Iterable[Any] = rows
    for condition in query.filters:
        found = filter(_test(condition, _field(condition.column)), found)
    return _cut(query, found, 0)


def _bound(column: Column, ledger: Ledger) -> Callable[[Any], Any]:
    """Return the column as a function of the record only."""
    return lambda record: column(ledger, record)


def _field(name: str) -> Callable[[Any], Any]:
    """Return the function that reads a field of a row; None for an unknown field."""
    return lambda row: getattr(row, name, None)


def _test(condition: Filter, column: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Return the function that says whether a record meets a filter. Texts are compared without case."""
    wanted = condition.value
    is_equal = condition.is_equal
    if isinstance(wanted, str):
        return lambda record: (str(column(record)).lower() == wanted) is is_equal
    return lambda record: (column(record) == wanted) is is_equal


def _cut(query: ListState, found: Iterable[Any], unseen: int) -> _Chosen:
    """Keep the records up to the query's limit, and count the others."""
    found = iter(found)
    records = list(islice(found, _limit(query)))
    return _Chosen(records, len(records) + sum(1 for _ in found), unseen)


def _limit(query: ListState) -> int:
    return max(0, min(query.limit, MOST_ROWS))
