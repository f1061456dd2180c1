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
from ipyremote.util.state.tables import LARGEST_LIMIT, Question, checked, listed, session_of

__all__ = ["groups", "jobs", "nodes"]


def nodes(question: Question) -> list[NodeState]:
    """Return the one machine, if it meets the filters."""
    session_of(question.address)
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
    return _met(question, found, ("node_id", "node_ip", "is_head_node", "state", "node_name"))


def groups(question: Question) -> list[PlacementGroupState]:
    """Return the placement groups that meet the filters."""
    job = session_of(question.address).hex_of("job", 0)
    found: list[PlacementGroupState] = []
    for group_id, group in placement_group_table().items():
        plain = group_id, group["name"], job, group["state"]
        bundles = [
            {"bundle_index": index, "resources": resources, "node_id": group["bundles_to_node_id"][index]}
            for index, resources in group["bundles"].items()
        ]
        if question.detail:
            found.append(PlacementGroupDetails(*plain, bundles, group["strategy"], group["stats"]))
        else:
            found.append(PlacementGroupState(*plain))
    return _met(question, found, ("placement_group_id", "name", "creator_job_id", "state"))


def jobs(question: Question) -> list[JobState]:
    """Return the one job, if it meets the filters."""
    session = session_of(question.address)
    drivers = Question(
        question.address, [("worker_type", "=", "DRIVER")], LARGEST_LIMIT, question.timeout, False, False
    )
    first: list[WorkerState] = listed("workers", drivers)
    job = session.hex_of("job", 0)
    ip = first[0].ip if first else None
    info = {"id": job, "node_ip_address": ip, "pid": first[0].pid if first else None}
    return _met(question, [JobState(job, "DRIVER", "RUNNING", info)], ("job_id", "type", "status"))


def _met(question: Question, records: list[Any], known: Iterable[str]) -> list[Any]:
    for column, operator, value in checked(question, known):
        is_equal = operator == "="
        wanted = str(value).lower()
        records = [record for record in records if (str(record[column]).lower() == wanted) is is_equal]
    return records[: question.limit]
