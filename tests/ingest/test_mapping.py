"""A mapping is checked when it is read, and what is wrong is said with file, line and the nearest right word."""

from pathlib import Path

import pytest

from ingest.errors import MappingError
from ingest.mapping import Events, Mapping, format_of, read_mapping, used_columns

MAPPINGS = Path(__file__).parents[2] / "ingest" / "mappings"

SHOP = """\
platform: shop
items:
  file: items.csv
  id: item
events:
  file: events.csv.gz
  account: who
  item: item
  type: {column: kind, values: {buy: PURCHASED, look: {as: VIEWED, weight: 0.1}}}
  at: {column: at, format: seconds}
"""


def read(folder: Path, text: str) -> Mapping:
    path = folder / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    return read_mapping(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(MappingError) as raised:
        read(folder, text)
    return str(raised.value)


def test_a_section_alone_is_a_list_of_one_and_formats_come_from_suffixes(tmp_path: Path) -> None:
    mapping = read(tmp_path, SHOP)
    assert [events.resolved_format for events in mapping.events] == ["csv"]
    assert mapping.events[0].type.values["look"].resolved_weight == 0.1
    assert mapping.events[0].type.values["buy"].resolved_weight == 1.0


@pytest.mark.parametrize("path", sorted(MAPPINGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_mapping_that_comes_with_isthmus_reads(path: Path) -> None:
    assert read_mapping(path).events


def test_both_islands_know_the_same_relations() -> None:
    old, new = (read_mapping(MAPPINGS / f"{name}-films.yaml") for name in ("old", "new"))
    assert old.knowledge[0].relations == new.knowledge[0].relations


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  id: item\n", "  idd: item\n", "shop.yaml line 4: unknown key 'idd'; did you mean id?"),
        ("  id: item\n", "", "shop.yaml line 2: items.id is missing"),
        ("platform: shop\n", "", "shop.yaml line 1: platform is missing"),
        ("platform: shop", "platform: The Shop", "shop.yaml line 1: platform: 'The Shop' is not a platform name"),
        ("items.csv", "items.xlsx", "shop.yaml line 2: items: 'items.xlsx' has a suffix that says no format"),
        ("format: seconds", "format: minutes", "line 10: events.at: format is 'minutes': give seconds, milliseconds,"),
        (
            "format: seconds}",
            "format: seconds}\n  value: {column: v, per_person: true}",
            "events.value: per_person needs a scale, such as scale: [1, 5]",
        ),
        (
            "format: seconds}",
            "format: seconds}\n  value: {column: v, scale: [1, 5], per_person: true, positive_from: 7}",
            "positive_from is 7: give a value of the scale 1 to 5",
        ),
        (
            "format: seconds}",
            "format: seconds}\n  value: {column: v, scale: [1, 5], per_person: true}\n  context: {value_low: c}",
            "context names value_low, which per_person writes: give the property another name",
        ),
        ("format: seconds", "format: '%d/%m %H:%M'", "a pattern with year, month and day such as '%d/%m/%Y %H:%M'"),
        ("format: seconds", "zone: Europe/Berln", "zone 'Europe/Berln' is unknown; did you mean Europe/Berlin?"),
        ("format: seconds", "zone: ../etc", "zone '../etc' is unknown: write one such as Europe/Berlin"),
        ("format: seconds", "format: seconds, zone: UTC", "but seconds since 1970 are in UTC: leave the zone out"),
        ("buy: PURCHASED", "buy: BOUGHT", "BOUGHT has no default weight: give one, such as {as: BOUGHT, weight: 0.5}"),
        ("buy: PURCHASED", "buy: bought", "'bought' is not a relationship type"),
        ("weight: 0.1", "weight: 0", "weight is 0.0: give a finite number other than 0"),
        ("id: item", "id: item\n  id: other", "shop.yaml line 5: 'id' is given twice"),
        ("id: item", "id: item\n  encoding: klingon", "encoding 'klingon' is unknown"),
        (
            "id: item",
            "id: item\n  missing: [NULL]",
            "YAML makes None of one of these texts: put them in quotes",
        ),
        ("id: item", "id: item\n  encoding: utf-16", "convert the file to utf-8 first"),
        ("id: item", "id: item\n  entities: [{column: c, kind: user, relation: BY}]", "'user' is not a kind of entity"),
        ("id: item", "id: item\n  entities: [{column: c, kind: tag, relation: OF}]", "OF is the graph's own"),
        ("platform: shop", "platform: [shop", "shop.yaml line 2: "),
        ("items.csv", "[items.csv, more.tsv]", "items.csv and more.tsv are of two formats: give each a section"),
        ("items.csv", "[]", "items.file: "),
        ("items.csv", "{a: b}", "items.file: give a text, or a list of texts"),
        ("id: item", 'id: item\n  delimiter: "::"', "the delimiter '::' has several characters: add format: tsv"),
        ("items.csv", 'items.jsonl\n  delimiter: ";"', "a delimiter is for csv and tsv, items.jsonl is jsonl"),
        ("items.csv", "items.parquet\n  columns: [item]", "columns are for csv, tsv, jsonl and xml"),
        ("id: item", "id: item\n  columns: [a, b, a]", "columns has 'a' twice"),
        ("id: item", "id: item\n  entities: [{kind: tag, relation: BY}]", "give the column that names the entities"),
        (
            SHOP,
            "platform: shop\nentities: {file: a.csv, kind: item, id: a}",
            "line 2: entities: 'item' is not a kind",
        ),
        (
            SHOP,
            "platform: shop\nrelations: {file: a.csv, item: a, target: b, type: FOLLOWS}",
            "FOLLOWS is the graph's own",
        ),
        (SHOP, "platform: shop\n", "the mapping names no files"),
        (SHOP, "- just\n- a list\n", "holds no mapping: begin with platform"),
        (SHOP, "", "holds no mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SHOP
    assert message in problem(tmp_path, SHOP.replace(old, new))


def test_a_mapping_that_is_not_there_or_not_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_mapping(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes("platform: café".encode("latin-1"))
    with pytest.raises(MappingError, match="is not UTF-8 text"):
        read_mapping(tmp_path / "latin.yaml")


def test_a_column_that_the_file_lacks_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    mapping = read(tmp_path, SHOP.replace("item: item", "item: itm"))
    with pytest.raises(MappingError) as raised:
        mapping.check_columns(("events", 0), mapping.events[0], ["who", "item", "kind", "at"], "events.csv")
    assert str(raised.value) == (
        "shop.yaml line 8: events.item names column 'itm', events.csv has who, item, kind, at; did you mean item?"
    )


def test_every_column_that_a_section_names_is_checked(tmp_path: Path) -> None:
    text = SHOP.replace("  id: item\n", "  id: a\n  title: b\n  created_at: c\n  attributes: {x: d}\n")
    items = read(tmp_path, text + "  value: f\n  sequence: g\n").items[0]
    assert used_columns(items) == ["a", "b", "c", "d"]
    events = read(tmp_path, text + "  value: f\n  sequence: g\n").events[0]
    assert used_columns(events) == ["who", "item", "kind", "at", "g", "f"]


@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("a.csv.gz", "csv"),
        ("b.ndjson.zst", "jsonl"),
        ("ml.inter", "recbole"),
        ("s3://bucket/a.parquet", "parquet"),
        ("https://host/a.tsv?sig=x.csv", "tsv"),
        ("zip://Posts.xml::s3://bucket/dump.zip", "xml"),
        ("simplecache::s3://bucket/a.csv", "csv"),
        ("memory://bucket/a?.csv", "csv"),
        ("a.json", None),
        ("a", None),
    ],
)
def test_the_name_of_a_file_says_its_format(file: str, format: str | None) -> None:
    assert format_of(file) == format


def test_a_table_that_an_event_looks_items_up_in_has_columns_of_its_own(tmp_path: Path) -> None:
    text = SHOP.replace(
        "  item: item\n  type", "  item: part\n  item_of: {file: parts.csv, id: p, item: whole}\n  type"
    )
    events = read(tmp_path, text).events[0]
    assert used_columns(events) == ["who", "part", "kind", "at"]
    assert events.item_of is not None
    assert used_columns(events.item_of) == ["p", "whole"]


def test_columns_of_flags_and_of_where_are_checked_like_any_other(tmp_path: Path) -> None:
    text = SHOP.replace(
        "  id: item\n",
        "  id: item\n  where: {kind: item}\n  entities: [{flags: [Drama, War], kind: genre, relation: IN}]\n",
    )
    mapping = read(tmp_path, text)
    assert used_columns(mapping.items[0]) == ["kind", "item", "Drama", "War"]
    with pytest.raises(MappingError, match=r"line 6: items\.entities\.0\.flags\.1 names column 'War', a has"):
        mapping.check_columns(("items", 0), mapping.items[0], ["item", "kind", "Drama"], "a")


def test_a_platform_from_a_column_is_checked_like_any_other_column(tmp_path: Path) -> None:
    mapping = read(tmp_path, SHOP.replace("platform: shop", "platform: {column: site}"))
    with pytest.raises(MappingError, match=r"line 1: platform\.column names column 'site', items\.csv has item"):
        mapping.check_columns(("items", 0), mapping.items[0], ["item"], "items.csv")


def test_keys_are_texts_as_they_are_written(tmp_path: Path) -> None:
    mapping = read(tmp_path, SHOP.replace("buy: PURCHASED", "1: PURCHASED, yes: LIKED"))
    assert list(mapping.events[0].type.values) == ["1", "yes", "look"]


def test_an_event_without_times_is_allowed(tmp_path: Path) -> None:
    mapping = read(tmp_path, SHOP.replace("  at: {column: at, format: seconds}\n", "  sequence: position\n"))
    assert isinstance(mapping.events[0], Events)
    assert mapping.events[0].at is None
