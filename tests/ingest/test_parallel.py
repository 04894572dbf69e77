"""Big exports in blocks: what Ray parses is what this process would have read, in the same order."""

import gzip
import json
import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from graph.keys import Pseudonyms
from graph.store import checksum, open_store
from ingest.errors import IngestError, SourceError
from ingest.load import ingest
from ingest.mapping import Mapping, read_mapping
from ingest.parallel import _Arriving, blocks_of, parsed_by_ray
from ingest.plan import opened, plan
from ingest.quarantine import quarantined

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]

SECRET = b"that these are pseudonyms of"
PSEUDONYMS = Pseudonyms(SECRET)
SHOP = """\
platform: shop
items: {file: items.csv, id: item, title: title}
identities: {file: people.csv, person: person, account: account}
events:
"""
EVENTS = (
    "  - {file: %s, account: account, item: item, type: PURCHASED, at: {column: at, format: seconds}, value: stars}\n"
)
ROWS = [
    {"account": f"person-{n % 7}", "item": str(n % 5), "at": str(1_000_000 + n), "stars": str(n % 3)} for n in range(60)
]
ROWS[7] |= {"stars": "mail person-0 at ann@example.org"}  # the value is shown without the account and the address
ROWS[20] |= {"item": "99"}
ROWS[33] |= {"at": ROWS[32]["at"], "account": ROWS[32]["account"], "item": ROWS[32]["item"], "stars": "2.5"}
ROWS[41] |= {"account": ""}
ROWS[50] = ROWS[10]
ROWS[51] |= {"item": "12345", "account": "2345"}  # an item whose id holds the account's


def as_csv(rows: Sequence[dict[str, str]]) -> str:
    lines = [",".join(f'"{value}"' if "@" in value else value for value in row.values()) for row in rows]
    lines.insert(13, '"two\nlines",1,77,1')
    lines.insert(30, "too,few")
    lines.insert(45, "")
    return "\n".join([",".join(ROWS[0]), *lines])  # the last line has no end


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{n},Thing {n}\n" for n in range(5)))
    (tmp_path / "people.csv").write_text("person,account\nann,person-1\nann,person-2\nben,person-1\n")
    (tmp_path / "events.csv").write_text(as_csv(ROWS))
    (tmp_path / "events.csv.gz").write_bytes(gzip.compress(as_csv(ROWS).encode()))
    lines = [json.dumps(row) for row in ROWS]
    lines[30:30] = ["no json"] * 8  # a block of nothing else
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "events.parquet", row_group_size=17)
    return tmp_path


def on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any export for a big one, and any machine for one with cores enough."""
    monkeypatch.setattr("ingest.parallel.WORTH", 0)
    monkeypatch.setattr("ingest.parallel.CORES", 1)


class Deadly(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of this machine, where the fourth that is opened by another process than this one ends it."""

    def __init__(self, opened: str, spared: int) -> None:
        super().__init__(skip_instance_cache=True, opened=opened, spared=spared)
        self.opened, self.spared = opened, spared

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if os.getpid() != self.spared:
            with open(self.opened, "ab", buffering=0) as file:
                file.write(b".")
                if file.tell() == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().open(path, mode, **options)


def describe(data: Path, *files: str) -> Mapping:
    (data / "shop.yaml").write_text(SHOP + "".join(EVENTS % file for file in files))
    return read_mapping(data / "shop.yaml")


