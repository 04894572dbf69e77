"""A drafted mapping: what it says of an export, that it reads, and that check takes what it describes."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest.check import check
from ingest.draft import write_draft
from ingest.errors import SourceError
from ingest.mapping import Events, Mapping, read_mapping
from tests.ingest import test_load, test_movielens
from tests.ingest.public_formats import FORMATS, write

SHOP = {
    "orders.csv": (
        "order_id;customer_email;sku;ordered_at;quantity;status\n"
        "o1;ann@example.org;k1;2024-03-01 10:00:00;1;sent\n"
        "o2;ben@example.org;c1;2024-03-02 11:30:00;2;sent\n"
    ),
    "products.csv": (
        "sku,name,description,price,categories\nk1,Kettle,Boils water.,9.5,Home|Tea\nc1,Cup,Holds tea.,2,Tea\n"
    ),
    "clicks.jsonl": (
        '{"visitor": "v1", "product_id": "k1", "event": "view", "ts": 1700000000123}\n'
        '{"visitor": "v1", "product_id": "c1", "event": "addtocart", "ts": 1700000001000}\n'
        '{"visitor": "v2", "product_id": "c1", "event": "teleport", "ts": 1700000002000}\n'
    ),
    "people.csv": "person,platform,account\np1,shop,ann@example.org\np1,video,ann\n",
}


def drafted(folder: Path, files: dict[str, str], platform: str | None = "shop") -> tuple[Mapping, str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    path = write_draft([str(folder / name) for name in files], platform, folder / "out.yaml")
    return read_mapping(path), path.read_text()


def events_of(folder: Path, name: str, text: str) -> Events:
    [events] = drafted(folder, {name: text})[0].events
    return events


def test_a_shop_is_understood(tmp_path: Path) -> None:
    mapping, text = drafted(tmp_path, SHOP)
    [items], [identities] = mapping.items, mapping.identities
    orders, clicks = mapping.events
    assert (items.id, items.title, items.text, items.attributes) == ("sku", "name", "description", {"price": "price"})
    assert [(rule.column, rule.separator, rule.kind) for rule in items.entities] == [("categories", ("|",), "category")]
    assert (identities.person, identities.platform, identities.account) == ("person", "platform", "account")
    assert (orders.delimiter, orders.account, orders.item) == (";", "customer_email", "sku")
    assert orders.at is not None
    assert (orders.at.column, orders.at.format) == ("ordered_at", "iso")
    assert orders.type.as_ == "PURCHASED"
    assert orders.value is not None
    assert orders.value.column == "quantity"
    assert (clicks.account, clicks.item) == ("visitor", "product_id")
    assert clicks.at is not None
    assert clicks.at.format == "milliseconds"
    assert {name: (to.as_, to.resolved_weight) for name, to in clicks.type.values.items()} == {
        "view": ("VIEWED", 0.2),
        "addtocart": ("ADDTOCART", 0.5),
        "teleport": ("TELEPORT", 0.5),
    }
    assert "# id: order_id" in text
    assert "# not used: status" in text


def test_check_takes_the_draft_of_a_shop_as_it_is(tmp_path: Path) -> None:
    mapping, _ = drafted(tmp_path, SHOP)
    total = check([mapping], tmp_path).run.total
    assert (total.read, total.accepted) == (9, 9)


def test_a_draft_repeats_no_text_of_a_row_but_types_of_events(tmp_path: Path) -> None:
    _, text = drafted(tmp_path, SHOP)
    assert "view" in text
    for private in ("ann", "ben@", "v1", "o1", "Kettle", "Boils"):
        assert private not in text


@pytest.mark.parametrize("name", FORMATS)
def test_check_takes_the_drafts_of_public_formats_as_they_are(tmp_path: Path, name: str) -> None:
    data = write(name, tmp_path)
    path = write_draft([str(data / "*")], "some", tmp_path / "some.yaml")
    report = check([read_mapping(path)], tmp_path)
    assert not report.unfit
    deleted = 2 if name == "stackexchange-dump" else 0
    assert report.run.total.rejected == deleted
    sections = {file.section for file in report.run.files}
    assert {"items", "events"} <= sections
    assert ("follows" in sections) is (name == "lastfm-hetrec")


@pytest.mark.parametrize("files", [test_load.FILES, test_movielens.SMALL], ids=["shop", "movielens"])
def test_check_takes_the_drafts_of_other_fixtures_as_they_are(tmp_path: Path, files: dict[str, str]) -> None:
    mapping, _ = drafted(tmp_path, dict(files))
    report = check([mapping], tmp_path)
    assert (report.run.total.rejected, report.unfit) == (0, [])
    assert report.run.total.accepted > 5


@pytest.mark.parametrize(
    ("header", "row", "at", "value"),
    [
        ("user,item,timestamp,stars", "u,i,1500000000,4", ("timestamp", "seconds"), ("stars", (1, 5))),
        (
            "userId,movieId,unixTime,score",
            "u,i,1500000000000,.5\nu,i,1500000000001,4",
            ("unixTime", "milliseconds"),
            ("score", (0.5, 5)),
        ),
        ("reviewerID,asin,date,overall", "u,i,2020-02-30,8", None, ("overall", (1, 10))),
        ("who,course_id,when,grade", "u,i,2020-02-28T10:00:00+01:00,97", ("when", "iso"), ("grade", (0, 100))),
        ("listener,track,plays", "u,i,9000", None, ("plays", None)),
        ("account_id,song_id,item_count", "u,i,12", None, ("item_count", None)),
    ],
)
def test_times_and_values_are_told_by_name_and_range(
    tmp_path: Path, header: str, row: str, at: Any, value: tuple[str, tuple[float, float] | None]
) -> None:
    events = events_of(tmp_path, "log.csv", f"{header}\n{row}\n")
    assert (None if events.at is None else (events.at.column, events.at.format)) == at
    assert events.value is not None
    assert (events.value.column, events.value.scale) == value


@pytest.mark.parametrize(
    ("text", "format", "delimiter", "encoding"),
    [
        ('user,item\nu,"a, b"\n', "csv", None, "utf-8"),
        ("user;item\nu;i\n", "csv", ";", "utf-8"),
        ("user|item\nu|i\n", "csv", "|", "utf-8"),
        ('user|item\nu|7" vinyl\n', "tsv", "|", "utf-8"),
        ("user\titem\nu\ti\n", "tsv", None, "utf-8"),
        ('user\titem\nu\t"a\tb"\n', "csv", "\t", "utf-8"),
        ("user::item\nu::i\n", "tsv", "::", "utf-8"),
        ("user,item\nu,caf\xe9\n", "csv", None, "latin-1"),
        ("user,item\nu,\x93caf\xe9\x94\n", "csv", None, "cp1252"),
    ],
)
def test_delimiter_quotes_and_encoding_are_told_by_the_text(
    tmp_path: Path, text: str, format: str, delimiter: str | None, encoding: str
) -> None:
    (tmp_path / "log.dat").write_bytes(text.encode("utf-8" if encoding == "utf-8" else "latin-1"))
    [events] = read_mapping(write_draft([str(tmp_path / "log.dat")], "shop", tmp_path / "out.yaml")).events
    assert (events.resolved_format, events.delimiter, events.encoding) == (format, delimiter, encoding)


def test_files_of_one_shape_share_a_section_and_parquet_and_json_are_told_without_a_suffix(tmp_path: Path) -> None:
    for month in ("01", "02"):
        (tmp_path / f"{month}.csv").write_text(f"user,item,type\nu,i,{month}\n")
    pl.DataFrame({"sku": ["i"], "title": ["Kettle"]}).write_parquet(tmp_path / "part-0")
    (tmp_path / "more").write_text('{"sku": "j", "title": "Cup"}\n')
    mapping = read_mapping(write_draft([str(tmp_path / "*")], "shop", tmp_path / "out.yaml"))
    assert [events.file for events in mapping.events] == [("01.csv", "02.csv")]
    assert list(mapping.events[0].type.values) == ["01", "02"]
    assert [(items.file, items.format) for items in mapping.items] == [(("more",), "jsonl"), (("part-0",), "parquet")]


def test_a_platform_is_named_by_its_folder_or_by_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "My Video Site"
    assert drafted(folder, {"log.csv": "user,item\nu,i\n"}, platform=None)[0].platform.name == "my-video-site"
    (folder / "out.yaml").unlink()
    mapping, _ = drafted(folder, {"log.csv": "site,user,item\na.example,u,i\n"})
    assert mapping.platform.column == "site"


def test_names_that_yaml_would_read_otherwise_come_back_as_they_are(tmp_path: Path) -> None:
    mapping, _ = drafted(tmp_path, {"a b: #1.csv": 'no,"user: id","item, id",on\n1,u,i,x\n'})
    assert mapping.events[0].file == ("a b: #1.csv",)
    assert (mapping.events[0].account, mapping.events[0].item) == ("user: id", "item, id")


def test_a_draft_is_never_written_over_another_file(tmp_path: Path) -> None:
    drafted(tmp_path, {"log.csv": "user,item\nu,i\n"})
    before = (tmp_path / "out.yaml").read_text()
    with pytest.raises(SourceError, match=r"out\.yaml is there already: name another file with --out"):
        write_draft([str(tmp_path / "log.csv")], "other", tmp_path / "out.yaml")
    assert (tmp_path / "out.yaml").read_text() == before


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "x,y\n1,2\n", "no column looks like the id of an account or an item"),
        ("a.json", json.dumps([{"id": 1}]), "is one JSON array: write an object a line"),
        ("a.csv", "", "is empty"),
    ],
)
def test_what_cannot_be_drafted_is_one_sentence_and_no_file(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        drafted(tmp_path, {name: text})
    assert not (tmp_path / "out.yaml").exists()


def test_a_file_that_is_not_understood_is_named_in_a_comment(tmp_path: Path) -> None:
    _, text = drafted(tmp_path, {"log.csv": "user,item\nu,i\n", "x.csv": "alpha,beta\n1,2\n"})
    assert "# x.csv was not understood. It has alpha (numbers 1 to 1), beta (numbers 2 to 2)." in text


def test_a_secret_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a mapping is no place for a secret") as raised:
        write_draft(["s3://key:geheim@bucket/a.csv"], "shop", tmp_path / "out.yaml")
    assert "geheim" not in str(raised.value)
