"""Where a task may run, or an actor live, beyond the amounts it needs: which placement group, node and labels.

The option `scheduling_strategy` and its like come to a `Place`. Labels are words with
values that a machine has. Their syntax is that of Kubernetes, as in Ray: a key is a name, perhaps behind a prefix like
a host name and a slash; a value is a name or empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ipyremote.ids import NO_GROUP, GroupId

__all__ = [
    "ANYWHERE",
    "EXISTS",
    "IN",
    "NODE_ID",
    "GroupRecord",
    "LabelMatch",
    "Place",
    "check_labels",
    "described",
    "labels_text",
    "match_some",
    "matches_of",
]

#: The label that every machine has: its id, as in `nodes()`.
NODE_ID: Final = "ray.io/node-id"
#: Beginning of the keys that programs may not set.
RESERVED_PREFIX: Final = "ray.io/"

#: Operator of `LabelMatch`: the label has one of the values.
IN: Final = "in"
#: Operator of `LabelMatch`: the machine has the label, with any value.
EXISTS: Final = "exists"

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_NAME}(?:\.{_NAME})*/)?{_NAME}")
_VALUE = re.compile(_NAME)
_SELECTOR = re.compile(rf"(!?)(?:({_NAME})|in\(({_NAME}(?:, ?{_NAME})*)\))")
_SYNTAX: Final = "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"


class LabelMatch(NamedTuple):
    """A condition on one label."""

    key: str
    #: IN or EXISTS.
    operator: str
    values: tuple[str, ...] = ()
    #: Whether the condition is turned round. A machine without the label has none of the values.
    negated: bool = False


class Place(NamedTuple):
    """Where a task may run, or an actor live."""

    #: Id of a placement group; 0 for none.
    group_id: GroupId = NO_GROUP
    #: Number of the group's bundle; -1 for any bundle of the group.
    bundle: int = -1
    #: Whether what the task submits is placed in the task's group, too; None for what applies to the submitting task,
    #: which may also place this task in its own group.
    captures: bool | None = None
    #: Sets of conditions, one of which the machine has to meet; empty for any machine.
    labels: tuple[tuple[LabelMatch, ...], ...] = ()
    #: Id of the only machine that will do; empty for any machine.
    node: str = ""

    @property
    def is_anywhere(self) -> bool:
        """Return whether the place leaves open where the task runs. `captures` is about other tasks, and ignored."""
        return self._replace(captures=None) == _NOTHING_ASKED


class GroupRecord(NamedTuple):
    """What is known of a placement group."""

    group_id: GroupId
    label: str
    #: Name by which others find the group; empty for none.
    name: str
    strategy: str
    #: (name, ten-thousandths) pairs of each bundle, sorted by name.
    bundles: tuple[tuple[tuple[str, int], ...], ...]
    #: "pending", "reserved" or "removed"
    state: str
    #: Seconds that the reservation took, or has taken so far.
    seconds: float = 0.0
    #: Sentence on why the group waits; empty for a group that does not wait.
    detail: str = ""


#: The place that asks for nothing.
_NOTHING_ASKED: Final = Place()
#: The place that says: not in the group of the task that submits this one.
ANYWHERE: Final = Place(captures=False)


def check_labels(name: str, given: Any) -> None:
    """Raise TypeError or ValueError unless these can be the labels of a machine."""
    _check_mapping(name, given)
    for key, value in given.items():
        if key.startswith(RESERVED_PREFIX):
            raise ValueError(
                f"{name} cannot have {key!r}: keys with {RESERVED_PREFIX!r} are not for programs"
            )
        if not isinstance(value, str):
            raise TypeError(f"{name}[{key!r}] is a string, not {type(value).__name__}: {value!r}")
        if value and not _VALUE.fullmatch(value):
            raise ValueError(f"{name}[{key!r}]={value!r} is no label: a value is {_SYNTAX}, or empty")


def matches_of(name: str, selector: Any) -> tuple[LabelMatch, ...]:
    """Return the conditions of a label selector, such as `{"region": "us", "market": "!spot", "zone": "in(a, b)"}`.

    Raises TypeError or ValueError for anything else.
    """
    _check_mapping(name, selector)
    return tuple(_match_of(name, key, value) for key, value in selector.items())


def _match_of(name: str, key: str, value: Any) -> LabelMatch:
    if not isinstance(value, str):
        raise TypeError(f"{name}[{key!r}] is a string, not {type(value).__name__}: {value!r}")
    if not value:
        return LabelMatch(key, IN, ("",))
    found = _SELECTOR.fullmatch(value)
    if found is None:
        raise ValueError(
            f"{name}[{key!r}]={value!r} is no condition: write 'value', '!value', 'in(value, value)' or "
            f"'!in(value, value)', where a value is {_SYNTAX}"
        )
    negated, single, several = found.groups()
    values = (single,) if single else tuple(several.replace(" ", "").split(","))
    return LabelMatch(key, IN, values, bool(negated))


def _check_mapping(name: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is a dictionary of labels, not {type(given).__name__}: {given!r}")
    for key in given:
        if not isinstance(key, str):
            raise TypeError(f"{name} has names for keys, not {type(key).__name__}: {key!r}")
        if not _KEY.fullmatch(key):
            raise ValueError(f"{name} cannot have {key!r}: the key of a label is {_SYNTAX}")


def match_some(alternatives: tuple[tuple[LabelMatch, ...], ...], labels: Mapping[str, str]) -> bool:
    """Return whether labels meet one of some sets of conditions. Any labels do where there is no set."""
    return not alternatives or any(all(_is_met(match, labels) for match in some) for some in alternatives)


def _is_met(match: LabelMatch, labels: Mapping[str, str]) -> bool:
    there = match.key in labels
    met = there if match.operator == EXISTS else there and labels[match.key] in match.values
    return met != match.negated


def described(alternatives: tuple[tuple[LabelMatch, ...], ...]) -> str:
    """Return sets of conditions in words."""
    return ", or ".join(" and ".join(map(_condition, some)) for some in alternatives)


def _condition(match: LabelMatch) -> str:
    if match.operator == EXISTS:
        return f"{'no ' if match.negated else ''}{match.key}"
    if len(match.values) == 1:
        return f"{match.key}{'!=' if match.negated else '='}{match.values[0]}"
    return f"{match.key} {'not in' if match.negated else 'in'} ({', '.join(match.values)})"


def labels_text(labels: Mapping[str, str]) -> str:
    """Return the labels that programs gave to a machine, in words."""
    own = [f"{key}={value}" for key, value in labels.items() if not key.startswith(RESERVED_PREFIX)]
    return ", ".join(own) or "no labels"
