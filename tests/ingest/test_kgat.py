"""KGAT's adjacency text: through mapping, store and snapshot, a split by time is the split of the files again."""

import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from graph.interactions import Interactions
from graph.keys import Pseudonyms
from graph.snapshot import write_snapshot
from graph.split import Split, temporal
from graph.store import open_store
from ingest.errors import SourceError
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.report import IngestReport
from ingest.sources.kgat import TESTED, VALIDATED, write_events

MAPPING = Path(__file__).parents[2] / "ingest" / "mappings" / "amazon-book.yaml"

TRAIN = {0: range(40), 1: [3, 4, 5], 2: [6], 3: [7, 8], 5: []}
TEST = {0: [50, 51], 1: [9], 2: [3, 4], 3: [], 4: [60]}
"""Person 3 has nothing in test, 4 nothing in training, 5 nothing at all; 50, 51 and 60 are in test alone."""


def write_lines(folder: Path, name: str, lines: Mapping[int, Sequence[int]]) -> None:
    text = "".join(" ".join(map(str, (person, *items))) + "\n" for person, items in lines.items())
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    write_lines(folder, "train.txt.gz", TRAIN)
    write_lines(folder, "test.txt", TEST)
    return folder


def ingested(folder: Path, tmp_path: Path) -> tuple[IngestReport, Split]:
    with open_store(f"sqlite:///{tmp_path / 'graph.db'}") as store:
        report = ingest([read_mapping(MAPPING)], store, Pseudonyms(bytes(16)), tmp_path, data=folder)
        whole = write_snapshot(store, tmp_path / "snapshots").interactions()
    return report, temporal(whole, *(datetime(*day.timetuple()[:3], tzinfo=UTC) for day in (VALIDATED, TESTED)))


def items_of(*parts: Interactions) -> list[list[int]]:
    """What each person had, people in no order: accounts are pseudonyms. The item's key ends in its number."""
    found: dict[int, list[int]] = {}
    for part in parts:
        for user, item in zip(part.user.tolist(), part.item.tolist(), strict=True):
            found.setdefault(user, []).append(int(part.items.keys[item].rpartition(":")[2]))
    return sorted(sorted(items) for items in found.values())


def test_a_split_by_time_is_that_of_the_files(source: Path, tmp_path: Path) -> None:
    report, split = ingested(write_events(source, tmp_path / "made"), tmp_path)
    assert (report.total.rejected, report.total.duplicates) == (0, 0)
    assert items_of(split.train, split.validation) == sorted(list(items) for items in TRAIN.values() if items)
    assert items_of(split.test) == sorted(list(items) for items in TEST.values() if items)
    assert len(split.train.items) == 43


def test_a_tenth_of_each_persons_training_is_validation_and_one_of_a_few_and_none_of_one(
    source: Path, tmp_path: Path
) -> None:
    _, split = ingested(write_events(source, tmp_path / "made"), tmp_path)
    assert sorted(map(len, items_of(split.validation))) == [1, 1, 4]
    assert sorted(map(len, items_of(split.train))) == [1, 1, 2, 36]


def test_the_draw_is_the_seeds_alone(source: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_events(source, tmp_path / name, seed=seed)
    events, again, others = ((tmp_path / name / "events.csv.gz").read_bytes() for name in "abc")
    assert events == again != others
    held = [line for line in gzip.decompress(others).decode().splitlines() if str(VALIDATED) in line]
    assert len(held) == 6


def test_a_pair_counts_once_and_what_is_in_both_files_is_training(tmp_path: Path) -> None:
    write_lines(tmp_path, "train.txt", {0: [1, 1, 1]})
    (tmp_path / "test.txt").write_text("0 1 2 2\n0 2 3\n\n")
    _, events = (
        gzip.decompress((write_events(tmp_path, tmp_path / "made") / name).read_bytes()).decode().splitlines()
        for name in ("items.csv.gz", "events.csv.gz")
    )
    assert events == ["account,item,at", f"0,1,{date(2000, 1, 1)}", f"0,2,{TESTED}", f"0,3,{TESTED}"]


def test_what_cannot_be_read_is_one_sentence(source: Path, tmp_path: Path) -> None:
    (source / "test.txt").write_text("0 1\n1 x2\n")
    with pytest.raises(SourceError, match=r"test\.txt line 2 is not numbers"):
        write_events(source, tmp_path / "made")
    (source / "test.txt").unlink()
    with pytest.raises(SourceError, match=r"test\.txt is not there, nor test\.txt\.gz"):
        write_events(source, tmp_path / "made")
    assert not (tmp_path / "made").exists()
