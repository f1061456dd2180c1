"""Labels, conditions on labels, and the placement that scheduling options result in."""

from __future__ import annotations

from typing import Any

import pytest

from ipyremote.backend.placement import (
    ANYWHERE,
    LabelMatch,
    Place,
    check_labels,
    described,
    match_some,
    matches_of,
)
from ipyremote.declare.options import TASK_OPTIONS, check_options, task_options
from ipyremote.ids import GroupId
from ipyremote.remote import remote
from ipyremote.util.placement_group import PlacementGroup
from ipyremote.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

#: Ids of placement groups.
G7 = GroupId(7)


LABELS = {"region": "us", "market": "spot", "empty": ""}
NODE = "0a" * 28


@pytest.mark.parametrize(
    ("selector", "met"),
    [
        ({}, True),
        ({"region": "us"}, True),
        ({"region": "eu"}, False),
        ({"region": "!eu"}, True),
        ({"region": "!us"}, False),
        ({"region": "in(eu, us)"}, True),
        ({"region": "in(eu,asia)"}, False),
        ({"region": "!in(eu,asia)"}, True),
        ({"region": "!in(eu,us)"}, False),
        ({"zone": "a"}, False),
        ({"zone": "!a"}, True),
        ({"empty": ""}, True),
        ({"region": "us", "market": "!spot"}, False),
    ],
)
def test_a_label_selector_matches_or_does_not_match_labels(selector: dict[str, str], met: bool) -> None:
    assert met == match_some((matches_of("label_selector", selector),), LABELS)


def test_labels_match_if_one_of_several_selectors_matches() -> None:
    here, there = (matches_of("s", {"region": name}) for name in ("us", "eu"))
    assert match_some((there, here), LABELS)
    assert not match_some((there,), LABELS)
    assert match_some((), {})


def test_label_conditions_are_described_in_words() -> None:
    selector = {"a": "b", "c": "!d", "e": "in(f, g)", "h": "!in(i,j)"}
    words = "a=b and c!=d and e in (f, g) and h not in (i, j)"
    assert words == described((matches_of("s", selector),))
    existing = LabelMatch("k", "exists"), LabelMatch("l", "exists", negated=True)
    assert "k and no l, or m=n" == described((existing, matches_of("s", {"m": "n"})))


@pytest.mark.parametrize(
    "given", [{"a": "b"}, {"example.com/a_b-c": "v1.2"}, {"a": ""}, {"a" * 63: "b" * 63}]
)
def test_valid_labels_are_accepted(given: dict[str, str]) -> None:
    check_labels("labels", given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["a"], TypeError),
        ({1: "b"}, TypeError),
        ({"a": 1}, TypeError),
        ({"": "b"}, ValueError),
        ({"a b": "c"}, ValueError),
        ({"a": "b c"}, ValueError),
        ({"a": "-b"}, ValueError),
        ({"a" * 64: "b"}, ValueError),
        ({"a": "b" * 64}, ValueError),
        ({"/a": "b"}, ValueError),
        ({"ray.io/node-id": "x"}, ValueError),
    ],
)
def test_invalid_labels_are_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_labels("labels", given)


def place_of(**given: Any) -> Place | None:
    check_options(given, TASK_OPTIONS, "a task")
    return task_options(given).place


def test_scheduling_options_result_in_a_placement() -> None:
    assert place_of() is None
    assert place_of(num_cpus=2, scheduling_strategy=None, label_selector=None) is None
    assert ANYWHERE == place_of(scheduling_strategy="DEFAULT") == place_of(scheduling_strategy="SPREAD")
    region = LabelMatch("region", "in", ("us",))
    zone = LabelMatch("zone", "in", ("a",), negated=True)
    assert Place(labels=((region,),)) == place_of(label_selector={"region": "us"})
    other = [{"label_selector": {"zone": "!a"}}]
    assert Place(labels=((region,), (zone,))) == place_of(
        label_selector={"region": "us"}, fallback_strategy=other
    )
    # An empty first or last selector matches any machine.
    assert place_of(fallback_strategy=other) is None
    assert place_of(label_selector={"region": "us"}, fallback_strategy=[{"label_selector": {}}]) is None


def test_scheduling_strategies_result_in_a_placement() -> None:
    assert ANYWHERE == place_of(scheduling_strategy=PlacementGroupSchedulingStrategy(None))
    assert ANYWHERE == place_of(scheduling_strategy=PlacementGroupSchedulingStrategy(PlacementGroup.empty()))
    group = PlacementGroup(G7, "key", "group#1", ((("CPU", 10_000),), (("CPU", 20_000),)))
    assert Place(G7) == place_of(scheduling_strategy=PlacementGroupSchedulingStrategy(group))
    assert Place(G7, 1, True) == place_of(
        num_cpus=2, scheduling_strategy=PlacementGroupSchedulingStrategy(group, 1, True)
    )
    assert ANYWHERE == place_of(scheduling_strategy=NodeAffinitySchedulingStrategy(NODE, soft=True))
    hard = place_of(scheduling_strategy=NodeAffinitySchedulingStrategy(NODE.upper(), soft=False))
    assert Place(captures=False, node=NODE) == hard
    labels = NodeLabelSchedulingStrategy(
        {"region": In("us", "eu"), "gpu": Exists()}, soft={"zone": NotIn("a"), "old": DoesNotExist()}
    )
    conditions = (LabelMatch("region", "in", ("us", "eu")), LabelMatch("gpu", "exists"))
    assert Place(captures=False, labels=(conditions,)) == place_of(scheduling_strategy=labels)
    both = place_of(scheduling_strategy=labels, label_selector={"market": "spot"})
    assert Place(captures=False, labels=((*conditions, LabelMatch("market", "in", ("spot",))),)) == both


