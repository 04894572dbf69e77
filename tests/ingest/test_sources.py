"""Sources: every format gives the same rows; a bad row costs one row, a bad file one sentence."""

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from ingest.errors import SourceError
from ingest.mapping import Items
from ingest.sources.files import local_file
from ingest.sources.rows import LIST_SEPARATOR, Malformed, Row, open_source

SECTION = Items(file=("a",), format="jsonl", id="id")


def rows(path: Path, **options: Any) -> list[Row]:
    source = open_source(local_file(path), Items.model_validate({"file": path.name, "id": "id", **options}))
    try:
        return list(source.rows())
    finally:
        source.close()


def fields(path: Path, **options: Any) -> list[list[str] | str]:
    """The rows without their lines, a malformed one as its rule."""
    return [values.rule if isinstance(values, Malformed) else values for _, values in rows(path, **options)]


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return bytes(sink.getvalue())


def refusal(path: Path, **options: Any) -> str:
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


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lambda data: zstd(data[:4]) + zstd(data[4:])])
def test_what_is_packed_is_recognised_by_its_bytes(tmp_path: Path, pack: Any) -> None:
    for name, data in (("a.csv", b"id\n7\n"), ("a.jsonl", b'{"id": 7}\n'), ("a.xml", b"<all><row id='7'/></all>")):
        (tmp_path / name).write_bytes(pack(data))
        assert fields(tmp_path / name) == [["7"]], name


