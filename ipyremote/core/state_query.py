"""Lists and counts of what there is, for people and programs that look on. Nothing is decided here.

An answer takes a bounded time, however much there is: of a kind, at most `LOOKED_AT` records that are not over are
looked at, beside the bounded number that are remembered, and a question without filters looks at no more than it
answers with. Filters are applied, and the rest is cut off, before rows are made.
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
from ipyremote.messages import ActorRow, Filter, Listing, ListState, RowCount, Summarize, Summary, WorkerRow

__all__ = ["LOOKED_AT", "MOST_ROWS", "StateQueries"]

#: Records of a kind that one question looks at, those that are over not counted.
LOOKED_AT: Final = 50_000
#: Rows of one answer, whatever was asked for.
MOST_ROWS: Final = 10_000


class _Chosen(NamedTuple):
    """Records that meet the filters of a question."""

    records: list[Any]
    #: How many there are, those beyond the limit included.
    matched: int
    #: How many were not looked at.
    unseen: int


class StateQueries:
    """Answers questions for lists and counts. Keeps nothing."""

    def __init__(self, ledger: Ledger, timeline: Timeline, names: ActorNameTable) -> None:
        self._ledger = ledger
        self._timeline = timeline
        self._names = names

    def on_question(self, sender: int, question: ListState | Summarize) -> None:
        """A client asks."""
        answer = self._listing(question) if isinstance(question, ListState) else self._summary(question)
        self._ledger.out.append(Send(sender, answer))

    # ----------------------------------------------------------------------------------------------------------- lists

    def _listing(self, question: ListState) -> Listing:
        ledger = self._ledger
        rows: dict[str, tuple[Any, ...]] = {}
        chosen = _Chosen([], 0, 0)
        match question.kind:
            case "tasks":
                chosen = self._choose_attempts(question)
                rows["tasks"] = tuple(
                    task_row(ledger, attempt, detail=question.detail) for attempt in chosen.records
                )
            case "objects":
                chosen = self._choose_objects(question)
                rows["objects"] = tuple(object_row(ledger, obj) for obj in chosen.records)
            case "actors":
                actors = actor_rows(ledger, self._names, detail=question.detail)
                chosen = _choose_rows(question, actors)
                rows["actors"] = tuple(chosen.records)
            case "workers":
                chosen = _choose_rows(question, worker_rows(ledger))
                rows["workers"] = tuple(chosen.records)
            case _:
                pass
        return Listing(question.request, ledger.now, chosen.matched, chosen.unseen, **rows)

    def _choose_attempts(self, question: ListState) -> _Chosen:
        attempts = Attempts(self._ledger, self._timeline)
        if not question.filters:
            limit = _limit(question)
            return _Chosen(list(islice(attempts.first(limit), limit)), attempts.count, 0)
        unseen = max(0, len(self._ledger.tasks) - LOOKED_AT)
        return self._filtered(question, attempts.first(LOOKED_AT), TASK_COLUMNS, unseen)

    def _choose_objects(self, question: ListState) -> _Chosen:
        objects = self._ledger.objects
        if not question.filters:
            return _Chosen(list(islice(objects.values(), _limit(question))), len(objects), 0)
        unseen = max(0, len(objects) - LOOKED_AT)
        return self._filtered(question, islice(objects.values(), LOOKED_AT), OBJECT_COLUMNS, unseen)

    def _filtered(
        self, question: ListState, records: Iterable[Any], columns: Mapping[str, Column], unseen: int
    ) -> _Chosen:
        ledger = self._ledger
        for condition in question.filters:
            column = columns.get(condition.column)
            if column is None:
                return _Chosen([], 0, 0)
            records = filter(_test(condition, _bound(column, ledger)), records)
        return _cut(question, records, unseen)

    # ---------------------------------------------------------------------------------------------------------- counts

    def _summary(self, question: Summarize) -> Summary:
        counts: Counter[tuple[str, str, str, str]] = Counter()
        sizes: Counter[tuple[str, str, str, str]] = Counter()
        unseen = 0
        match question.kind:
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
        return Summary(question.request, unseen, groups)

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


def _choose_rows(question: ListState, rows: Iterable[ActorRow] | Iterable[WorkerRow]) -> _Chosen:
    """Of kinds with few records: rows are made of all."""
    found: Iterable[Any] = rows
    for condition in question.filters:
        found = filter(_test(condition, _field(condition.column)), found)
    return _cut(question, found, 0)


def _bound(column: Column, ledger: Ledger) -> Callable[[Any], Any]:
    return lambda record: column(ledger, record)


def _field(name: str) -> Callable[[Any], Any]:
    return lambda row: getattr(row, name, None)


def _test(condition: Filter, column: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether a record meets a filter."""
    wanted = condition.value
    is_equal = condition.is_equal
    if isinstance(wanted, str):
        return lambda record: (str(column(record)).lower() == wanted) is is_equal
    return lambda record: (column(record) == wanted) is is_equal


def _cut(question: ListState, found: Iterable[Any], unseen: int) -> _Chosen:
    found = iter(found)
    records = list(islice(found, _limit(question)))
    return _Chosen(records, len(records) + sum(1 for _ in found), unseen)


def _limit(question: ListState) -> int:
    return max(0, min(question.limit, MOST_ROWS))
