"""A row becomes a record, or the field, value and rule why not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.keys import ItemKey, Pseudonyms
from graph.records import Event, event_digest
from graph.stored import EPOCH
from ingest.mapping import Mapping, read_mapping
from ingest.parse import Keyring, ParsedItem, Rejected, identity_parser, item_parser
from ingest.parse_events import event_parser
from ingest.rules import Rule
from ingest.sources.rows import LIST_SEPARATOR

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
COLUMNS = ("who", "item", "kind", "at", "position", "stars")
GOOD = ("ann", "42", "rate", "1000000000", "3", "4")
EVENTS = """
platform: shop
events:
  file: e.csv
  account: who
  item: item
  type: {column: kind, values: {rate: {as: RATED, weight: 0.5}, look: VIEWED}}
  at: {column: at, format: FORMAT}
  sequence: position
  value: {column: stars, scale: [1, 5], positive_from: 3}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def mapping_of(folder: Path, text: str) -> Mapping:
    (folder / "m.yaml").write_text(text)
    return read_mapping(folder / "m.yaml")


def parse(folder: Path, values: tuple[str, ...], format: str = "seconds") -> Event | Rejected:
    mapping = mapping_of(folder, EVENTS.replace("FORMAT", format))
    latest = datetime(2099, 12, 31, tzinfo=UTC)
    return event_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS), latest=latest)(values)


def change(**fields: str) -> tuple[str, ...]:
    return tuple(fields.get(column, value) for column, value in zip(COLUMNS, GOOD, strict=True))


def test_an_event_has_a_pseudonym_the_mapped_type_and_its_instant_in_utc(folder: Path) -> None:
    account, item = PSEUDONYMS.account("shop", "ann"), ItemKey("shop", "42")
    at = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert parse(folder, GOOD) == Event(
        event_digest("RATED", account, item, at, 3), "RATED", account, item, at, weight=0.5, value=4.0, sequence=3
    )


def test_a_value_below_positive_from_turns_the_weight_negative(folder: Path) -> None:
    weights = [parse(folder, change(stars=stars)) for stars in ("1", "2.9", "3", "")]
    assert [event.weight for event in weights if isinstance(event, Event)] == [-0.5, -0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "format", "expected"),
    [
        ("0", "seconds", EPOCH),
        ("1.5", "seconds", EPOCH.replace(second=1, microsecond=500_000)),
        ("-1", "seconds", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1234", "milliseconds", EPOCH.replace(second=1, microsecond=234_000)),
        ("1970-01-01", "iso", EPOCH),
        ("1970-01-01T02:00:00+02:00", "iso", EPOCH),
        ("1970-01-01T00:00:01.5Z", "iso", EPOCH.replace(second=1, microsecond=500_000)),
    ],
)
def test_instants_in_every_format_are_in_utc(folder: Path, text: str, format: str, expected: datetime) -> None:
    event = parse(folder, change(at=text), format)
    assert isinstance(event, Event)
    assert event.at == expected
    assert event.at.tzinfo is UTC


@pytest.mark.parametrize(
    ("field", "text", "detail", "rule"),
    [
        ("who", " ", "is empty", Rule.EMPTY),
        ("item", "", "is empty", Rule.EMPTY),
        (
            "item",
            "a b",
            "is not an id: use 1 to 256 of the characters A-Z a-z 0-9 _ : @ . - (platform included)",
            Rule.KEY_FORM,
        ),
        ("kind", "buy", "is none of the mapping's types: rate, look", Rule.UNKNOWN_TYPE),
        ("kind", "", "is empty", Rule.EMPTY),
        ("at", "yesterday", "is no instant when read as seconds since 1970", Rule.NOT_AN_INSTANT),
        ("at", "1000000000000000", "is no instant when read as seconds since 1970", Rule.NOT_AN_INSTANT),
        ("at", "nan", "is no instant when read as seconds since 1970", Rule.NOT_AN_INSTANT),
        ("at", "", "is empty", Rule.EMPTY),
        ("at", "4102444800", "is 2100-01-01, later than when it is read", Rule.IN_THE_FUTURE),
        ("position", "first", "is not a whole number", Rule.NOT_A_NUMBER),
        ("position", str(2**63), "is beyond 64 bits", Rule.NOT_A_NUMBER),
        ("stars", "many", "is not a number", Rule.NOT_A_NUMBER),
        ("stars", "inf", "is not a finite number", Rule.NOT_A_NUMBER),
        ("stars", "6", "is beyond the scale 1 to 5", Rule.OFF_SCALE),
    ],
)
def test_a_rejected_event_says_field_value_and_rule(
    folder: Path, field: str, text: str, detail: str, rule: Rule
) -> None:
    names = {"who": "account", "kind": "type", "position": "sequence", "stars": "value"}
    shown = "" if field == "who" else text
    assert parse(folder, change(**{field: text})) == Rejected(names.get(field, field), shown, detail, rule)


