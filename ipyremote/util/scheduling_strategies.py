"""Values of the option `scheduling_strategy`: where a task is to run, or an actor to live. Names are Ray's.

"DEFAULT" and "SPREAD" are strategies, too; on one machine both mean anywhere, though not in the placement group of the
task that submits. The arguments of these classes are checked when an object is made, and against the needs of a call
when the options are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ipyremote.backend import Resources
from ipyremote.backend.placement import ANYWHERE, EXISTS, IN, LabelMatch, Place
from ipyremote.util.placement_group import PlacementGroup

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
]

_NODE_ID: Final = re.compile("[0-9a-fA-F]{56}")


class PlacementGroupSchedulingStrategy:
    """Run in a placement group, or, with None, in no group.

    Parameters
    ----------
    placement_group : PlacementGroup or None
        The group.
    placement_group_bundle_index : int, default -1
        Number of the bundle; -1: any bundle.
    placement_group_capture_child_tasks : bool, optional
        Whether what the task submits is placed in the group, too. None: as with the task that submits this one.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit.

    Examples
    --------
    >>> from ipyremote.util import get_current_placement_group, placement_group, remove_placement_group
    >>> from ipyremote.util.scheduling_strategies import PlacementGroupSchedulingStrategy
    >>> group = placement_group([{"CPU": 1}])
    >>> @ray.remote
    ... def where():
    ...     return get_current_placement_group()
    >>> ref = where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0)).remote()
    >>> ray.get(ref) == group
    True
    >>> remove_placement_group(group)
    """

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        index, captures = placement_group_bundle_index, placement_group_capture_child_tasks
        if placement_group is not None and not isinstance(placement_group, PlacementGroup):
            raise TypeError(f"placement_group is a PlacementGroup or None, not {placement_group!r}")
        if not isinstance(index, int) or isinstance(index, bool):
            raise TypeError(f"placement_group_bundle_index is a whole number, not {index!r}")
        if captures is not None and not isinstance(captures, bool):
            raise TypeError(f"placement_group_capture_child_tasks is True, False or None, not {captures!r}")
        self.placement_group = placement_group
        self.placement_group_bundle_index = index
        self.placement_group_capture_child_tasks = captures
        (placement_group or PlacementGroup.empty()).check_bundle(index)

    def place_for(self, amounts: Resources) -> Place:
        """Return the place for a call that needs so much."""
        group = self.placement_group
        if group is None:
            return ANYWHERE
        captures = self.placement_group_capture_child_tasks
        return group.place_in(self.placement_group_bundle_index, captures, amounts)

    def __repr__(self) -> str:
        where = f"{self.placement_group!r}, {self.placement_group_bundle_index}"
        return f"PlacementGroupSchedulingStrategy({where})"


class NodeAffinitySchedulingStrategy:
    """Run on one machine, by its id as in `nodes()`. A session has one machine.

    With another id, unless `soft`, `get` raises TaskUnschedulableError or ActorUnschedulableError.

    Parameters
    ----------
    node_id : str
        56 hexadecimal digits.
    soft : bool
        Whether another machine will do when that one is not there.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    >>> here = NodeAffinitySchedulingStrategy(ray.nodes()[0]["NodeID"], soft=False)
    >>> @ray.remote
    ... def place():
    ...     return "here"
    >>> ray.get(place.options(scheduling_strategy=here).remote())
    'here'
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        digits = node_id.hex() if not isinstance(node_id, str) and hasattr(node_id, "hex") else node_id
        if not isinstance(digits, str):
            raise TypeError(f"node_id is a string, not {type(node_id).__name__}: {node_id!r}")
        if not _NODE_ID.fullmatch(digits) or not digits.lower().strip("f"):
            raise ValueError(f"node_id is 56 hexadecimal digits, as in ipyremote.nodes(), not {node_id!r}")
        if not isinstance(soft, bool):
            raise TypeError(f"soft is True or False, not {soft!r}")
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable goes with soft=True only")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable goes with soft=False only")
        if _fail_on_unavailable:
            raise NotImplementedError(
                "_fail_on_unavailable: what does not fit now waits; use get(timeout=...)"
            )
        self.node_id = digits
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    def place_for(self, amounts: Resources) -> Place:
        """Return the place for a call that needs so much."""
        return ANYWHERE if self.soft else ANYWHERE._replace(node=self.node_id.lower())

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy({self.node_id!r}, soft={self.soft})"


