"""What check says of a mapping: the counts of the first rows, a few records, and nothing written."""

from pathlib import Path

import pytest

from ingest.check import check
from ingest.errors import MappingError
from ingest.mapping import Mapping, read_mapping

SHOP = """\
platform: shop
items: {file: items.csv, id: item, title: title}
events: {file: events.csv, account: account, item: item, type: VIEWED, at: {column: at, format: seconds}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Mapping:
    """Twenty items and ten events: one is told twice, one is of no item, one has no time, the last ones come late."""
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{n},Title {n}\n" for n in range(20)))
    rows = ["ann,1,10", "ann,1,10", "ann,2,20", "bob,99,30", "bob,3,x", *(f"bob,{n},{n}" for n in range(15, 20))]
    (tmp_path / "events.csv").write_text("account,item,at\n" + "\n".join(rows) + "\n")
    (tmp_path / "shop.yaml").write_text(SHOP)
    return read_mapping(tmp_path / "shop.yaml")


def test_counts_and_rules_are_those_of_a_real_run(tmp_path: Path, shop: Mapping) -> None:
    report = check([shop], tmp_path)
    assert [(f.section, f.read, f.accepted, f.duplicates, f.rejected) for f in report.run.files] == [
        ("items", 20, 20, 0, 0),
        ("events", 10, 7, 1, 2),
    ]
    text = str(report)
    assert "is no instant when read as seconds since 1970" in text
    assert "that no items file of this run or an earlier one names" in text
    assert "Looked at all rows, and wrote nothing." in text


def test_items_beyond_the_rows_that_are_looked_at_are_taken_to_exist(tmp_path: Path, shop: Mapping) -> None:
    report = check([shop], tmp_path, rows=5)
    assert [(f.section, f.read, f.accepted, f.duplicates, f.rejected) for f in report.run.files] == [
        ("items", 5, 5, 0, 0),
        ("events", 5, 3, 1, 1),
    ]
    assert "Looked at the first 5 rows of each file, and wrote nothing." in str(report)


def test_events_of_a_catalogue_that_was_read_before_are_taken(tmp_path: Path, shop: Mapping) -> None:
    (tmp_path / "later.yaml").write_text("\n".join(line for line in SHOP.splitlines() if "items:" not in line))
    report = check([read_mapping(tmp_path / "later.yaml")], tmp_path)
    assert (report.run.total.accepted, report.run.total.rejected) == (8, 1)


def test_a_few_records_are_shown_as_the_graph_would_hold_them(tmp_path: Path, shop: Mapping) -> None:
    records = check([shop], tmp_path, rows=5).records
    assert len([record for record in records if "(:Item" in record]) == 2
    assert '  (:Item {"key":"shop:0","title":"Title 0"})' in records
    [viewed, _] = [record for record in records if ":VIEWED" in record]
    assert viewed.startswith("  (account:shop:")
    assert "ann" not in "".join(records)


def test_nothing_is_written_anywhere(tmp_path: Path, shop: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    before = sorted(tmp_path.rglob("*"))
    report = check([shop], tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert "scratch" not in str(report)


def test_a_file_of_which_no_row_is_taken_is_unfit(tmp_path: Path, shop: Mapping) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP.replace("format: seconds", "format: iso"))
    assert check([read_mapping(tmp_path / "shop.yaml")], tmp_path).unfit == ["events.csv"]


def test_a_column_that_is_not_there_is_an_error_as_in_ingest(tmp_path: Path, shop: Mapping) -> None:
    (tmp_path / "shop.yaml").write_text(SHOP.replace("title: title", "title: name"))
    with pytest.raises(MappingError, match=r"names column 'name', items\.csv has item, title"):
        check([read_mapping(tmp_path / "shop.yaml")], tmp_path)