def instant(folder: Path, text: str, rule: str) -> datetime | Rejected:
    mapping = mapping_of(folder, EVENTS.replace("{column: at, format: FORMAT}", rule))
    found = event_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS))(change(at=text))
    return found.at if isinstance(found, Event) else found


def test_a_local_time_is_read_in_its_zone_and_one_with_an_offset_by_its_offset(folder: Path) -> None:
    berlin = "{column: at, format: '%d.%m.%Y %H:%M', zone: Europe/Berlin}"
    assert instant(folder, "01.07.2024 12:00", berlin) == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert instant(folder, "01.12.2024 12:00", berlin) == datetime(2024, 12, 1, 11, tzinfo=UTC)
    iso = "{column: at, zone: Europe/Berlin}"
    assert instant(folder, "2024-07-01T12:00", iso) == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert instant(folder, "2024-07-01T12:00+00:00", iso) == datetime(2024, 7, 1, 12, tzinfo=UTC)


def test_the_hour_that_clocks_skip_is_no_time_and_of_the_one_they_repeat_the_first_is_meant(folder: Path) -> None:
    iso = "{column: at, zone: Europe/Berlin}"
    skipped = instant(folder, "2024-03-31T02:30", iso)
    assert skipped == Rejected("at", "2024-03-31T02:30", "is in the hour that Europe/Berlin skipped", Rule.NO_SUCH_TIME)
    assert instant(folder, "2024-10-27T02:30", iso) == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)


def test_a_time_before_the_earliest_is_a_default_and_no_time(folder: Path) -> None:
    rule = "{column: at, format: seconds, earliest: 2001-09-09}"
    assert instant(folder, "1000000000", rule) == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    found = instant(folder, "0", rule)
    assert found == Rejected("at", "0", "is before 2001-09-09, the earliest of the mapping", Rule.TOO_EARLY)


def test_a_pattern_that_a_time_does_not_fit_is_named(folder: Path) -> None:
    found = instant(folder, "31.02.2024", "{column: at, format: '%d.%m.%Y'}")
    assert found == Rejected("at", "31.02.2024", "is not of the form %d.%m.%Y", Rule.NOT_AN_INSTANT)


def test_an_event_id_that_is_too_long_is_a_bad_row(folder: Path) -> None:
    mapping = mapping_of(folder, EVENTS.replace("FORMAT", "seconds") + "  id: id\n")
    read = event_parser(mapping.events[0], mapping, (*COLUMNS, "id"), Keyring(PSEUDONYMS))
    assert isinstance(read((*GOOD, "x" * 251)), Event)
    found = read((*GOOD, "x" * 252))
    detail = "has 252 characters: an event's id has at most 256"
    assert found == Rejected("id", "x" * 252, detail, Rule.KEY_FORM)


@given(st.tuples(*(st.text(max_size=12) for _ in COLUMNS)))
def test_any_texts_are_accepted_or_explained_and_never_with_the_account(values: tuple[str, ...]) -> None:
    mapping = Mapping.model_validate(
        {
            "platform": "shop",
            "events": {
                "file": "e.csv",
                "account": "who",
                "item": "item",
                "type": "RATED",
                "at": {"column": "at", "format": "milliseconds"},
                "sequence": "position",
                "value": "stars",
            },
        }
    )
    secret = f"secret-{values[0]}-account"
    found = event_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS))((secret, *values[1:]))
    assert isinstance(found, (Event, Rejected))
    assert "secret-" not in repr(found)
    if isinstance(found, Rejected):  # the sentence is kept as it is, so it may repeat nothing
        assert not any(value in found.detail for value in values[1:] if len(value) > 8 and value not in "milliseconds")


def test_the_same_raw_id_on_two_platforms_is_two_accounts_and_a_space_around_it_is_none() -> None:
    keyring = Keyring(PSEUDONYMS)
    assert keyring.account("shop", "ann") != keyring.account("video", "ann")
    assert keyring.account("shop", " ann ") == keyring.account("shop", "ann")


