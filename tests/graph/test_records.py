"""Records: what they refuse, and the texts that are made of them."""

import math
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import RecordError, SchemaError
from graph.keys import AccountKey, EntityKey, ItemKey
from graph.records import Event, Item, Relation, canonical_json, event_digest

ANN = AccountKey("films", "ann")
HEAT = ItemKey("films", "heat")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("at", [datetime(2024, 5, 1), NOON.astimezone(timezone(timedelta(hours=2)))])  # noqa: DTZ001
def test_an_instant_that_is_not_aware_and_in_utc_is_refused(at: datetime) -> None:
    with pytest.raises(RecordError, match="give an aware instant in UTC"):
        Event("1", "RATED", ANN, HEAT, at)
    with pytest.raises(RecordError, match="created_at of films:heat is 2024-05-01"):
        Item(HEAT, created_at=at)


@pytest.mark.parametrize("type", ["", "rated", "RATED IT", "1ST", "RATED]->(n) DELETE n //", "É", "A" * 65, "RATED\n"])
def test_a_type_that_is_no_name_is_refused(type: str) -> None:
    with pytest.raises(SchemaError, match="is not a relationship type"):
        Event("1", type, ANN, HEAT, NOON)
    with pytest.raises(SchemaError, match="is not a relationship type"):
        Relation(type, HEAT, EntityKey("tag", "x"))


@pytest.mark.parametrize("type", ["OF", "ON", "FOLLOWS", "SAME_WORK", "LEADS_TO"])
def test_an_event_cannot_have_a_type_that_joins_other_nodes(type: str) -> None:
    with pytest.raises(SchemaError, match="an event needs a type of its own"):
        Event("1", type, ANN, HEAT, NOON)


@pytest.mark.parametrize("event_id", ["", "x" * 257])
def test_an_event_id_has_1_to_256_characters(event_id: str) -> None:
    with pytest.raises(RecordError, match=f"has {len(event_id)} characters"):
        Event(event_id, "RATED", ANN, HEAT, NOON)
    assert Event("x" * 256, "RATED", ANN, HEAT, NOON)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_and_values_are_finite(number: float) -> None:
    with pytest.raises(RecordError, match="give finite numbers"):
        Event("1", "RATED", ANN, HEAT, NOON, weight=number)
    with pytest.raises(RecordError, match="give finite numbers"):
        Event("1", "RATED", ANN, HEAT, NOON, value=number)


def test_records_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Item(HEAT).title = "Heat"  # type: ignore[misc]


def test_a_description_is_title_and_text_as_far_as_the_source_gives_them() -> None:
    assert Item(HEAT, "Heat", "Two men").description == "Heat. Two men"
    assert Item(HEAT, text="Two men").description == "Two men"
    assert Item(HEAT).description == ""


def test_canonical_json_has_one_text_for_one_map() -> None:
    assert canonical_json({"b": [1.5, "ü"], "a": True}) == canonical_json({"a": True, "b": [1.5, "ü"]})  # type: ignore[list-item]
    assert canonical_json({"b": "世界", "a": 1}) == '{"a":1,"b":"世界"}'
    assert canonical_json({}) == "{}"


def test_an_event_digest_is_one_text_for_one_event() -> None:
    assert event_digest("RATED", ANN, HEAT, NOON) == event_digest("RATED", ANN, HEAT, NOON)
    assert len(event_digest("RATED", ANN, HEAT, NOON)) == 32


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.none() | st.integers(), st.none() | st.integers())
def test_event_digests_differ_when_time_or_order_differ(
    first: int, second: int, one: int | None, other: int | None
) -> None:
    digests = [
        event_digest("RATED", ANN, HEAT, NOON + timedelta(microseconds=micros), sequence)
        for micros, sequence in ((first, one), (second, other))
    ]
    assert (digests[0] == digests[1]) == ((first, one) == (second, other))
