"""Placement groups: bundles of resources that are reserved together, for tasks and actors that are to run side by side.

    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    ray.get(group.ready())
    f.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote()

Names and behaviour are Ray's. Rules. A group is reserved whole or not at all, when its turn has come; until then its
tasks and actors wait, afterwards they draw from its bundles and nothing else does. A session has one machine, so that
"PACK", "SPREAD" and "STRICT_PACK" come to the same, and "STRICT_SPREAD" with more than one bundle is never reserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ipyremote import api
from ipyremote.backend import (
    RESOURCE_UNIT,
    Backend,
    PlacementGroups,
    Resources,
    TaskOptions,
    current,
    current_task,
    required,
)
from ipyremote.backend.placement import ANYWHERE, GroupRecord, Place, matches_of
from ipyremote.declare.exports import Export
from ipyremote.declare.options import check_bundle, to_units
from ipyremote.exceptions import TaskPlacementGroupRemoved
from ipyremote.ids import NO_GROUP, GroupId, Identifier
from ipyremote.refs import ObjectRef

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

_STRATEGIES: Final = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
#: Ray's words for the states of a group, and for those of its scheduling.
_STATES: Final = {"pending": "PENDING", "reserved": "CREATED", "removed": "REMOVED"}
_SCHEDULING: Final = {"pending": "QUEUED", "reserved": "FINISHED", "removed": "REMOVED"}


class PlacementGroup:
    """A placement group: bundles of resources that are reserved together. Made by `placement_group`.

    Can be passed anywhere a value can. The group stays when this object is gone.

    Parameters
    ----------
    group_id : int
        Not for users, as are the other parameters.
    key : str
        Key of the group's session.
    label : str
        The group's name for people.
    bundles : tuple, optional
        The amounts of each bundle; None: they are asked for when needed.
    digits : str, default ""
        Hexadecimal digits of the group's id.

    Examples
    --------
    >>> from ipyremote.util import placement_group, remove_placement_group
    >>> group = placement_group([{"CPU": 1}, {"CPU": 2}])
    >>> group.wait(60), group.bundle_count, group.bundle_specs
    (True, 2, [{'CPU': 1.0}, {'CPU': 2.0}])
    >>> remove_placement_group(group)
    """

    def __init__(
        self,
        group_id: GroupId,
        key: str,
        label: str,
        bundles: tuple[Resources, ...] | None = None,
        digits: str = "",
    ) -> None:
        self._digits = digits
        self._id = group_id
        self._key = key
        self._label = label
        self._bundles = bundles

    @staticmethod
    def empty() -> PlacementGroup:
        """Return an object that names no group."""
        return PlacementGroup(NO_GROUP, "", "", ())

    @property
    def is_empty(self) -> bool:
        """Return whether this object names no group."""
        return not self._id

    @property
    def id(self) -> Identifier:
        """Return the group's id, as `placement_group_table` has it."""
        return Identifier("PlacementGroupID", self._digits)

    def ready(self) -> ObjectRef[PlacementGroup]:
        """Return a ref whose value is this group, ready when the group is reserved.

        `get` raises TaskPlacementGroupRemoved if the group is removed before. `%remote_why` says what the ref waits
        for.
        """
        if self.is_empty:
            return api.put(self)
        backend = self._owner()
        options = TaskOptions(resources=(), max_retries=-1, place=Place(self._id, captures=False))
        first, label = backend.submit(_READY.to(backend), (self,), {}, options)
        return ObjectRef(first, backend, label)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until the group is reserved.

        Parameters
        ----------
        timeout_seconds : float, default 30
            Seconds to wait at most.

        Returns
        -------
        bool
            Whether the group is reserved; False also for a group that was removed.
        """
        ref = self.ready()
        ready, _ = api.wait([ref], timeout=timeout_seconds)
        if not ready:
            api.cancel(ref)
            return False
        try:
            api.get(ref)
        except TaskPlacementGroupRemoved:
            return False
        return True

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """Return the amounts of each bundle. Raises ValueError when the group is not known any more."""
        return [_amounts(bundle) for bundle in self._known_bundles()]

    @property
    def bundle_count(self) -> int:
        """Return the number of bundles."""
        return len(self._known_bundles())

    def _known_bundles(self) -> tuple[Resources, ...]:
        if self._bundles is None:
            known = _groups_of(self._owner()).all(self._id)
            if not known:
                raise ValueError(f"{self!r} is not in this session any more.")
            self._bundles = known[0].bundles
        return self._bundles

    def check_bundle(self, number: int) -> None:
        """Raise ValueError if there is no bundle of this number; -1 is any."""
        if self.is_empty:
            if number != -1:
                raise ValueError(f"Without a placement group there is no bundle {number}")
        elif not -1 <= number < self.bundle_count:
            last = self.bundle_count - 1
            raise ValueError(
                f"{self!r} has bundles from 0 to {last}, and -1 is any of them; it has no {number}"
            )

    def place_in(self, bundle: int, captures: bool | None, amounts: Resources) -> Place:
        """See `strategies.Group`."""
        self.check_bundle(bundle)
        if self.is_empty:
            return ANYWHERE
        backend = current.peek()
        if backend is not None and backend.key != self._key:
            raise ValueError(f"{self!r} belongs to a session that was shut down, or to another program's.")
        bundles = self._known_bundles() if bundle < 0 else self._known_bundles()[bundle : bundle + 1]
        if not any(_holds(dict(some), amounts) for some in bundles):
            which = "none of the bundles" if bundle < 0 else f"bundle {bundle}"
            raise ValueError(
                f"{_amounts(amounts)} does not fit into {which} of {self!r}: {self.bundle_specs}"
            )
        return Place(self._id, bundle, captures)

    def _owner(self) -> Backend:
        """Its session, which must be the running one. Raises ValueError."""
        backend = current.backend()
        if backend.key != self._key:
            raise ValueError(
                f"{self!r} belongs to a session that was shut down, or to another program's: create it again here."
            )
        return backend

    def _remote_why_(self) -> str:
        """Return the text of `%remote_why`."""
        backend = current.peek()
        if backend is None or backend.key != self._key:
            return f"{self!r} belongs to a session that has ended."
        known = _groups_of(backend).all(self._id)
        if not known:
            return f"{self!r} is not in this session any more."
        state = {"reserved": "is reserved", "removed": "was removed"}.get(
            known[0].state, "is about to be reserved"
        )
        return known[0].detail or f"{self._label} {state}."

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and (other._id, other._key) == (self._id, self._key)

    def __hash__(self) -> int:
        return hash(self._id)

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self._id, self._key, self._label, self._bundles, self._digits)

    def __repr__(self) -> str:
        return f"PlacementGroup({self._label})"


def _itself(group: PlacementGroup) -> PlacementGroup:
    """Return the group: the task behind `ready`, which runs in the group and so waits for it."""
    return group


_READY: Final = Export(_itself, "ready")


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: Mapping[str, str] | None = None,
) -> PlacementGroup:
    """Reserve bundles of resources, all of them or none, without waiting: see `PlacementGroup.ready`. As in `ray.util`.

    A group for which the session has too little waits, with one warning.

    Parameters
    ----------
    bundles : list of dict
        Amounts by name, such as `[{"CPU": 2, "GPU": 1}]`. The GPUs of a bundle are devices of its own.
    strategy : str, optional
        "PACK" (the default), "SPREAD", "STRICT_PACK" or "STRICT_SPREAD". On one machine the first three mean the same,
        and "STRICT_SPREAD" with several bundles is never reserved.
    name : str, default ""
        For `get_placement_group`, in the program's namespace. With a name, this waits for the answer whether it is
        free.
    lifetime : str, optional
        "detached": the group stays when the actor or program that created it has ended.
    bundle_label_selector : list of dict, optional
        For each bundle, the labels that its machine must have.
    topology_strategy : mapping, optional
        Not there: NotImplementedError.

    Returns
    -------
    PlacementGroup
        The group.

    Raises
    ------
    ValueError
        An argument means nothing, or the name is taken.
    TypeError
        The name is not a string.

    Examples
    --------
    >>> from ipyremote.util import placement_group, remove_placement_group
    >>> from ipyremote.util.scheduling_strategies import PlacementGroupSchedulingStrategy
    >>> group = placement_group([{"CPU": 1}])
    >>> @ray.remote
    ... def inside():
    ...     return "in the group"
    >>> ray.get(inside.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group)).remote())
    'in the group'
    >>> remove_placement_group(group)
    """
    _check(bundles, strategy, name, lifetime, bundle_label_selector)
    if topology_strategy is not None:
        raise NotImplementedError("topology_strategy: a session has one machine; use strategy='STRICT_PACK'")
    if _soft_target_node_id and strategy != "STRICT_PACK":
        raise ValueError(f"_soft_target_node_id goes with strategy='STRICT_PACK' only, not {strategy!r}")
    units = tuple(to_units(bundle) for bundle in bundles)
    labels = tuple(matches_of("bundle_label_selector", some) for some in bundle_label_selector or () if some)
    backend = current.backend()
    group, created = _groups_of(backend).create(
        units, strategy or "PACK", name, detached=lifetime == "detached", labels=labels
    )
    if not created:
        raise ValueError(
            f"The placement group name {name!r} is already taken. Please use a different name, or get the existing "
            f"group by get_placement_group({name!r})."
        )
    return _handle(backend, group)


def _check(bundles: Any, strategy: Any, name: Any, lifetime: Any, selectors: Any) -> None:
    if not isinstance(bundles, list) or not bundles:
        raise ValueError(f"bundles is a list of dictionaries such as [{{'CPU': 1}}], not {bundles!r}")
    for number, bundle in enumerate(bundles):
        check_bundle(f"bundles[{number}]", bundle)
    if strategy is not None and strategy not in _STRATEGIES:
        raise ValueError(f"strategy is one of {', '.join(map(repr, _STRATEGIES))}, not {strategy!r}")
    if not isinstance(name, str):
        raise TypeError(f"name is a string, not {type(name).__name__}: {name!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime is 'detached' or None, not {lifetime!r}")
    if selectors is not None and (not isinstance(selectors, list) or len(selectors) != len(bundles)):
        raise ValueError(
            f"bundle_label_selector is a list with one dictionary for each bundle, not {selectors!r}"
        )


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give back what a group has reserved, without waiting, and end its tasks and actors by force.

    `get` then raises TaskPlacementGroupRemoved for its tasks, ActorPlacementGroupRemoved for calls of its actors.
    Nothing happens to a group that was removed before.

    Parameters
    ----------
    placement_group : PlacementGroup
        The group.

    Raises
    ------
    TypeError
        `placement_group` is anything else.

    Examples
    --------
    >>> from ipyremote.util import placement_group, placement_group_table, remove_placement_group
    >>> group = placement_group([{"CPU": 1}])
    >>> group.wait(60)
    True
    >>> remove_placement_group(group)
    >>> placement_group_table(group)["state"]
    'REMOVED'
    """
    group = _checked("remove_placement_group", placement_group)
    if not group.is_empty:
        _groups_of(group._owner()).remove(group._id)


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """Return the group of this name in the program's namespace. Waits for the scheduler's answer.

    Parameters
    ----------
    placement_group_name : str
        The name that `placement_group` gave.

    Returns
    -------
    PlacementGroup
        The group.

    Raises
    ------
    ValueError
        There is no such group, or the name is empty.
    TypeError
        The name is not a string.

    Examples
    --------
    >>> from ipyremote.util import get_placement_group, placement_group, remove_placement_group
    >>> group = placement_group([{"CPU": 1}], name="bench")
    >>> get_placement_group("bench") == group
    True
    >>> remove_placement_group(group)
    """
    name = placement_group_name
    if not isinstance(name, str):
        raise TypeError(f"get_placement_group() takes a text, not {type(name).__name__}: {name!r}")
    if not name:
        raise ValueError("get_placement_group() takes a name that is not empty")
    backend = current.backend()
    group = _groups_of(backend).find(name)
    if group is None:
        raise ValueError(
            f"Failed to look up placement group with name {name!r}: there is none in the namespace of this session. It "
            "was removed or never created; placement_group_table() shows what there is."
        )
    return _handle(backend, group)