def test_an_item_brings_its_entities_each_once(folder: Path) -> None:
    mapping = mapping_of(
        folder,
        "platform: {column: site, names: {Site A: site-a}}\n"
        "items:\n  file: i.csv\n  id: id\n  title: title\n  created_at: made\n  attributes: {year: year}\n"
        "  entities: [{column: tags, separator: '|', kind: tag, relation: TAGGED}]\n",
    )
    columns = ("site", "id", "title", "made", "year", "tags")
    read = item_parser(mapping.items[0], mapping, columns, Keyring(PSEUDONYMS))
    parsed = read(("Site A", "7", " Heat ", "1995-12-15", "1995", "crime| heist||crime"))
    assert isinstance(parsed, ParsedItem)
    assert parsed.item.key == "site-a:7"
    assert (parsed.item.title, parsed.item.text, parsed.item.attributes) == ("Heat", None, {"year": "1995"})
    assert parsed.item.created_at == datetime(1995, 12, 15, tzinfo=UTC)
    assert [entity.key for entity, _ in parsed.entities] == ["tag:crime", "tag:heist"]
    bare = read(("Other.Site", "8", "", "", "", ""))
    assert isinstance(bare, ParsedItem)
    assert bare.item.key == "other.site:8"
    assert (bare.item.title, bare.item.created_at, bare.item.attributes, bare.entities) == (None, None, {}, ())
    assert read(("", "8", "", "", "", "")) == Rejected("platform", "", "is empty", Rule.EMPTY)
    wrong = read(("Site?", "8", "", "", "", ""))
    assert isinstance(wrong, Rejected)
    assert (wrong.field, wrong.value, wrong.rule) == ("platform", "Site?", Rule.KEY_FORM)
    assert read(("s", "8", "", "soon", "", "")) == Rejected(
        "created_at", "soon", "is not ISO 8601, such as 2024-05-01T12:00:00Z", Rule.NOT_AN_INSTANT
    )


def test_a_row_of_an_identity_table_without_a_person_says_so_and_nothing_else(folder: Path) -> None:
    mapping = mapping_of(folder, "platform: shop\nidentities: {file: i.csv, person: person, account: account}\n")
    read = identity_parser(mapping.identities[0], mapping, ("person", "account"), Keyring(PSEUDONYMS))
    assert read(("", "ann")) == Rejected("person", "", "is empty or not text", Rule.EMPTY)
    assert read(("p1", "ann")) == (PSEUDONYMS.account("shop", "ann"), PSEUDONYMS.user("p1"))


def test_a_source_without_times_puts_its_events_at_the_epoch(folder: Path) -> None:
    text = EVENTS.replace("  at: {column: at, format: FORMAT}\n", "")
    mapping = mapping_of(folder, text)
    event = event_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS))(GOOD)
    assert isinstance(event, Event)
    assert (event.at, event.sequence) == (EPOCH, 3)


def test_a_sources_own_event_id_is_kept_apart_by_platform(folder: Path) -> None:
    mapping = mapping_of(folder, EVENTS.replace("FORMAT", "seconds") + "  id: position\n")
    event = event_parser(mapping.events[0], mapping, COLUMNS, Keyring(PSEUDONYMS))(GOOD)
    assert isinstance(event, Event)
    assert event.event_id == "shop:3"


def item(folder: Path, entities: str, values: tuple[str, ...], columns: tuple[str, ...]) -> ParsedItem:
    text = f"platform: shop\nitems: {{file: i.csv, id: id, title: title, text: text, entities: [{entities}]}}\n"
    mapping = mapping_of(folder, text)
    parsed = item_parser(mapping.items[0], mapping, columns, Keyring(PSEUDONYMS))(values)
    assert isinstance(parsed, ParsedItem)
    return parsed


def test_any_of_several_separators_parts_names(folder: Path) -> None:
    rule = 'column: tags, separator: ["|", "<", ">"], kind: tag, relation: TAGGED'
    for tags in ("|ai|web 2|", "<ai><web 2>", f"ai{LIST_SEPARATOR}web 2"):
        parsed = item(folder, f"{{{rule}}}", ("1", "t", "", tags), ("id", "title", "text", "tags"))
        assert [entity.key for entity, _ in parsed.entities] == ["tag:ai", "tag:web 2"]


def test_flags_name_the_entities_that_an_item_has(folder: Path) -> None:
    rule = "{flags: [Drama, Film-Noir, War], kind: genre, relation: IN_GENRE}"
    columns = ("id", "title", "text", "Drama", "Film-Noir", "War")
    parsed = item(folder, rule, ("1", "t", "", "1", "True", "0"), columns)
    assert [entity.key for entity, _ in parsed.entities] == ["genre:Drama", "genre:Film-Noir"]


def test_a_text_that_comes_as_a_list_is_its_members_with_blanks_between(folder: Path) -> None:
    values = "1", f"Toy{LIST_SEPARATOR}Story", f"One.{LIST_SEPARATOR}Two.", "x"
    parsed = item(folder, "{column: tags, kind: tag, relation: TAGGED}", values, ("id", "title", "text", "tags"))
    assert (parsed.item.title, parsed.item.text) == ("Toy Story", "One. Two.")