def test_deprecated_placement_options_result_in_the_same_placement() -> None:
    group = PlacementGroup(G7, "key", "group#1", ((("CPU", 10_000),), (("CPU", 20_000),)))
    with pytest.warns(DeprecationWarning, match="PlacementGroupSchedulingStrategy") as caught:
        assert Place(G7, 1, True) == place_of(
            placement_group=group, placement_group_bundle_index=1, placement_group_capture_child_tasks=True
        )
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        remote(lambda: None).options(placement_group=group)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        remote(placement_group=group)(type("A", (), {}))
    assert caught[0].filename == __file__
    assert place_of(placement_group="default") is None
    assert ANYWHERE == place_of(placement_group=None)
    assert ANYWHERE == place_of(placement_group=None, scheduling_strategy="SPREAD")
    with pytest.raises(ValueError, match="does not go with scheduling_strategy"):
        place_of(placement_group=group, scheduling_strategy="SPREAD")
    with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(ValueError, match="it has no 2"):
        place_of(placement_group=group, placement_group_bundle_index=2)
    for name, value in (
        ("placement_group", "mine"),
        ("placement_group_bundle_index", "0"),
        ("placement_group_capture_child_tasks", 1),
    ):
        with pytest.raises(TypeError, match=name):
            place_of(**{name: value})


@pytest.mark.parametrize(
    ("num_cpus", "bundle", "text"),
    [(3, -1, "none of the bundles"), (2, 0, "bundle 0"), (1, -1, "")],
)
def test_a_request_that_fits_into_no_bundle_is_refused_at_its_declaration(
    num_cpus: int, bundle: int, text: str
) -> None:
    group = PlacementGroup(G7, "key", "group#1", ((("CPU", 10_000),), (("CPU", 20_000),)))
    strategy = PlacementGroupSchedulingStrategy(group, bundle)
    if not text:
        assert place_of(num_cpus=num_cpus, scheduling_strategy=strategy) == Place(G7, bundle)
        return
    with pytest.raises(ValueError, match=f"does not fit into {text} of PlacementGroup"):
        place_of(num_cpus=num_cpus, scheduling_strategy=strategy)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda group: PlacementGroupSchedulingStrategy("group"), TypeError),  # type: ignore[arg-type]
        (lambda group: PlacementGroupSchedulingStrategy(group, "0"), TypeError),  # type: ignore[arg-type]
        (lambda group: PlacementGroupSchedulingStrategy(group, 0, "yes"), TypeError),  # type: ignore[arg-type]
        (lambda group: PlacementGroupSchedulingStrategy(group, 1), ValueError),
        (lambda group: PlacementGroupSchedulingStrategy(group, -2), ValueError),
        (lambda group: PlacementGroupSchedulingStrategy(None, 0), ValueError),
        (lambda group: NodeAffinitySchedulingStrategy("here", soft=False), ValueError),
        (lambda group: NodeAffinitySchedulingStrategy("f" * 56, soft=False), ValueError),
        (lambda group: NodeAffinitySchedulingStrategy(5, soft=False), TypeError),  # type: ignore[arg-type]
        (lambda group: NodeAffinitySchedulingStrategy(NODE, soft=1), TypeError),  # type: ignore[arg-type]
        (lambda group: NodeAffinitySchedulingStrategy(NODE, False, _spill_on_unavailable=True), ValueError),
        (lambda group: NodeAffinitySchedulingStrategy(NODE, True, _fail_on_unavailable=True), ValueError),
        (
            lambda group: NodeAffinitySchedulingStrategy(NODE, False, _fail_on_unavailable=True),
            NotImplementedError,
        ),
        (lambda group: NodeLabelSchedulingStrategy({}), ValueError),
        (lambda group: NodeLabelSchedulingStrategy(None), ValueError),
        (lambda group: NodeLabelSchedulingStrategy(["a"]), ValueError),  # type: ignore[arg-type]
        (lambda group: NodeLabelSchedulingStrategy({1: Exists()}), ValueError),  # type: ignore[dict-item]
        (lambda group: NodeLabelSchedulingStrategy({"a": "b"}), ValueError),  # type: ignore[dict-item]
        (lambda group: In(), ValueError),
        (lambda group: NotIn(1), ValueError),  # type: ignore[arg-type]
    ],
)
def test_invalid_scheduling_strategies_are_refused(make: Any, error: type[Exception]) -> None:
    group = PlacementGroup(G7, "key", "group#1", ((("CPU", 10_000),),))
    with pytest.raises(error):
        make(group)


@pytest.mark.parametrize("field", Place._fields)
def test_a_place_with_any_field_but_captures_is_a_restricted_place(field: str) -> None:
    given: dict[str, Any] = {field: object()}
    assert Place(**given).is_anywhere is (field == "captures")
