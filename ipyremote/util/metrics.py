"""`Counter`, `Gauge` and `Histogram` as in `ray.util.metrics`, and `snapshot()`, which reads those of all processes.

Each process keeps its own numbers, where the others can read them (`series.py`), so that recording one is as cheap as
storing it, and the numbers of a process outlive it. `snapshot` puts them together: counters and histograms are added
up, of a gauge the value set last counts. They belong to the session in which they are recorded and end with it.
"""

from __future__ import annotations

import bisect
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ipyremote.util import series

__all__ = ["Counter", "Gauge", "Histogram", "Metric", "snapshot"]

#: As of Prometheus.
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Tags = Mapping[str, str]


class Metric:
    """What all of them have in common. Can be passed to tasks and actors."""

    _kind = ""
    #: Upper bounds of buckets.
    _bounds: tuple[float, ...] = ()

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        """`tag_keys`: names of the tags that each value has. Raises ValueError for an empty name, TypeError for keys
        that are no tuple of strings. A name that Prometheus would not take warns, and its values are not recorded.
        """
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        keys = () if tag_keys is None else tag_keys
        if not isinstance(keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(keys)}")
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._description = description
        self._tag_keys = keys
        self._default_tags: dict[str, str] = {}
        self._discarded = not _NAME.fullmatch(name)
        if self._discarded:
            warnings.warn(
                f"Invalid metric name: {name}. The metric will be discarded. Metric names can only contain letters, "
                "numbers, _, and :. They cannot start with numbers.",
                UserWarning,
                stacklevel=3,
            )

    def set_default_tags(self, default_tags: Tags) -> Metric:
        """Tags of values that do not say otherwise. Returns the metric itself. Raises ValueError for unknown keys."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            _check_tag(value)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _numbers(self, tags: Tags | None) -> series.Numbers | None:
        """Where the numbers for these tags are; None for a metric that is not recorded."""
        for value in (tags or {}).values():
            _check_tag(value)
        final = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in final]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        if self._discarded:
            return None
        return series.numbers(self._kind, self._name, self._description, final, self._bounds)


class Counter(Metric):
    """A number that only grows."""

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: Tags | None = None) -> None:
        """Add `value`. Raises TypeError for no number, ValueError for one that is not above 0."""
        _check_number(value)
        if not value > 0:
            raise ValueError(f"value must be >0, got {value}")
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.add({0: value})


class Gauge(Metric):
    """A number that goes up and down."""

    _kind = "gauge"

    def set(self, value: float | None, tags: Tags | None = None) -> None:
        """It is `value` now; None changes nothing. Raises TypeError for no number."""
        if value is None:
            return
        _check_number(value)
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.put({0: value, 1: time.time()})


class Histogram(Metric):
    """How many values were how large."""

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        """`boundaries`: upper bounds of the buckets, above 0; a last one has none. Raises ValueError."""
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. e.g., "
                'Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, bound in enumerate(boundaries):
            if not bound > 0:
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. "
                    "Use positive values for the arguments."
                )
        self.boundaries = list(boundaries)
        self._bounds = tuple(sorted(map(float, boundaries)))

    @property
    def info(self) -> dict[str, Any]:
        """As of every metric, and the boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: Tags | None = None) -> None:
        """There was `value`. Raises TypeError for no number."""
        _check_number(value)
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.add({0: value, 1: 1, 2 + bisect.bisect_left(self._bounds, value): 1})


def snapshot() -> list[dict[str, Any]]:
    """All metrics of the session, as of now: a record for each combination of tags, sorted, which a DataFrame takes.

    Each has `name`, `type`, `description`, `tags` and `value` (of a histogram, the sum of what was observed), and a
    histogram `count` and `buckets` too: pairs of an upper bound and how many were at most that, and above the last one.
    """
    merged: dict[tuple[Any, ...], series.Record] = {}
    for record in series.read_all():
        key = (record.name, tuple(sorted(record.tags.items())), record.kind, record.bounds)
        known = merged.get(key)
        merged[key] = record if known is None else _merged(known, record)
    return [_as_dict(merged[key]) for key in sorted(merged)]


def _merged(one: series.Record, other: series.Record) -> series.Record:
    if one.kind == "gauge":
        return max(one, other, key=lambda record: record.numbers[1])
    return one.with_numbers(a + b for a, b in zip(one.numbers, other.numbers, strict=True))


def _as_dict(record: series.Record) -> dict[str, Any]:
    histogram = record.kind == "histogram"
    bounds = (*record.bounds, float("inf"))
    return {
        "name": record.name,
        "type": record.kind,
        "description": record.description,
        "tags": record.tags,
        "value": record.numbers[0],
        "count": int(record.numbers[1]) if histogram else None,
        "buckets": list(zip(bounds, map(int, record.numbers[2:]), strict=True)) if histogram else None,
    }


def _check_number(value: Any) -> None:
    if not isinstance(value, int | float):
        raise TypeError(f"value must be int or float, got {type(value)}.")


def _check_tag(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"Tag values must be str, got {type(value)}.")
