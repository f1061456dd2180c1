"""The placement groups of an inline session.

A group is reserved at once if the resources suffice. A task or actor in a group that is not reserved fails, because
inline calls run when they are submitted and cannot wait for a reservation.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from ipyremote.backend import RESOURCE_UNIT, Resources, TaskOptions
from ipyremote.backend.placement import (
    NODE_ID,
    GroupRecord,
    LabelMatch,
    Place,
    described,
    labels_text,
    match_some,
)
from ipyremote.backends.inline.actor_names import InlineActorNames
from ipyremote.backends.inline.call_stack import InlineStack
from ipyremote.backends.inline.objects import InlineObjects
from ipyremote.engine_kit.failures import PickledFailure
from ipyremote.ids import NO_GROUP, ActorId, GroupId

__all__ = ["InlinePlacementGroups"]

_WHOLE: Final = "the session has"
_OUTSIDE: Final = "outside of placement groups there is"


class InlinePlacementGroups:
    """Method contracts are those of `backend.PlacementGroups`."""

    def __init__(
        self,
        objects: InlineObjects,
        stack: InlineStack,
        names: InlineActorNames,
        total: Mapping[str, float],
        labels: Mapping[str, str],
    ) -> None:
        """Begin without groups. `total` has the amounts of the whole session."""
        self._objects = objects
        self._stack = stack
        self._names = names
        self._total = {name: round(amount * RESOURCE_UNIT) for name, amount in total.items()}
        self._labels = labels
        self._groups: dict[GroupId, GroupRecord] = {}
        #: Namespace of each group, and the reason why the group can never be reserved, or "".
        self._details: dict[GroupId, tuple[str, str]] = {}
        #: Actor that created a group, by the group's id; the group is removed when the actor ends.
        self._actors: dict[GroupId, ActorId] = {}

    # -------------------------------------------------------------------------------------------------------- groups

    def create(
        self,
        bundles: Sequence[Resources],
        strategy: str,
        name: str,
        *,
        detached: bool,
        labels: tuple[tuple[LabelMatch, ...], ...],
    ) -> tuple[GroupRecord, bool]:
        taken = self.find(name) if name else None
        if taken is not None:
            return taken, False
        group_id = GroupId(secrets.randbits(62) + 1)
        label = name or str(self._stack.task.label_of("placement_group"))
        self._details[group_id] = self._names.namespace, self._missing(bundles, strategy, labels)
        actor_id = self._stack.identity.actor
        if actor_id and not detached:
            self._actors[group_id] = actor_id
        self._groups[group_id] = GroupRecord(group_id, label, name, strategy, tuple(bundles), "pending")
        self._reserve()
        return self._groups[group_id], True

    def _missing(
        self, bundles: Sequence[Resources], strategy: str, labels: tuple[tuple[LabelMatch, ...], ...]
    ) -> str:
        if strategy == "STRICT_SPREAD" and len(bundles) > 1:
            return f"{len(bundles)} machines, one for each bundle (STRICT_SPREAD; the session has one)"
        unmet = [some for some in labels if not match_some((some,), self._labels)]
        if unmet:
            return f"a machine with {described((unmet[0],))} (this one has {labels_text(self._labels)})"
        return _lacking(_sum(bundles), self._total, _WHOLE)

    def _reserve(self) -> None:
        """Reserve the pending groups that fit, in the order of their creation."""
        for group in list(self._groups.values()):
            lacking = self._details[group.group_id][1]
            if group.state == "pending":
                lacking = lacking or _lacking(_sum(group.bundles), self._free(), _OUTSIDE)
                state = "pending" if lacking else "reserved"
                detail = f"{group.label} needs {lacking}." if lacking else ""
                self._groups[group.group_id] = group._replace(state=state, detail=detail)

    def _free(self) -> dict[str, int]:
        """Return the amounts, in units, that no group has reserved."""
        free = dict(self._total)
        for group in self._groups.values():
            for name, amount in _sum(group.bundles).items() if group.state == "reserved" else ():
                free[name] -= amount
        return free

    def free(self) -> dict[str, float]:
        """Return the amounts that no group has reserved, without zeros."""
        self._tend()
        return {name: amount / RESOURCE_UNIT for name, amount in self._free().items() if amount}

    def remove(self, group_id: GroupId) -> None:
        group = self._groups.get(group_id)
        if group is None or group.state == "removed":
            return
        self._groups[group_id] = group._replace(state="removed", detail="")
        for actor in self._objects.actors():
            if actor.death is None and actor.place is not None and actor.place.group_id == group_id:
                text = f"{actor.label} has died with its placement group, {group.label}: it was removed."
                actor.death = PickledFailure("actor_placement_group_removed", text)
                actor.instance = None
        self._reserve()

    def _tend(self) -> None:
        """Remove the groups of actors that have ended."""
        for group_id, actor_id in list(self._actors.items()):
            actor = self._objects.actor(actor_id)
            if actor is None or actor.death is not None:
                del self._actors[group_id]
                self.remove(group_id)

    def find(self, name: str) -> GroupRecord | None:
        self._tend()
        namespace = self._names.namespace
        groups = (group for group in self._groups.values() if group.state != "removed" and group.name == name)
        return next((group for group in groups if self._details[group.group_id][0] == namespace), None)

    def all(self, group_id: GroupId = NO_GROUP) -> list[GroupRecord]:
        self._tend()
        return [group for group in self._groups.values() if group_id in (0, group.group_id)]

    # ----------------------------------------------------------------------------------------------------- placement

    def refusal(self, what: str, text: str, options: TaskOptions) -> PickledFailure | None:
        """Return the failure of a "task" or "actor" that cannot run, or None; its message begins with `text`."""
        self._tend()
        refused = self._refused(options.resources, options.place or Place())
        return (
            PickledFailure(f"{what}_{refused[0]}", f"{text}: {refused[1]}.") if refused is not None else None
        )

    def _refused(self, needs: Resources, place: Place) -> tuple[str, str] | None:
        """Return the kind and the reason of a refusal, as `group_reservation.refusal` of the core does, or None."""
        own = self._labels.get(NODE_ID, "")
        if place.node and place.node != own:
            return (
                "unschedulable",
                f"it is to run on node {place.node}, and the only node of this session is {own}",
            )
        if not match_some(place.labels, self._labels):
            has = labels_text(self._labels)
            return "unschedulable", f"it needs a machine with {described(place.labels)} (this one has {has})"
        if place.group_id:
            return self._refusal_in_group(needs, place)
        asked = dict(needs)
        lacking = _lacking(asked, self._total, _WHOLE) or _lacking(asked, self._free(), _OUTSIDE)
        return ("unschedulable", f"it needs {lacking}") if lacking else None

    def _refusal_in_group(self, needs: Resources, place: Place) -> tuple[str, str] | None:
        group = self._groups.get(place.group_id)
        if group is None or group.state == "removed":
            return "placement_group_removed", "its placement group was removed, or is another session's"
        if group.state == "pending":
            return (
                "unschedulable",
                f"its placement group is not reserved, and inline nothing waits: {group.detail}".rstrip("."),
            )
        bundles = group.bundles if place.bundle < 0 else group.bundles[place.bundle : place.bundle + 1]
        if any(not _lacking(dict(needs), dict(bundle), "") for bundle in bundles):
            return None
        return "unschedulable", f"what it needs does not fit into a bundle of {group.label}"


def _sum(bundles: Sequence[Resources]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for bundle in bundles:
        for name, amount in bundle:
            amounts[name] = amounts.get(name, 0) + amount
    return amounts


def _lacking(needs: Mapping[str, int], there: Mapping[str, int], where: str) -> str:
    """Return which amounts are too small, in words; "" if all suffice."""
    short = [
        f"{name}={amount / RESOURCE_UNIT:g}, and {where} {there.get(name, 0) / RESOURCE_UNIT:g}"
        for name, amount in needs.items()
        if amount > there.get(name, 0)
    ]
    return "; ".join(short)
