"""`Counter`, `Gauge` and `Histogram` as in `ray.util.metrics`, and `snapshot()`, which reads those of all processes.

Each process keeps its own numbers where the others can read them (`series.py`), so recording a number is as cheap as
storing it, and the numbers of a process outlive the process. `snapshot` puts the numbers together: counters and
histograms are added up; of a gauge the value that was set last counts. Metrics belong to the session in which they are
recorded, and end with it.
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

#: Names that Prometheus takes.
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Tags = Mapping[str, str]


class Metric:
    """A number with a name and tags: the base of `Counter`, `Gauge` and `Histogram`. Can be passed to tasks and actors.

    Parameters
    ----------
    name : str
        Letters, digits, `_` and `:`. Another name warns, and its values are not recorded.
    description : str, default ""
        What the number is, for people.
    tag_keys : tuple of str, optional
        Names of the tags that each value has.

    Raises
    ------
    ValueError
        `name` is empty.
    TypeError
        `tag_keys` is not a tuple of strings.

    Examples
    --------
    >>> from ipyremote.util.metrics import Gauge, Metric
    >>> gauge = Gauge("temperature", description="of the oven", tag_keys=("oven",))
    >>> isinstance(gauge, Metric), gauge.info["tag_keys"]
    (True, ('oven',))
    """

    _kind = ""
    #: Upper bounds of the buckets of a histogram.
    _bounds: tuple[float, ...] = ()

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
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
        """Set the tags of values without tags of their own, and return the metric. ValueError for unknown keys."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            _check_tag(value)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Return the name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _numbers(self, tags: Tags | None) -> series.Numbers | None:
        """Return the place of the numbers for these tags; None for a metric that is not recorded."""
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
    """A number that only grows.

    Parameters
    ----------
    name : str
        As of every `Metric`.
    description : str, default ""
        As of every `Metric`.
    tag_keys : tuple of str, optional
        As of every `Metric`.

    Examples
    --------
    >>> from ipyremote.util import metrics
    >>> pages = metrics.Counter("pages_read", tag_keys=("book",))
    >>> @ray.remote
    ... def read(book):
    ...     pages.inc(20, tags={"book": book})
    >>> ray.get([read.remote("Emma"), read.remote("Emma")])
    [None, None]
    >>> [record["value"] for record in metrics.snapshot() if record["name"] == "pages_read"]
    [40.0]
    """

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: Tags | None = None) -> None:
        """Add to the number.

        Parameters
        ----------
        value : float, default 1.0
            What to add. TypeError for anything but a number, ValueError for a number that is not above 0.
        tags : mapping of str to str, optional
            Values of the tags.
        """
        _check_number(value)
        if not value > 0:
            raise ValueError(f"value must be >0, got {value}")
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.add({0: value})


class Gauge(Metric):
    """A number that goes up and down.

    Parameters
    ----------
    name : str
        As of every `Metric`.
    description : str, default ""
        As of every `Metric`.
    tag_keys : tuple of str, optional
        As of every `Metric`.

    Examples
    --------
    >>> from ipyremote.util import metrics
    >>> loss = metrics.Gauge("loss")
    >>> loss.set(0.5)
    >>> loss.set(0.25)
    >>> [record["value"] for record in metrics.snapshot() if record["name"] == "loss"]
    [0.25]
    """

    _kind = "gauge"

    def set(self, value: float | None, tags: Tags | None = None) -> None:
        """Set the number.

        Parameters
        ----------
        value : float or None
            The new number; None changes nothing. TypeError for anything else.
        tags : mapping of str to str, optional
            Values of the tags.
        """
        if value is None:
            return
        _check_number(value)
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.put({0: value, 1: time.time()})


class Histogram(Metric):
    """Counts of values by size.

    Parameters
    ----------
    name : str
        As of every `Metric`.
    description : str, default ""
        As of every `Metric`.
    boundaries : sequence of float
        Upper bounds of the buckets, above 0; one more bucket has no bound. ValueError for anything else.
    tag_keys : tuple of str, optional
        As of every `Metric`.

    Examples
    --------
    >>> from ipyremote.util import metrics
    >>> seconds = metrics.Histogram("seconds", boundaries=[1.0, 10.0])
    >>> for value in (0.5, 2.0, 3.0, 60.0):
    ...     seconds.observe(value)
    >>> (record,) = [record for record in metrics.snapshot() if record["name"] == "seconds"]
    >>> record["buckets"]
    [(1.0, 1), (10.0, 2), (inf, 1)]
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
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
        """Return the name, description, tag keys, default tags and boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: Tags | None = None) -> None:
        """Count a value. Raises TypeError for anything but a number."""
        _check_number(value)
        numbers = self._numbers(tags)
        if numbers is not None:
            numbers.add({0: value, 1: 1, 2 + bisect.bisect_left(self._bounds, value): 1})


def snapshot() -> list[dict[str, Any]]:
    """Return all metrics of the session as of now, in records that `pandas.DataFrame` takes.

    Returns
    -------
    list of dict
        One record for each combination of tags, sorted, with `name`, `type`, `description`, `tags` and `value` (of a
        histogram the sum of its values). A histogram has `count` and `buckets`, too: pairs of an upper bound and the
        number of values up to there and above the bound before.

    Examples
    --------
    >>> from ipyremote.util import metrics
    >>> metrics.Counter("wheels").inc(4)
    >>> [(record["type"], record["value"]) for record in metrics.snapshot() if record["name"] == "wheels"]
    [('counter', 4.0)]
    """
    merged: dict[tuple[Any, ...], series.SeriesRecord] = {}
    for record in series.read_all():
        key = (record.name, tuple(sorted(record.tags.items())), record.kind, record.bounds)
        known = merged.get(key)
        merged[key] = record if known is None else _merged(known, record)
    return [_as_dict(merged[key]) for key in sorted(merged)]


def _merged(one: series.SeriesRecord, other: series.SeriesRecord) -> series.SeriesRecord:
    if one.kind == "gauge":
        return max(one, other, key=lambda record: record.numbers[1])
    return one.with_numbers(a + b for a, b in zip(one.numbers, other.numbers, strict=True))


def _as_dict(record: series.SeriesRecord) -> dict[str, Any]:
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