class _Condition:
    """A condition on the value of a label."""

    _operator: str = EXISTS
    _negated = False

    def __init__(self) -> None:
        self.values: list[str] = []

    def _match(self, key: str) -> LabelMatch:
        return LabelMatch(key, self._operator, tuple(self.values), self._negated)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values))})"


class Exists(_Condition):
    """A condition of `NodeLabelSchedulingStrategy`: the machine has the label.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import Exists
    >>> Exists()
    Exists()
    """


class DoesNotExist(_Condition):
    """A condition of `NodeLabelSchedulingStrategy`: the machine does not have the label.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import DoesNotExist
    >>> DoesNotExist()
    DoesNotExist()
    """

    _negated = True


class In(_Condition):
    """A condition of `NodeLabelSchedulingStrategy`: the label has one of these values.

    Parameters
    ----------
    *values : str
        The values. ValueError for anything but strings, and for none.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import In
    >>> In("us", "eu")
    In('us', 'eu')
    """

    _operator = IN

    def __init__(self, *values: str) -> None:
        if not values or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{type(self).__name__} takes one or more texts, not {values!r}")
        self.values = list(values)


class NotIn(In):
    """A condition of `NodeLabelSchedulingStrategy`: the label has none of these values, or is not there.

    Parameters
    ----------
    *values : str
        The values. ValueError for anything but strings, and for none.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import NotIn
    >>> NotIn("us")
    NotIn('us')
    """

    _negated = True


class NodeLabelSchedulingStrategy:
    """Run on a machine whose labels (those of `init`) meet conditions.

    A task that asks for labels that the machine does not have waits, with one warning.

    Parameters
    ----------
    hard : mapping or None
        Conditions by label, such as `{"region": In("us"), "gpu": Exists()}`.
    soft : mapping, optional
        Conditions that are preferred, between machines.

    Raises
    ------
    ValueError
        An argument is not a mapping of conditions, or there is no condition.

    Examples
    --------
    >>> from ipyremote.util.scheduling_strategies import DoesNotExist, NodeLabelSchedulingStrategy
    >>> anywhere = NodeLabelSchedulingStrategy({"reserved": DoesNotExist()})
    >>> @ray.remote
    ... def label_free():
    ...     return "done"
    >>> ray.get(label_free.options(scheduling_strategy=anywhere).remote())
    'done'
    """

    def __init__(
        self, hard: Mapping[str, _Condition] | None, *, soft: Mapping[str, _Condition] | None = None
    ) -> None:
        self.hard = _matches("hard", hard)
        self.soft = _matches("soft", soft)
        if not (self.hard or self.soft):
            raise ValueError("NodeLabelSchedulingStrategy takes at least one condition, as hard or soft")

    def place_for(self, amounts: Resources) -> Place:
        """Return the place for a call that needs so much."""
        return ANYWHERE._replace(labels=(self.hard,) if self.hard else ())

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy({self.hard!r}, soft={self.soft!r})"


def _matches(name: str, conditions: Any) -> tuple[LabelMatch, ...]:
    if conditions is None:
        return ()
    if not isinstance(conditions, Mapping):
        raise ValueError(f"{name} is a dictionary such as {{'region': In('us')}}, not {conditions!r}")
    for key, condition in conditions.items():
        if not isinstance(key, str):
            raise ValueError(f"{name} has names of labels for keys, not {key!r}")
        if not isinstance(condition, _Condition):
            raise ValueError(f"{name}[{key!r}] is In, NotIn, Exists or DoesNotExist, not {condition!r}")
    return tuple(condition._match(key) for key, condition in conditions.items())