def get_current_placement_group() -> PlacementGroup | None:
    """Return the group that the calling task or actor is in. Asks the scheduler.

    Returns
    -------
    PlacementGroup or None
        None outside of groups, and in a program.

    Examples
    --------
    >>> from ipyremote.util import get_current_placement_group
    >>> print(get_current_placement_group())
    None
    """
    backend = current.backend()
    group_id = current_task.identity().group
    known = _groups_of(backend).all(group_id) if group_id else []
    return _handle(backend, known[0]) if known else None


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """Return what is known of one group, or of all groups by id, with the latest that were removed.

    Parameters
    ----------
    placement_group : PlacementGroup, optional
        One group; by default all.

    Returns
    -------
    dict
        As in Ray: `placement_group_id`, `name`, `bundles`, `bundles_to_node_id`, `strategy`, `state` ("PENDING",
        "CREATED" or "REMOVED") and `stats`; and `detail`, why the group waits. Empty for a group that is not known.

    Examples
    --------
    >>> from ipyremote.util import placement_group, placement_group_table, remove_placement_group
    >>> group = placement_group([{"CPU": 1}], strategy="SPREAD", name="spread")
    >>> group.wait(60)
    True
    >>> table = placement_group_table(group)
    >>> table["name"], table["strategy"], table["state"]
    ('spread', 'SPREAD', 'CREATED')
    >>> remove_placement_group(group)
    """
    group = _checked("placement_group_table", placement_group) if placement_group is not None else None
    backend = current.backend()
    known = [
        _described(backend, record) for record in _groups_of(backend).all(group._id if group else NO_GROUP)
    ]
    if group is not None:
        return known[0] if known else {}
    return {record["placement_group_id"]: record for record in known}


