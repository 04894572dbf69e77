"""Retry: what was put right in mapping or catalogue is taken from quarantine, the rest stays, and nothing is lost."""

from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from graph.keys import ItemKey, Pseudonyms
from graph.store import Store, checksum
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.quarantine import forget, quarantined
from ingest.report import IngestReport
from ingest.retry import RetryReport, retry

PSEUDONYMS = Pseudonyms(b"0123456789abcdef")
MAPPING = """\
platform: shop
items: {file: items.csv, id: item, title: title}
identities: {file: people.csv, person: person, platform: platform, account: account}
events:
  file: events-*.csv
  account: who
  item: item
  type: {column: kind, values: {buy: PURCHASED}}
  at: at
"""
FILES = {
    "items.csv": "item,title\n1,Tent\n2,Stove\n1,Hut\n",
    "people.csv": "person,platform,account\np1,shop,ann\np2,shop,ann\n",
    "events-1.csv": "who,item,kind,at\nann,1,buy,2024-05-01\nann,3,buy,2024-05-01\nbob,2,look,2024-05-01\nbob,2,x,y\n",
    "events-2.csv": "who,item,kind,at\nbob,2,buy,2024-05-01\nbob,3,buy,2024-05-01\n",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def read(store: Store, data: Path) -> IngestReport:
    return ingest([read_mapping(data / "shop.yaml")], store, PSEUDONYMS, data / "var", data=data)


def again(store: Store, data: Path) -> RetryReport:
    return retry(store, PSEUDONYMS, data / "var")


def listed(data: Path) -> list[tuple[str, int, str]]:
    rows = quarantined(data / "var").select(["file", "line", "rule"]).to_pylist()
    return [(row["file"], row["line"], row["rule"]) for row in rows]


REJECTED = [
    ("events-1.csv", 3, "unknown-item"),
    ("events-1.csv", 4, "unknown-type"),
    ("events-1.csv", 5, "unknown-type"),
    ("events-2.csv", 3, "unknown-item"),
    ("items.csv", 4, "contradicts-item"),
    ("people.csv", 3, "contradicts-person"),
]


def test_what_nobody_put_right_stays_as_it_is(store: Store, data: Path) -> None:
    read(store, data)
    before, sums = listed(data), checksum(store)
    assert before == REJECTED
    for _ in range(2):
        report = again(store, data)
        assert (report.tried.total.read, report.tried.total.rejected, report.left) == (6, 6, [])
        assert listed(data) == before
        assert checksum(store) == sums


def test_a_mapping_put_right_and_an_item_that_came_later_let_rows_pass_once(store: Store, data: Path) -> None:
    read(store, data)
    (data / "shop.yaml").write_text(MAPPING.replace("{buy: PURCHASED}", "{buy: PURCHASED, look: VIEWED}"))
    (data / "more.yaml").write_text("platform: shop\nitems: {file: more.csv, id: item}\n")
    (data / "more.csv").write_text("item\n3\n")
    ingest([read_mapping(data / "more.yaml")], store, PSEUDONYMS, data / "var", data=data)
    report = again(store, data)
    assert [(f.file, f.read, f.accepted, f.duplicates, f.rejected) for f in report.tried.files] == [
        ("people.csv", 1, 0, 0, 1),
        ("items.csv", 1, 0, 0, 1),
        ("events-1.csv", 3, 2, 0, 1),
        ("events-2.csv", 1, 1, 0, 0),
    ]
    left = [("events-1.csv", 5, "unknown-type"), *REJECTED[4:]]
    assert listed(data) == left
    assert store.counts().edges == {"PURCHASED": 4, "VIEWED": 1, "OF": 2}
    assert store.user_of(PSEUDONYMS.account("shop", "ann")) == PSEUDONYMS.user("p1")
    assert [item.title for item in store.items([ItemKey("shop", "1")])] == ["Tent"]
    sums = checksum(store)
    assert again(store, data).tried.total.accepted == 0
    assert read(store, data).total.accepted == 0
    assert listed(data) == left
    assert checksum(store) == sums


def test_a_retry_that_is_stopped_after_a_file_keeps_the_rows_of_the_others(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(store, data)
    upsert, calls = type(store).upsert_events, []

    def stop(self: Store, events: object) -> object:
        calls.append(events)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return upsert(self, events)  # type: ignore[arg-type]

    (data / "shop.yaml").write_text(MAPPING.replace("{buy: PURCHASED}", "{buy: PURCHASED, look: VIEWED}"))
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "upsert_events", stop)
        with pytest.raises(KeyboardInterrupt):
            again(store, data)
    assert {place for place in listed(data) if place[0] != "events-1.csv"} == set(REJECTED[3:])
    again(store, data)
    assert listed(data) == [REJECTED[0], *REJECTED[2:]]


def test_a_file_that_has_changed_or_gone_is_named_and_its_rows_stay(store: Store, data: Path) -> None:
    read(store, data)
    (data / "events-1.csv").write_text("who,item,kind,at\nbob,2,buy,2024-05-09\n")
    (data / "events-2.csv").unlink()
    report = again(store, data)
    assert [(left.origin.file, left.rows) for left in report.left] == [("events-1.csv", 3), ("events-2.csv", 1)]
    changed, gone = (left.why for left in report.left)
    assert changed.startswith("events-1.csv has changed since they were read")
    assert f"isthmus ingest {data / 'shop.yaml'} --data {data}" in changed
    assert gone.startswith(f"{data / 'events-2.csv'} is gone; put it back")
    assert "events-1.csv (events): 3 rows not tried" in str(report)
    assert report.tried.total.read == 2
    assert listed(data) == REJECTED
    read(store, data)
    assert listed(data) == REJECTED[3:]


def test_a_mapping_that_is_gone_or_reads_the_file_no_longer_is_named(store: Store, data: Path) -> None:
    read(store, data)
    (data / "shop.yaml").write_text(MAPPING.replace("events-*", "events-1"))
    [left] = again(store, data).left
    assert left.why.startswith(f"{data / 'shop.yaml'} no longer reads it")
    (data / "shop.yaml").unlink()
    report = again(store, data)
    assert sum(left.rows for left in report.left) == len(listed(data)) == 6
    assert all("shop.yaml cannot be read: No such file" in left.why for left in report.left)


def test_a_line_that_is_no_row_any_more_is_not_lost(store: Store, data: Path) -> None:
    (data / "events-1.csv").write_text('who\titem\tkind\tat\n"ann\n"\t1\tlook\t2024-05-01\n')
    (data / "shop.yaml").write_text(MAPPING.replace("events-*.csv", "events-1.csv\n  format: tsv"))
    read(store, data)
    assert listed(data)[:2] == [("events-1.csv", 2, "malformed"), ("events-1.csv", 3, "unknown-type")]
    (data / "shop.yaml").write_text(MAPPING.replace("events-*.csv", 'events-1.csv\n  delimiter: "\\t"'))
    report = again(store, data)
    assert (report.tried.files[-1].read, report.tried.files[-1].rejected) == (2, 2)
    assert listed(data)[:2] == [("events-1.csv", 2, "unknown-type"), ("events-1.csv", 3, "malformed")]


def test_another_encoding_in_the_mapping_lets_rows_pass(store: Store, data: Path) -> None:
    (data / "items.csv").write_bytes("item,title\n1,Zelt\n2,Töpfe\n".encode("latin-1"))
    read(store, data)
    assert ("items.csv", 3, "encoding") in listed(data)
    (data / "shop.yaml").write_text(MAPPING.replace("id: item, title", "encoding: latin-1, id: item, title"))
    again(store, data)
    assert [item.title for item in store.items([ItemKey("shop", "2")])] == ["Töpfe"]
    assert not any(file == "items.csv" for file, _, _ in listed(data))


KNOWLEDGE = """\
platform: shop
items: {file: items.csv, id: item}
knowledge:
  links: {file: links.csv, item: item, entity: entity}
  triples: {file: triples.csv, head: head, relation: relation, tail: tail}
  relations: {made_by: {type: MADE_BY, kind: company}}
"""


def test_triples_know_the_links_that_were_fine(store: Store, data: Path) -> None:
    (data / "shop.yaml").write_text(KNOWLEDGE)
    (data / "links.csv").write_text("item,entity\n1,m.tent\n2,m.tent\n9,m.new\n")
    (data / "triples.csv").write_text("head,relation,tail\nm.tent,painted_by,m.ann\nm.new,made_by,m.acme\n")
    read(store, data)
    assert listed(data) == [
        ("links.csv", 3, "contradicts-link"),
        ("links.csv", 4, "unknown-item"),
        ("triples.csv", 2, "unknown-relation"),
        ("triples.csv", 3, "unlinked"),
    ]
    (data / "shop.yaml").write_text(KNOWLEDGE.replace("{made_by", "{painted_by: {type: BY, kind: creator}, made_by"))
    again(store, data)
    assert store.counts().edges == {"BY": 1}
    assert [place[:2] for place in listed(data)] == [("links.csv", 3), ("links.csv", 4), ("triples.csv", 3)]


def test_of_somebody_who_was_erased_nothing_comes_back_and_no_row_keeps_the_pseudonym(store: Store, data: Path) -> None:
    read(store, data)
    ann = PSEUDONYMS.account("shop", "ann")
    store.erase(PSEUDONYMS.user("p1"))
    assert forget(data / "var", {ann}) == 2
    for _ in range(2):
        read(store, data)
        again(store, data)
        assert store.user_of(ann) is None
        rows = quarantined(data / "var").select(["line", "rule", "account", "value"]).to_pylist()
        erased = [row for row in rows if row["rule"] == "erased"]
        assert [(row["line"], row["account"], row["value"]) for row in erased] == [(2, None, ""), (3, None, "")] * 2
    kept = [path for path in (data / "var" / "quarantine").rglob("*") if path.is_file()]
    assert ann.digest not in str([pq.read_table(path).to_pylist() for path in kept])


def test_an_empty_quarantine_says_so(store: Store, data: Path) -> None:
    assert str(again(store, data)) == "there is nothing in quarantine"


def test_rows_of_files_behind_a_url_are_tried_again_too(store: Store, data: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, text in FILES.items():
        memory.pipe(f"/{data.name}/{name}", text.encode())
    url, described = f"memory://{data.name}", read_mapping(data / "shop.yaml")
    ingest([described], store, PSEUDONYMS, data / "var", data=url)
    assert [place[1:] for place in listed(data)] == [place[1:] for place in REJECTED]
    (data / "shop.yaml").write_text(MAPPING.replace("{buy: PURCHASED}", "{buy: PURCHASED, look: VIEWED}"))
    assert again(store, data).tried.total.accepted == 1
    memory.pipe(f"/{data.name}/events-2.csv", b"who,item,kind,at\n")
    memory.rm(f"/{data.name}/events-1.csv")
    why = {left.origin.file.rpartition("/")[2]: left.why for left in again(store, data).left}
    assert "no longer reads it" in why["events-1.csv"]
    assert "has changed since they were read" in why["events-2.csv"]
