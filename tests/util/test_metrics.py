"""`metrics`, as in Ray: validation, tags, and the combined values of all processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import Any

import pytest

import ipyremote as ray
from ipyremote.exceptions import WorkerCrashedError
from ipyremote.util import series
from ipyremote.util.metrics import Counter, Gauge, Histogram, Metric, snapshot


@pytest.fixture(autouse=True)
def _nothing_before() -> None:
    series._tables.alone = None


def values(name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by the values of its tags."""
    return {tuple(r["tags"].values()): r["value"] for r in snapshot() if r["name"] == name}


@pytest.mark.usefixtures("cluster")
def test_a_counter_adds_up_the_values_of_all_processes() -> None:
    @ray.remote
    class Shop:
        def __init__(self, name: str) -> None:
            self.sold = Counter("sold", "Things sold.", tag_keys=("shop", "thing")).set_default_tags(
                {"shop": name}
            )

        def sell(self, thing: str, count: float) -> None:
            self.sold.inc(count, {"thing": thing})

    @ray.remote(max_retries=0)
    def sell(counter: Metric, dies: bool) -> None:
        assert isinstance(counter, Counter)
        counter.inc(tags={"shop": "street", "thing": "tea"})
        if dies:
            os._exit(1)

    shops = [Shop.remote("north"), Shop.remote("south"), Shop.remote("south")]
    ray.get([shop.sell.remote("tea", 2) for shop in shops for _ in range(3)])
    counter = Counter("sold", "Things sold.", tag_keys=("shop", "thing"))
    ray.get([sell.remote(counter, False) for _ in range(5)])
    with pytest.raises(WorkerCrashedError):
        ray.get(sell.remote(counter, True))
    counter.inc(0.5, {"shop": "street", "thing": "tea"})
    assert values("sold") == {("north", "tea"): 6, ("south", "tea"): 12, ("street", "tea"): 6.5}
    record = next(r for r in snapshot() if r["name"] == "sold")
    assert (record["type"], record["description"]) == ("counter", "Things sold.")


@pytest.mark.usefixtures("cluster")
def test_a_gauge_has_the_value_that_was_set_last() -> None:
    @ray.remote
    def set_to(value: float) -> None:
        Gauge("level").set(value)

    gauge = Gauge("level")
    gauge.set(1)
    ray.get(set_to.remote(2))
    assert values("level") == {(): 2}
    gauge.set(3)
    gauge.set(None)
    assert values("level") == {(): 3}


@pytest.mark.usefixtures("cluster")
def test_a_histogram_counts_values_by_bucket() -> None:
    @ray.remote
    def observe(histogram: Histogram, *seen: float) -> None:
        for value in seen:
            histogram.observe(value)

    histogram = Histogram("seconds", boundaries=[1.0, 10.0])
    ray.get([observe.remote(histogram, 0.5, 1.0), observe.remote(histogram, 5, 100)])
    (record,) = snapshot()
    assert record["value"] == 106.5
    assert record["count"] == 4
    assert record["buckets"] == [(1.0, 2), (10.0, 1), (float("inf"), 1)]
    assert histogram.info["boundaries"] == [1.0, 10.0]


@pytest.mark.usefixtures("cluster")
def test_metric_values_end_with_their_session(cluster: Any) -> None:
    Counter("old").inc()
    assert values("old") == {(): 1}
    ray.shutdown()
    assert snapshot() == []
    ray.init(num_cpus=1)
    Counter("new").inc()
    assert [record["name"] for record in snapshot()] == ["new"]
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_metric_values_of_many_threads_are_complete() -> None:
    counter = Counter("many", tag_keys=("key",))

    def count() -> None:
        for i in range(1000):
            counter.inc(tags={"key": f"{'long ' * 10}{i}"})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = values("many")
    assert len(found) == 1000
    assert set(found.values()) == {4}


@pytest.mark.usefixtures("cluster")
def test_metric_values_of_a_forked_child_of_a_task_are_counted() -> None:
    @ray.remote
    def forks() -> None:
        counter = Counter("forked")
        counter.inc()
        child = multiprocessing.get_context("fork").Process(target=counter.inc)
        child.start()
        child.join()

    ray.get(forks.remote())
    assert values("forked") == {(): 2}


def test_metrics_without_a_session_are_local_to_the_process() -> None:
    Counter("alone").inc(3)
    assert values("alone") == {(): 3}
    ray.init(backend="inline")
    try:

        @ray.remote
        def count() -> None:
            Counter("alone").inc()

        ray.get(count.remote())
        assert values("alone") == {(): 4}
    finally:
        ray.shutdown()


def test_the_info_of_a_metric_has_its_name_and_description_and_tags() -> None:
    counter = Counter("name", description="desc", tag_keys=("a",))
    assert counter.set_default_tags({"a": "b"}) is counter
    assert counter.info == {
        "name": "name",
        "description": "desc",
        "tag_keys": ("a",),
        "default_tags": {"a": "b"},
    }


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Counter(""), ValueError, "Empty name"),
        (lambda: Counter("n", tag_keys=["a"]), TypeError, "tuple"),  # type: ignore[arg-type]
        (lambda: Counter("n", tag_keys=(1,)), TypeError, "must be str"),  # type: ignore[arg-type]
        (
            lambda: Counter("n", tag_keys=("a",)).set_default_tags({"b": "c"}),
            ValueError,
            "Unrecognized tag key b",
        ),
        (lambda: Counter("n", tag_keys=("a",)).set_default_tags({"a": 1}), TypeError, "must be str"),  # type: ignore[dict-item]
        (lambda: Counter("n", tag_keys=("a", "b")).inc(), ValueError, "a,b"),
        (lambda: Counter("n", tag_keys=("a",)).inc(tags={"a": 1}), TypeError, "must be str"),  # type: ignore[dict-item]
        (lambda: Counter("n").inc(0), ValueError, ">0"),
        (lambda: Counter("n").inc(-1), ValueError, ">0"),
        (lambda: Counter("n").inc("1"), TypeError, "int or float"),  # type: ignore[arg-type]
        (lambda: Gauge("n").set("1"), TypeError, "int or float"),  # type: ignore[arg-type]
        (lambda: Histogram("n"), ValueError, "boundaries"),
        (lambda: Histogram("n", boundaries=[]), ValueError, "boundaries"),
        (lambda: Histogram("n", boundaries=[1, -1]), ValueError, "index 1"),
        (lambda: Histogram("n", boundaries=[1]).observe("1"), TypeError, "int or float"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_of_metrics_are_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_metric_with_an_invalid_prometheus_name_is_not_recorded() -> None:
    with pytest.warns(UserWarning, match="Invalid metric name"):
        counter = Counter("with-dash")
    counter.inc()
    assert snapshot() == []
