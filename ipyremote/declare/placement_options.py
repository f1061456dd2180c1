"""The options for the place of a task or an actor: their checks, and the `Place` that they make together.

The options are `scheduling_strategy` (a word, or an object of `util.scheduling_strategies`), `label_selector` with its
`fallback_strategy`, and `placement_group` with two more options, all three of which Ray has deprecated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

from ipyremote.backend import Resources
from ipyremote.backend.placement import ANYWHERE, Place, matches_of

__all__ = ["CHECKS", "GroupPlace", "Strategy", "place_of"]

#: Value of `placement_group` that means that none was given, as in Ray.
_DEFAULT: Final = "default"


@runtime_checkable
class Strategy(Protocol):
    """A `scheduling_strategy` that is an object."""

    def place_for(self, amounts: Resources) -> Place:
        """Return the place for a call with these needs. Raises ValueError if such a call can never run there."""


@runtime_checkable
class GroupPlace(Protocol):
    """A placement group."""

    def place_in(self, bundle: int, captures: bool | None, amounts: Resources) -> Place:
        """Return the place in this group for a call with these needs. Raises ValueError if the call never fits."""


def _strategy(name: str, value: Any) -> None:
    if value in (None, "DEFAULT", "SPREAD") or isinstance(value, Strategy):
        return  # on one machine the two words mean the same
    if isinstance(value, str):
        raise ValueError(f"{name} is 'DEFAULT', 'SPREAD' or a strategy object, not {value!r}")
    raise TypeError(
        f"{name} is 'DEFAULT', 'SPREAD', or one of the objects of ipyremote.util.scheduling_strategies, not "
        f"{type(value).__name__}: {value!r}"
    )


def _label_selector(name: str, value: Any) -> None:
    if value is not None:
        matches_of(name, value)


def _fallback_strategy(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise TypeError(f"{name} is a list of dictionaries, not {type(value).__name__}: {value!r}")
    for number, other in enumerate(value):
        if not isinstance(other, Mapping):
            raise ValueError(f"{name} lists dictionaries, not {type(other).__name__}: {other!r}")
        if list(other) != ["label_selector"]:
            raise ValueError(f"{name}[{number}] has one key, 'label_selector', not {list(other)}")
        _label_selector(f"{name}[{number}]['label_selector']", other["label_selector"])


def _group(name: str, value: Any) -> None:
    if value is not None and value != _DEFAULT and not isinstance(value, GroupPlace):
        raise TypeError(f"{name} is a PlacementGroup or None, not {type(value).__name__}: {value!r}")


def _bundle(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {type(value).__name__}: {value!r}")


def _captures(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is True, False or None, not {value!r}")


#: Check of each option, by the option's name.
CHECKS: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "scheduling_strategy": _strategy,
    "label_selector": _label_selector,
    "fallback_strategy": _fallback_strategy,
    "placement_group": _group,
    "placement_group_bundle_index": _bundle,
    "placement_group_capture_child_tasks": _captures,
}


def place_of(given: Mapping[str, Any], needs: Resources) -> Place | None:
    """Return the place that checked options give a call with these needs, or None.

    Raises ValueError for options that exclude each other, and for a place where the call can never run.
    """
    strategy = given.get("scheduling_strategy")
    place: Place | None = None
    if "placement_group" in given:
        place = _grouped(given, needs)
    if strategy is not None:
        place = ANYWHERE if isinstance(strategy, str) else strategy.place_for(needs)
    if not given.get("label_selector"):
        return place
    selectors = [given["label_selector"]]
    selectors += [other["label_selector"] or {} for other in given.get("fallback_strategy") or ()]
    if all(selectors):
        asked = [matches_of("label_selector", selector) for selector in selectors]
        place = place or Place()
        place = place._replace(labels=tuple((*own, *more) for own in place.labels or ((),) for more in asked))
    return place


def _grouped(given: Mapping[str, Any], needs: Resources) -> Place | None:
    """Return the place that the deprecated options give a call."""
    group = given["placement_group"]
    if group is None or group == _DEFAULT:
        return None if group else ANYWHERE
    if given.get("scheduling_strategy") is not None:
        raise ValueError(
            "placement_group does not go with scheduling_strategy, which replaces placement_group"
        )
    text = "placement_group is deprecated: use scheduling_strategy=PlacementGroupSchedulingStrategy(group)"
    # The stack level of the code with the options, above `task_options` or `actor_options` and its caller.
    warnings.warn(text, DeprecationWarning, stacklevel=6)
    captures = given.get("placement_group_capture_child_tasks")
    place: Place = group.place_in(given.get("placement_group_bundle_index", -1), captures, needs)
    return place