def read(data: Path, name: str, *files: str) -> dict[str, Any]:
    mapping = describe(data, *files)
    with open_store(f"sqlite:///{data / name}.db") as store:
        report = ingest([mapping], store, PSEUDONYMS, data / name, data=data)
        bad = quarantined(data / name).drop_columns(["rejected_at", "file_state"]).to_pylist()
        counts = [(f.file, f.read, f.accepted, f.duplicates, f.rejected, f.missing) for f in report.files]
        return {"sums": checksum(store), "counts": counts, "bad": bad, "broken": report.broken}


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl", "events.parquet", "events.csv.gz"])
def test_blocks_are_the_file_row_by_row_with_its_lines(data: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("ingest.sources.growing.STRETCH", 100)
    monkeypatch.setattr("ingest.sources.growing._CHUNK", 70)
    [part] = plan([describe(data, name)], data)[2:]
    blocks = list(blocks_of(part))
    assert (len(blocks) == 1) == name.endswith(".gz")

    def rows(of: Any) -> list[Any]:
        source = opened(of)
        at = [list(source.columns).index(column) for column in ROWS[0]]
        found = [(line, [v[i] for i in at] if isinstance(v, list) else v) for line, v in source.rows()]
        source.close()
        return found

    assert [row for block in blocks for row in rows(block)] == rows(part)


@pytest.mark.usefixtures("ray_local")
def test_what_ray_parses_is_what_one_process_reads(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = "events.csv", "events.jsonl", "events.parquet", "events.csv.gz"
    alone = read(data, "alone", *files)
    on_ray(monkeypatch)
    monkeypatch.setattr("ingest.sources.growing.STRETCH", 400)
    monkeypatch.setattr("ingest.sources.growing._CHUNK", 400)
    assert read(data, "blocks", *files) == alone
    kept = {file: file.read_bytes() for file in Path(os.environ["RAY_TMPDIR"]).rglob("*") if file.is_file()}
    assert any(file.name == "gcs_server.out" for file in kept)
    held = [
        file for file, said in kept.items() if SECRET in said or SECRET.hex().encode() in said or b"person-" in said
    ]
    assert held == [], "neither the secret nor a raw id is in Ray's files"
    assert [row["value"] for row in alone["bad"] if row["file"] == "events.csv"] == [
        "mail ‹id› at ‹mail›",
        "shop:99",
        "",
        "2.5",
        "",
        "shop:1‹id›",
    ]


@pytest.mark.parametrize(("cores", "size"), [(3, 1 << 30), (64, 1 << 20)])
def test_few_cores_or_small_exports_start_no_ray(
    data: Path, monkeypatch: pytest.MonkeyPatch, cores: int, size: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("ingest.parallel.ray_cluster", None)
    parts = [replace(part, file=replace(part.file, size=size)) for part in plan([describe(data, "events.csv")], data)]
    with parsed_by_ray(parts, PSEUDONYMS, datetime.now(UTC), None) as parsed:
        assert parsed == {}


@pytest.mark.usefixtures("ray_local")
def test_a_file_that_breaks_off_is_one_sentence_and_what_came_before_stays(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.random.default_rng(0).integers(10**9, size=60_000).astype(str)
    packed = gzip.compress(("account,item,at,stars\n" + "\n".join(f"a{n},1,{n},1" for n in numbers)).encode())
    (data / "events.csv.gz").write_bytes(packed[: len(packed) - 1000])
    on_ray(monkeypatch)
    with pytest.raises(SourceError, match=r"events\.csv\.gz breaks off after line .*: its data are damaged"):
        read(data, "broken", "events.csv", "events.csv.gz")
    with open_store(f"sqlite:///{data / 'broken'}.db") as store:
        assert store.counts().edges["PURCHASED"] > 50


@pytest.mark.usefixtures("ray_local")
def test_an_actor_that_dies_loses_no_row_and_doubles_none(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = "events.csv", "events.jsonl"
    alone = read(data, "alone", *files)
    opened = data / "opened"
    on_ray(monkeypatch)
    monkeypatch.setattr("ingest.sources.growing.STRETCH", 200)
    monkeypatch.setattr("ingest.sources.growing._CHUNK", 200)
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem", lambda: Deadly(str(opened), os.getpid()))
    assert read(data, "blocks", *files) == alone
    assert opened.stat().st_size > 4


@pytest.mark.parametrize("came", [[(0, 1)], [(1, 0)], []])
def test_a_batch_that_does_not_come_in_its_place_is_refused(came: list[tuple[int, int]]) -> None:
    arriving = _Arriving((*place, pickle.dumps(None)) for place in came)
    with pytest.raises(IngestError, match=r"not batch 0 of block 0: a fault"):
        list(arriving.of(0))
