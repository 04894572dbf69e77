"""Sources: every format gives the same rows; a bad row costs one row, a bad file one sentence."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from ingest.errors import SourceError
from ingest.mapping import Items
from ingest.sources.rows import LIST_SEPARATOR, Malformed, Row, open_source


def rows(path: Path, **options: str) -> list[Row]:
    source = open_source(path, Items.model_validate({"file": path.name, "id": "id", **options}))
    try:
        return list(source.rows())
    finally:
        source.close()


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(SourceError) as raised:
        rows(path, **options)
    return str(raised.value)


def test_csv_tsv_json_lines_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,title,year\n1,"Heat, again",1995\n2,,\n')
    (tmp_path / "a.tsv").write_text("id\ttitle\tyear\n1\tHeat, again\t1995\n2\t\t\n")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "title": "Heat, again", "year": 1995}\n\n{"id": "2", "title": null}\n')
    pl.DataFrame({"id": [1, 2], "title": ["Heat, again", None], "year": [1995, None]}).write_parquet(
        tmp_path / "a.parquet"
    )
    expected = [["1", "Heat, again", "1995"], ["2", "", ""]]
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet"):
        assert [values for _, values in rows(tmp_path / name)] == expected, name


def test_gzip_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "plain-name.csv").write_bytes(gzip.compress(b"id\n7\n"))
    assert rows(tmp_path / "plain-name.csv") == [(2, ["7"])]


def test_lists_are_joined_and_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "tags": ["x", "y"]}\n')
    assert rows(tmp_path / "a.jsonl") == [(1, ["1", f"x{LIST_SEPARATOR}y"])]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid\n1\n")
    source = open_source(tmp_path / "a.csv", Items(file="a.csv", id="id"))
    assert source.columns == ["id"]
    source.close()


def test_the_line_of_a_row_is_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,title\n1,"two\nlines"\n\n2,one\n')
    assert [line for line, _ in rows(tmp_path / "a.csv")] == [2, 5]


def test_one_bad_row_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,title\n1,fine\n2,caf\xe9\n3\n4,fine\n5,a,b\n")
    found = rows(tmp_path / "a.csv")
    assert [line for line, values in found if isinstance(values, Malformed)] == [3, 4, 6]
    assert [values for _, values in found if not isinstance(values, Malformed)] == [["1", "fine"], ["4", "fine"]]
    rules = [values.rule for _, values in found if isinstance(values, Malformed)]
    assert rules[0] == "has bytes that are not utf-8: convert the file or set encoding"
    assert rules[1] == "has 1 fields where the header has 2"
    assert rows(tmp_path / "a.csv", encoding="latin-1")[1] == (3, ["2", "café"])


def test_a_quote_left_open_costs_rows_until_csv_gives_up_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,title\n1,"open\n' + "2,x\n" * 40_000 + "3,end\n")
    found = rows(tmp_path / "a.csv")
    assert isinstance(found[0][1], Malformed)
    assert "is a quote left open?" in found[0][1].rule
    assert found[-1][1] == ["3", "end"]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("{oops", "is not JSON at character 2"),
        ("[1]", "is not a JSON object"),
        ('{"id": "\\ud800"}', "has half a surrogate pair, which is no text"),
        ("[" * 100_000, "is JSON nested too deep"),
    ],
)
def test_a_line_that_is_no_json_object_is_one_bad_row(tmp_path: Path, line: str, rule: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": "1"}}\n{line}\n{{"id": "2"}}\n')
    found = rows(tmp_path / "a.jsonl")
    assert [number for number, _ in found] == [1, 2, 3]
    assert isinstance(found[1][1], Malformed)
    assert rule in found[1][1].rule


def test_a_file_that_cannot_be_a_source_is_one_sentence_with_the_next_step(tmp_path: Path) -> None:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    assert "cannot be read: No such file" in refusal(tmp_path / "none.csv")
    assert "cannot be read: No such file" in refusal(tmp_path / "none.parquet")
    assert "is empty" in refusal(write("empty.csv", b""))
    assert "its first line is blank" in refusal(write("blank.csv", b"\n1\n"))
    assert "set format: csv and delimiter: ';'" in refusal(write("semicolon.csv", b"id;title\n1;x\n"))
    assert "set format: tsv" in refusal(write("tabs.csv", b"id\ttitle\n1\tx\n"))
    assert "has two columns 'id'" in refusal(write("twice.csv", b"id,id\n1,2\n"))
    assert "is not utf-8 text" in refusal(write("wide.csv", "id,title\n".encode("utf-16")))
    assert "ends in .gz but is not gzip" in refusal(write("fake.csv.gz", b"id\n1\n"))
    assert "is not JSON lines" in refusal(write("csv.jsonl", b"id,title\n1,x\n"))
    assert "is not parquet" in refusal(write("csv.parquet", b"id,title\n1,x\n"))
    assert "is empty" in refusal(write("empty.jsonl", b""))


def test_gzip_data_that_break_off_say_after_which_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"id\n" + b"".join(b"%d\n" % (n * 7919 % 100_003) for n in range(50_000)))
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    message = refusal(tmp_path / "cut.csv.gz")
    assert "breaks off after line" in message
    assert "repeat the run" in message
