"""Events as columns are the same events."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.columns import EventColumns, event_digests
from graph.errors import RecordError
from graph.keys import AccountKey, ItemKey
from graph.records import Event, event_digest
from graph.stored import instant

ANN, HEAT = AccountKey("films", "ann"), ItemKey("films", "heat")
START = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVENTS = [
    Event("e1", "RATED", ANN, HEAT, START, value=4.0, context={"device": "tv", "scores": ["1", "2"], "again": True}),
    Event("e2", "VIEWED", ANN, HEAT, START + timedelta(days=1), weight=-0.5, sequence=7),
    Event("e3", "VIEWED", ANN, HEAT, START - timedelta(days=30_000)),
]
INSTANTS = st.integers(-60 * 10**15, 250 * 10**15).map(instant)


def test_columns_give_back_the_events_and_parts_of_them() -> None:
    columns = EventColumns.of(EVENTS)
    assert list(columns.events()) == EVENTS
    assert list(columns.take([2, 0]).events()) == [EVENTS[2], EVENTS[0]]
    assert list(columns.take([1]).events()) == [EVENTS[1]]
    assert [list(part.events()) for part in columns.parts(2)] == [EVENTS[:2], EVENTS[2:]]
    assert list(columns.parts(3)) == [columns]
    assert (len(columns.take([])), list(EventColumns.of(()).parts(2))) == (0, [])


def test_a_context_that_no_store_keeps_is_an_error() -> None:
    with pytest.raises(RecordError, match="the attribute device"):
        EventColumns.of([Event("e", "RATED", ANN, HEAT, START, context={"device": float("nan")})])


@given(st.lists(st.tuples(INSTANTS, st.none() | st.integers(-9, 9)), max_size=4))
def test_digests_of_columns_are_those_of_events(said: list[tuple[datetime, int | None]]) -> None:
    events = [Event("x", "RATED", ANN, HEAT, at, sequence=order) for at, order in said]
    columns = EventColumns.of(events)
    assert event_digests(columns.type, columns.account, columns.item, columns.at, columns.sequence) == [
        event_digest(each.type, each.account, each.item, each.at, each.sequence) for each in events
    ]
