"""Many rows become columns of events: the same as each of them row by row."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.columns import EventColumns
from graph.keys import Pseudonyms
from graph.records import Event
from ingest.mapping import Mapping
from ingest.parse import Keyring, Rejected
from ingest.parse_events import event_columns_parser, event_parser
from ingest.sources.rows import LIST_SEPARATOR

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
COLUMNS = ("who", "item", "kind", "at", "position", "stars", "where", "id")
LATEST = datetime(2030, 1, 1, tzinfo=UTC)
PLAIN = {"account": "who", "item": "item", "type": "PURCHASED"}
WHOLE = {
    "account": "who",
    "item": "item",
    "type": {"column": "kind", "values": {"rate": {"as": "RATED", "weight": 0.5}, "look": "VIEWED"}},
    "at": {"column": "at", "format": "seconds", "earliest": "2001-01-01"},
    "sequence": "position",
    "value": {"column": "stars", "scale": [1, 5], "positive_from": 3, "per_person": True},
    "context": {"device": "where", "note": "kind"},
}
MAPPINGS: list[tuple[Any, dict[str, Any]]] = [
    ("shop", PLAIN),
    ("shop", WHOLE),
    ("shop", WHOLE | {"id": "id"}),
    ({"column": "where", "names": {"x": "shop"}}, WHOLE | {"context": {}}),
    ({"column": "where", "names": {"x": "shop"}}, PLAIN | {"id": "id"}),
]
GOOD = (
    ["ann", " ann ", "ben"],
    ["42", "43", " 43 "],
    ["rate", "look", " look "],
    ["1000000000", "1000000000.5", "1.1e9"],
    ["", "1", "-7"],
    ["", "1", "4.5"],
    ["tv", "x", "", f"a{LIST_SEPARATOR}b"],
    ["e1", " e2 "],
)
BAD = (
    ["", "  "],
    ["", "4 3", "x" * 300],
    ["", "steal"],
    ["", "now", "9999999999", "86400", "9" * 30],
    ["1.5", "9" * 30],
    ["6", "nan", "five"],
    ["Über all", "account"],
    ["", "x" * 300],
)
FIELDS = st.tuples(*(st.sampled_from(good * 8 + bad) for good, bad in zip(GOOD, BAD, strict=True)))


@pytest.mark.parametrize(("platform", "section"), MAPPINGS)
@given(st.lists(FIELDS, max_size=12))
def test_rows_in_columns_are_the_rows_one_by_one(
    platform: Any, section: dict[str, Any], rows: list[tuple[str, ...]]
) -> None:
    mapping = Mapping.model_validate({"platform": platform, "events": {"file": "e.csv", **section}})
    given_ = mapping.events[0], mapping, COLUMNS
    one_by_one = [event_parser(*given_, Keyring(PSEUDONYMS), latest=LATEST)(row) for row in rows]
    found, rejected = event_columns_parser(*given_, Keyring(PSEUDONYMS), latest=LATEST)(rows)
    assert rejected == [(at, each) for at, each in enumerate(one_by_one) if isinstance(each, Rejected)]
    assert list(found.events()) == [each for each in one_by_one if isinstance(each, Event)]


def test_a_text_that_was_read_in_an_earlier_batch_means_the_same_in_a_later_one() -> None:
    mapping = Mapping.model_validate({"platform": "shop", "events": {"file": "e.csv", **WHOLE}})
    parse = event_columns_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS), latest=LATEST)
    good = ("ann", "42", "rate", "1000000000", "1", "4", "tv", "")
    bad = ("ann", "42", "steal", "1000000000", "1", "4", "tv", "")
    first, second = parse([good, bad]), parse([bad, good])
    assert (len(first[0]), first[1][0][0]) == (1, 1)
    assert (second[0], second[1][0][0]) == (first[0], 0)
    assert parse([]) == (EventColumns.of(()), [])
