"""Drift: worked by hand, zero where nothing changed, large where people went elsewhere."""

from math import log

import pytest

from models.drift import POPULAR, REST, counted, drift, kept

BEFORE = [("shop:a", "BOUGHT")] * 60 + [("shop:b", "BOUGHT")] * 20 + [("films:c", "PLAYED")] * 20


def test_events_are_counted_by_platform_type_and_item():
    assert counted(BEFORE) == {
        "platform": {"shop": 80, "films": 20},
        "type": {"BOUGHT": 80, "PLAYED": 20},
        "item": {"shop:a": 60, "shop:b": 20, "films:c": 20},
    }


def test_the_index_is_that_of_the_definition():
    reference = {"platform": {"shop": 79, "films": 19}}
    found = drift(reference, {"platform": {"shop": 49, "films": 49}})["platform"]
    # Three values, the third being what the reference does not know, and half an event more of each.
    before, now = (79.5 / 99.5, 19.5 / 99.5, 0.5 / 99.5), (49.5 / 99.5, 49.5 / 99.5, 0.5 / 99.5)
    by_hand = sum((q - p) * log(q / p) for p, q in zip(before, now, strict=True))
    assert found == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.42, abs=0.01)


def test_nothing_has_drifted_where_shares_are_the_same_however_many_events_there_are():
    reference = kept(counted(BEFORE * 50))
    for value in drift(reference, counted(BEFORE * 20)).values():
        assert value == pytest.approx(0, abs=1e-3)


def test_a_new_platform_and_new_items_are_drift_and_a_changed_order_of_items_too():
    reference = kept(counted(BEFORE * 20))
    assert drift(reference, counted([("music:d", "PLAYED")] * 1000))["platform"] > 1
    swapped = [("shop:b", "BOUGHT")] * 60 + [("shop:a", "BOUGHT")] * 20 + [("films:c", "PLAYED")] * 20
    found = drift(reference, counted(swapped * 10))
    assert found["item"] > 0.25
    assert found["platform"] == pytest.approx(0, abs=1e-3)


def test_of_the_items_a_manifest_keeps_the_popular_ones_and_the_sum_of_the_rest():
    events = [(f"shop:{number:03}", "BOUGHT") for number in range(100) for _ in range(1 + (number < 5))]
    items = kept(counted(events))["item"]
    assert len(items) == POPULAR + 1
    assert sum(items.values()) == len(events) == 105
    assert [items[f"shop:{number:03}"] for number in (0, 4, 5)] == [2, 2, 1]
    assert items[REST] == 80
    assert drift(kept(counted(events)), counted(events))["item"] == pytest.approx(0)