def test_lists_are_joined_and_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "tags": ["x", "y"]}\n')
    assert rows(tmp_path / "a.jsonl") == [(1, ["1", f"x{LIST_SEPARATOR}y"])]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid\n1\n")
    source = open_source(local_file(tmp_path / "a.csv"), Items(file="a.csv", id="id"))
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
    assert "ends in .zst but is not zstd" in refusal(write("fake.csv.zst", b"id\n1\n"))
    assert "set format: tsv and delimiter: '::'" in refusal(write("colons.csv", b"id::title\n1::x\n"))
    assert "is not Python literals" in refusal(write("csv.txt", b"id,title\n"), format="literals")
    assert "column 'title' without a type of RecBole's" in refusal(write("a.item", b"id:token\ttitle\n1\tx\n"))
    assert "has no rows" in refusal(write("none.xml", b"<all></all>"))
    assert "has no rows" in refusal(write("texts.xml", b"<all><row>1</row></all>"))
    assert "is not JSON lines" in refusal(write("csv.jsonl", b"id,title\n1,x\n"))
    assert "is not parquet" in refusal(write("csv.parquet", b"id,title\n1,x\n"))
    assert "is empty" in refusal(write("empty.jsonl", b""))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_packed_data_that_break_off_say_after_which_line(tmp_path: Path, pack: Any) -> None:
    whole = pack(b"id\n" + b"".join(b"%d\n" % (n * 7919 % 100_003) for n in range(50_000)))
    (tmp_path / "cut.csv").write_bytes(whole[: len(whole) // 2])
    message = refusal(tmp_path / "cut.csv")
    assert "breaks off after line" in message
    assert "repeat the run" in message


def test_a_file_without_a_header_has_the_columns_that_the_mapping_names(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_bytes(
        "1::Les Misérables (1995)::Drama|Musical\n2::One\n3::a::b\n".encode("latin-1")
    )
    options = {"format": "tsv", "delimiter": "::", "encoding": "latin-1", "columns": ["id", "title", "genres"]}
    assert rows(tmp_path / "movies.dat", **options) == [
        (1, ["1", "Les Misérables (1995)", "Drama|Musical"]),
        (2, Malformed("has 2 fields where the mapping names 3")),
        (3, ["3", "a", "b"]),
    ]


def test_where_chooses_rows_and_bad_rows_stay_to_be_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,kind\n1,a\n2,b\n3\n4,c\n")
    assert fields(tmp_path / "a.csv", where={"kind": ["a", "c"]}) == [
        ["1", "a"],
        "has 1 fields where the header has 2",
        ["4", "c"],
    ]
    assert len(fields(tmp_path / "a.csv", where={"kind": "b"})) == 2


def test_an_atomic_file_of_recbole_loses_its_types_and_keeps_its_lists(tmp_path: Path) -> None:
    (tmp_path / "a.item").write_text("id:token\ttitle:token_seq\tyear:float\n1\tToy Story\t1995\n2\tHeat\n")
    source = open_source(local_file(tmp_path / "a.item"), Items(file=("a.item",), id="id"))
    assert source.columns == ["id", "title", "year"]
    source.close()
    assert fields(tmp_path / "a.item") == [
        ["1", f"Toy{LIST_SEPARATOR}Story", "1995"],
        "has 2 fields where the header has 3",
    ]


def test_python_literals_are_read_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(
        "{'id': '1', 'title': \"It's\", 'tags': [['a', 'b'], ['c']], 'price': 1.5}\n"
        "{'id': __import__('os').getcwd()}\n"
        "[1]\n" + "[" * 5000 + "\n"  # deeper than Python's parser goes
    )
    assert fields(tmp_path / "meta.json", format="literals") == [
        ["1", "It's", f"a{LIST_SEPARATOR}b{LIST_SEPARATOR}c", "1.5"],
        "is not a Python literal",
        'is not a dictionary such as {"id": 1}',
        "is not a Python literal",
    ]


def test_rows_of_xml_are_the_attributes_of_the_roots_children(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'
        '  <row id="1" Title="A &lt;b&gt; &amp; &#233;" />\n'
        '  <row id="2"\n       Tags="x"><inner id="no row"/></row>\n</posts>\n'
    )
    assert rows(tmp_path / "Posts.xml") == [(3, ["1", "A <b> & é", ""]), (4, ["2", "", "x"])]


def test_broken_xml_is_one_sentence_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<all>\n<row id="1"/>\n<row id="2"></oops>\n')
    with pytest.raises(SourceError, match=r"a\.xml breaks off after line 3: .* mismatched tag"):
        rows(tmp_path / "a.xml")


def test_xml_that_declares_entities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY x "xxxx">]>\n<a><row id="&x;"/></a>\n')
    assert "line 1 has a DOCTYPE" in refusal(tmp_path / "a.xml")


def test_objects_in_json_have_columns_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "user": {"id": "u", "at": {"city": "Y"}}}\n{"id": 2, "user": null}\n')
    source = open_source(local_file(tmp_path / "a.jsonl"), SECTION, {"id", "user.id", "user.at.city"})
    assert source.columns == ["id", "user.id", "user.at.city"]
    assert [values for _, values in source.rows()] == [["1", "u", "Y"], ["2", "", ""]]
    source.close()


def test_a_key_that_comes_late_is_known_when_the_mapping_declares_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' * 1000 + '{"id": 2, "late": "x"}\n')
    assert fields(tmp_path / "a.jsonl")[-1] == ["2"]
    assert fields(tmp_path / "a.jsonl", columns=["late"])[-1] == ["2", "x"]


def test_parquet_reads_the_wanted_columns_alone(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1], "id": [2], "b": [3]}).write_parquet(tmp_path / "a.parquet", compression="zstd")
    source = open_source(local_file(tmp_path / "a.parquet"), Items(file=("a.parquet",), id="id"), {"b", "id"})
    assert (source.columns, list(source.rows())) == (["id", "b"], [(1, ["2", "3"])])
    source.close()


def test_a_line_without_end_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sources.lines.LONGEST", 16)
    (tmp_path / "a.csv").write_text("id\n1\n" + "x" * 100 + "\n" + "y" * 15 + "\n2\n")
    assert fields(tmp_path / "a.csv") == [
        ["1"],
        "is longer than 16 bytes: is it a line of this format?",
        ["y" * 15],
        ["2"],
    ]
