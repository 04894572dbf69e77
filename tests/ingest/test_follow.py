"""Follow: what is added is read once it is whole, nothing twice, nothing lost, also after a restart."""

import gzip
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import StoreUnavailableError
from graph.keys import ItemKey
from graph.store import Store, checksum, open_store
from ingest import follow as following
from ingest.errors import MappingError
from ingest.load import ingest
from ingest.mapping import Items, read_mapping
from ingest.quarantine import quarantined
from ingest.retry import retry
from ingest.sources import growing
from ingest.sources.files import local_file
from ingest.sources.growing import START, Place, added
from ingest.sources.rows import open_source
from tests.ingest.follower import PSEUDONYMS, Follower

MAPPING = """\
platform: shop
items: {file: items*.jsonl, id: id, title: name}
events:
  file: events*.csv
  account: who
  item: item
  type: PURCHASED
  at: {column: at, format: seconds}
"""
HEAD = "who,item,at\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(MAPPING)
    (tmp_path / "items.jsonl").write_text('{"id": "1", "name": "Tent"}\n{"id": "2"}\n')
    (tmp_path / "events.csv").write_text(HEAD + "ann,1,10\nbob,2,20\n")
    return tmp_path


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def whole(data: Path) -> dict[str, str]:
    """The checksum of all files as they are now, read at once into a store of its own."""
    (data / "whole").mkdir(exist_ok=True)
    with open_store(f"sqlite:///{data / 'whole' / 'graph.db'}") as store:
        ingest([read_mapping(data / "shop.yaml")], store, PSEUDONYMS, data / "whole", data=data)
        return checksum(store)