def _checked(what: str, group: Any) -> PlacementGroup:
    if not isinstance(group, PlacementGroup):
        raise TypeError(f"{what}() takes a PlacementGroup, not {type(group).__name__}: {group!r:.80}")
    return group


def _holds(bundle: Mapping[str, int], amounts: Resources) -> bool:
    return all(bundle.get(name, 0) >= amount for name, amount in amounts)


def _handle(backend: Backend, group: GroupRecord) -> PlacementGroup:
    digits = backend.hex_of("placement group", group.group_id)
    return PlacementGroup(group.group_id, backend.key, group.label, group.bundles, digits)


def _groups_of(backend: Backend) -> PlacementGroups:
    return required(backend.placement_groups, backend.capabilities.placement_groups)


def _amounts(bundle: Sequence[tuple[str, int]]) -> dict[str, float]:
    return {name: amount / RESOURCE_UNIT for name, amount in bundle}


def _described(backend: Backend, group: GroupRecord) -> dict[str, Any]:
    node = backend.hex_of("node", 0) if group.state == "reserved" else ""
    milliseconds = group.seconds * 1000 if group.state != "pending" else 0.0
    return {
        "placement_group_id": backend.hex_of("placement group", group.group_id),
        "name": group.name,
        "bundles": {number: _amounts(bundle) for number, bundle in enumerate(group.bundles)},
        "bundles_to_node_id": dict.fromkeys(range(len(group.bundles)), node),
        "strategy": group.strategy,
        "state": _STATES[group.state],
        "stats": {
            "end_to_end_creation_latency_ms": milliseconds,
            "scheduling_latency_ms": milliseconds,
            "scheduling_attempt": 1,
            "highest_retry_delay_ms": 0.0,
            "scheduling_state": _SCHEDULING[group.state],
        },
        "detail": group.detail,
    }
