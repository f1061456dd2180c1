"""The columns of lists have the same names for users, in the conditions of a client and in the scheduler."""

from __future__ import annotations

import pytest

from ipyremote import messages as m
from ipyremote.client.insight import _TABLES
from ipyremote.core.columns import OBJECT_COLUMNS, TASK_COLUMNS
from ipyremote.util.state.tables import _KINDS

#: Columns of the scheduler that a condition can name, by table.
SCHEDULER = {
    "tasks": set(TASK_COLUMNS),
    "objects": set(OBJECT_COLUMNS),
    "actors": set(m.ActorRow.__struct_fields__),
    "workers": set(m.WorkerRow.__struct_fields__),
}


@pytest.mark.parametrize("table", _KINDS)
def test_the_client_can_ask_for_every_column_that_a_filter_can_name(table: str) -> None:
    assert set(_KINDS[table].filtered) == {*_TABLES[table].filterable, *_TABLES[table].fixed}


@pytest.mark.parametrize("table", _KINDS)
def test_the_scheduler_has_every_column_that_the_client_asks_for(table: str) -> None:
    assert {column for column, _ in _TABLES[table].filterable.values()} <= SCHEDULER[table]
