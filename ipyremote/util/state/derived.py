"""Small tables that are made from what other functions say: the machine, the job, placement groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipyremote import api
from ipyremote.util.placement_group import placement_group_table
from ipyremote.util.state.state_records import (
    JobState,
    NodeState,
    PlacementGroupDetails,
    PlacementGroupState,
    WorkerState,
)
from ipyremote.util.state.tables import LARGEST_LIMIT, StateQuery, checked, listed, session_of

__all__ = ["groups", "jobs", "nodes"]


def nodes(query: StateQuery) -> list[NodeState]:
    """Return the one machine, if it meets the filters."""
    session_of(query.address)
    found = [
        NodeState(
            node["NodeID"],
            node["NodeManagerAddress"],
            True,
            "ALIVE" if node["Alive"] else "DEAD",
            node["NodeManagerHostname"],
            node["Resources"],
            node["Labels"],
        )
        for node in api.nodes()
    ]
    return _met(query, found, ("node_id", "node_ip", "is_head_node", "state", "node_name"))


def groups(query: StateQuery) -> list[PlacementGroupState]:
    """Return the placement groups that meet the filters."""
    job = session_of(query.address).hex_of("job", 0)
    found: list[PlacementGroupState] = []
    for group_id, group in placement_group_table().items():
        plain = group_id, group["name"], job, group["state"]
        bundles = [
            {"bundle_index": index, "resources": resources, "node_id": group["bundles_to_node_id"][index]}
            for index, resources in group["bundles"].items()
        ]
        if query.detail:
            found.append(PlacementGroupDetails(*plain, bundles, group["strategy"], group["stats"]))
        else:
            found.append(PlacementGroupState(*plain))
    return _met(query, found, ("placement_group_id", "name", "creator_job_id", "state"))


def jobs(query: StateQuery) -> list[JobState]:
    """Return the one job, if it meets the filters."""
    session = session_of(query.address)
    drivers = StateQuery(
        query.address, [("worker_type", "=", "DRIVER")], LARGEST_LIMIT, query.timeout, False, False
    )
    first: list[WorkerState] = listed("workers", drivers)
    job = session.hex_of("job", 0)
    ip = first[0].ip if first else None
    info = {"id": job, "node_ip_address": ip, "pid": first[0].pid if first else None}
    return _met(query, [JobState(job, "DRIVER", "RUNNING", info)], ("job_id", "type", "status"))


def _met(query: StateQuery, records: list[Any], known: Iterable[str]) -> list[Any]:
    for column, operator, value in checked(query, known):
        is_equal = operator == "="
        wanted = str(value).lower()
        records = [record for record in records if (str(record[column]).lower() == wanted) is is_equal]
    return records[: query.limit]