def test_lines_and_files_that_are_added_are_read_alone(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    assert follower.look() == {"items.jsonl": (2, 2, 0, 0), "events.csv": (2, 2, 0, 0)}
    add(data / "events.csv", "ann,2,30\nann,1,10\nann,9,40\n")
    assert follower.look() == {"events.csv": (3, 1, 1, 1)}
    add(data / "events.csv", "ann,3,50\n")
    add(data / "items.jsonl", '{"id": "3"}\n')
    (data / "events-2.csv").write_text(HEAD + "cleo,3,60\n")
    assert follower.look() == {"items.jsonl": (1, 1, 0, 0), "events.csv": (1, 1, 0, 0), "events-2.csv": (1, 1, 0, 0)}
    follower.end()
    assert checksum(store) == whole(data)
    rows = quarantined(data / "var").to_pylist()
    assert [(row["file"], row["line"], row["rule"]) for row in rows] == [("events.csv", 6, "unknown-item")]


def test_a_restart_goes_on_where_it_was(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    follower.look()
    follower.end()
    add(data / "events.csv", "ann,2,30\n")
    follower = Follower(store, data)
    assert follower.look() == {"events.csv": (1, 1, 0, 0)}
    follower.end()
    assert checksum(store) == whole(data)


def test_another_store_and_another_mapping_read_everything(store: Store, data: Path) -> None:
    everything = {"items.jsonl": (2, 2, 0, 0), "events.csv": (2, 2, 0, 0)}
    follower = Follower(store, data)
    assert follower.look() == everything
    follower.end()
    with open_store(f"sqlite:///{data / 'another.db'}") as another:
        follower = Follower(another, data)
        assert follower.look() == everything
        follower.end()
    store.close()
    for path in data.glob("graph.db*"):
        path.unlink()
    with open_store(f"sqlite:///{data / 'graph.db'}") as new:
        follower = Follower(new, data)
        assert follower.look() == everything
        follower.end()
        (data / "shop.yaml").write_text(MAPPING.replace("PURCHASED", "VIEWED"))
        follower = Follower(new, data)
        assert follower.look()["events.csv"] == (2, 2, 0, 0)
        follower.end()


def test_a_line_that_is_half_written_waits_and_is_mentioned_at_the_end(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    follower.look()
    add(data / "events.csv", "ann,2,1700")
    (data / "events-2.csv").write_text("who,it")
    add(data / "items.jsonl", '{"id": "3"}\n')
    assert follower.look() == {"items.jsonl": (1, 1, 0, 0)}
    add(data / "events.csv", "000000\n")
    assert follower.look() == {"events.csv": (1, 1, 0, 0)}
    follower.end()
    assert {at.year for batch in store.read_events("PURCHASED") for at in batch["at"].to_pylist()} == {1970, 2023}
    assert follower.said == ["events-2.csv: the last 6 bytes are no whole line yet and were not read"]


def test_a_file_that_is_cut_short_or_replaced_is_read_from_its_beginning(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    follower.look()
    add(data / "events.csv", "ann,9,30\n")
    assert follower.look() == {"events.csv": (1, 0, 0, 1)}
    (data / "events.csv").write_text(HEAD + "bob,2,20\n")
    assert follower.look() == {"events.csv": (1, 0, 1, 0)}
    assert len(quarantined(data / "var")) == 0
    another = data / "another"
    another.write_text(HEAD + "dan,1,5\n" * 3)
    another.replace(data / "events.csv")
    assert follower.look() == {"events.csv": (3, 1, 2, 0)}
    follower.end()
    assert follower.said == ["events.csv was cut short or replaced: it is read from its beginning"] * 2


def test_a_catalogue_that_is_replaced_brings_new_titles_and_a_line_added_to_it_contradicts(
    store: Store, data: Path
) -> None:
    follower = Follower(store, data)
    follower.look()
    (data / "items.jsonl").write_text('{"id": "1", "name": "Hut"}\n')
    assert follower.look() == {"items.jsonl": (1, 0, 1, 0)}
    add(data / "items.jsonl", '{"id": "1", "name": "Yurt"}\n')
    assert follower.look() == {"items.jsonl": (1, 0, 0, 1)}
    follower.end()
    assert [item.title for item in store.items([ItemKey("shop", "1")])] == ["Hut"]


def test_parquet_and_packed_files_are_read_whole_once_they_rest(store: Store, data: Path) -> None:
    text = (
        MAPPING.replace("events*.csv", "events*.csv*")
        .replace("items*.jsonl", "items*.parquet")
        .replace("  type:", "  format: csv\n  type:")
    )
    (data / "shop.yaml").write_text(text)
    pq.write_table(pa.table({"id": ["1", "2"], "name": ["Tent", "Stove"]}), data / "items.parquet")
    packed = gzip.compress((HEAD + "cleo,1,70\n").encode())
    (data / "events-2.csv.gz").write_bytes(packed)
    follower = Follower(store, data)
    assert follower.look() == {
        "items.parquet": (2, 2, 0, 0),
        "events.csv": (2, 2, 0, 0),
        "events-2.csv.gz": (1, 1, 0, 0),
    }
    (data / "events-3.csv.gz").write_bytes(packed[:-9])
    add(data / "events.csv", "ann,2,30\n")
    assert follower.look() == {"events.csv": (1, 1, 0, 0)}
    while not follower.said:
        add(data / "events.csv", "ann,2,30\n")
        follower.look()
    assert "events-3.csv.gz breaks off after line" in follower.said[0]
    assert follower.said[0].endswith("; events-3.csv.gz is tried again when it has changed")
    (data / "events-3.csv.gz").write_bytes(gzip.compress((HEAD + "cleo,2,80\n").encode()))
    assert follower.look() == {"events-3.csv.gz": (1, 1, 0, 0)}
    follower.end()
    assert checksum(store) == whole(data)


def test_what_does_not_fit_ends_it_at_first_and_is_said_once_later(store: Store, data: Path) -> None:
    (data / "events-2.csv").write_text("who,what,at\nann,1,10\n")
    with pytest.raises(MappingError, match="names column 'item', events-2"):
        Follower(store, data).look()
    assert not store.counts().nodes
    (data / "events-2.csv").unlink()
    follower = Follower(store, data)
    follower.look()
    (data / "events-2.csv").write_text("who,what,at\nann,1,10\n")
    for at in (30, 40):
        add(data / "events.csv", f"ann,2,{at}\n")
        assert follower.look() == {"events.csv": (1, 1, 0, 0)}
    assert len(follower.said) == 1
    assert "names column 'item', events-2.csv has who, what, at" in follower.said[0]
    (data / "events-2.csv").write_text(HEAD + "ann,1,90\n")
    assert follower.look() == {"events-2.csv": (1, 1, 0, 0)}
    follower.end()


def test_a_row_in_quarantine_is_retried_though_the_file_has_grown(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    follower.look()
    add(data / "events.csv", "ann,3,30\nann,4,40\n")
    follower.look()
    add(data / "items.jsonl", '{"id": "3"}\n')
    add(data / "events.csv", "ann,1,50\n")
    follower.look()
    report = retry(store, PSEUDONYMS, data / "var")
    assert (report.tried.total.accepted, report.tried.total.rejected, report.left) == (1, 1, [])
    add(data / "items.jsonl", '{"id": "4"}\n')
    add(data / "events.csv", "ann,5,60\n")
    follower.look()
    report = retry(store, PSEUDONYMS, data / "var")
    assert (report.tried.total.accepted, report.tried.total.rejected, report.left) == (1, 1, [])
    follower.end()
    assert checksum(store) == whole(data)


def test_bad_rows_of_many_looks_become_one_part(store: Store, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.quarantine._MOST_PARTS", 3)
    follower = Follower(store, data)
    follower.look()
    for at in range(8):
        add(data / "events.csv", f"ann,x{at},30\n")
        follower.look()
    follower.end()
    assert quarantined(data / "var")["value"].to_pylist() == [f"shop:x{at}" for at in range(8)]
    assert len(list((data / "var" / "quarantine").glob("*/*.parquet"))) <= 4


def test_while_the_store_does_not_answer_it_is_tried_again(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(store, data)
    follower.look()
    upsert, failures = store.upsert_events, iter(range(2))

    def refuse(events: object) -> object:
        if next(failures, None) is not None:
            raise StoreUnavailableError("the store does not answer")
        return upsert(events)

    monkeypatch.setattr(store, "upsert_events", refuse)
    add(data / "events.csv", "ann,2,30\n")
    assert follower.look() == {"events.csv": (1, 1, 0, 0)}
    follower.end()
    assert follower.said == [f"the store does not answer; tried again in {0.001 * 2**n:g} s" for n in (1, 2)]
    assert checksum(store) == whole(data)


CELL = st.sampled_from(["a", "bc", "é", 'say ""so""', "two\nlines", "", " x ", "\r"])


@settings(max_examples=60)
@given(
    records=st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    header=st.sampled_from(["h,i\n", '"h\nh",i\n']),
)
def test_wherever_a_csv_file_was_cut_its_records_come_whole_and_once(
    tmp_path_factory: pytest.TempPathFactory, records: Sequence[Sequence[str]], cuts: Sequence[int], header: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.csv"
    text = (header + "".join(",".join(f'"{cell}"' for cell in record) + "\n" for record in records)).encode()
    section = Items(file="a.csv", id="h")
    path.write_bytes(text)
    with closing(open_source(local_file(path), section)) as source:
        expected = list(source.rows())
    place: Place = START
    found = []
    for cut in [*sorted(cuts), len(text)]:
        path.write_bytes(text[:cut])
        while step := added(local_file(path), section, place, min(cut, len(text))):
            file, place = step
            with closing(open_source(file, section)) as source:
                found += list(source.rows())
    assert found == expected
    assert place.offset == len(text)


def test_a_long_file_is_read_in_stretches_and_goes_on_in_the_middle(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "STRETCH", 100)
    monkeypatch.setattr(growing, "_CHUNK", 10)
    add(data / "events.csv", "".join(f"ann,{at % 2 + 1},{at}\n" for at in range(100, 200)) + "x" * 300 + "\nann,1,5\n")
    take, taken = following.added, iter(range(5))

    def killed(*arguments: object) -> object:
        if next(taken, None) is None:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(following, "added", killed)
    with pytest.raises(KeyboardInterrupt):
        Follower(store, data).look()
    monkeypatch.setattr(following, "added", take)
    follower = Follower(store, data)
    read, accepted, duplicates, rejected = follower.look()["events.csv"]
    assert 0 < read < 104
    assert (accepted + duplicates + rejected, rejected) == (read, 1)
    follower.end()
    assert checksum(store) == whole(data)
    assert quarantined(data / "var")["line"].to_pylist() == [104]


def test_no_name_and_no_row_is_in_the_file_of_places(store: Store, data: Path) -> None:
    follower = Follower(store, data)
    follower.look()
    follower.end()
    kept = (data / "var" / "follow.db").read_bytes()
    for raw in (b"ann", b"bob", b"events", b"items"):
        assert raw not in kept
