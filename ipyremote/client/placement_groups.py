"""The placement groups of a session, as the scheduler knows them. A caller that asks waits for the reply."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from ipyremote import messages as m
from ipyremote.backend.placement import GroupRecord, LabelMatch
from ipyremote.client.submitter import Submitter
from ipyremote.ids import NO_GROUP, GroupId

__all__ = ["SchedulerPlacementGroups"]

#: Number of random bits of an id, so that a group of another session is not taken for a group of this session.
_ID_BITS: Final = 62


class SchedulerPlacementGroups:
    """Placement groups, made by the scheduler. `backend.PlacementGroups` has the contracts of the methods."""

    def __init__(self, submitter: Submitter, ask: Callable[[Callable[[int], Any]], m.GroupsReply]) -> None:
        """`ask(message)` sends `message(request number)`, and returns the reply."""
        self._submitter = submitter
        self._ask = ask

    def create(
        self,
        bundles: Sequence[m.Resources],
        strategy: str,
        name: str,
        *,
        detached: bool,
        labels: tuple[tuple[LabelMatch, ...], ...],
    ) -> tuple[GroupRecord, bool]:
        channel = self._submitter.channel
        channel.check()
        running = self._submitter.running
        group_id = GroupId(secrets.randbits(_ID_BITS) + 1)
        label = name or str(channel.call_locked(lambda: running.label_of("placement_group")))

        def message(request: int = 0) -> m.CreateGroup:
            return m.CreateGroup(
                group_id=group_id,
                bundles=tuple(bundles),
                strategy=strategy,
                label=label,
                name=name,
                detached=detached,
                driver=running.driver,
                cell=running.cell,
                request=request,
                labels=labels,
            )

        if not name:
            channel.send(message())
            return GroupRecord(group_id, label, name, strategy, tuple(bundles), "pending"), True
        (group,) = self._ask(message).groups
        return group, group.group_id == group_id

    def remove(self, group_id: GroupId) -> None:
        self._submitter.channel.check()
        self._submitter.channel.send(m.RemoveGroup(group_id), now=True)

    def find(self, name: str) -> GroupRecord | None:
        groups = self._look_up(name=name)
        return groups[0] if groups else None

    def all(self, group_id: GroupId = NO_GROUP) -> list[GroupRecord]:
        return list(self._look_up(group_id=group_id))

    def _look_up(self, **fields: Any) -> tuple[GroupRecord, ...]:
        driver = self._submitter.running.driver
        return self._ask(lambda request: m.LookUpGroups(request, driver, **fields)).groups
