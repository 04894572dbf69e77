"""Files of exports: many of them, behind any URL, and no secret of a URL in any message."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import pytest

from graph.keys import Pseudonyms
from graph.store import open_store
from ingest.errors import IngestError, MappingError, SourceError, redacted
from ingest.load import ingest
from ingest.mapping import read_mapping
from ingest.quarantine import quarantined
from ingest.report import IngestReport
from ingest.sources.files import find

SHOP = """\
platform: shop
items: {file: ITEMS, id: item}
events: {file: EVENTS, account: account, item: item, type: VIEWED, at: {column: at, format: seconds}}
"""
FILES = {
    "items.csv": "item\n1\n2\n",
    "2024/a.csv": "account,item,at\nann,1,10\n",
    "2024/b.csv": "account,item,at\nann,2,20\n",
    "2025/a.csv": "account,item,at\nbob,1,30\n",
}


@pytest.fixture
def bucket() -> Iterator[str]:
    """The same files in memory, behind a URL."""
    memory = fsspec.filesystem("memory")
    for name, text in FILES.items():
        memory.pipe(f"/bucket/{name}", text.encode())
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def run(folder: Path, data: Path | str, items: str = "items.csv", events: str = "2024/a.csv") -> IngestReport:
    path = folder / "shop.yaml"
    quoted = [place if place.startswith("[") else repr(place) for place in (items, events)]
    path.write_text(SHOP.replace("ITEMS", quoted[0]).replace("EVENTS", quoted[1]))
    with open_store(f"sqlite:///{folder / 'graph.db'}") as store:
        return ingest([read_mapping(path)], store, Pseudonyms(bytes(16)), folder / "var", data=data)


def accepted(report: IngestReport) -> Mapping[str, int]:
    return {file.file: file.accepted for file in report.files if file.section == "events"}


@pytest.mark.parametrize(
    ("events", "names"),
    [
        ("2024/*.csv", ["2024/a.csv", "2024/b.csv"]),
        ("20??/a.csv", ["2024/a.csv", "2025/a.csv"]),
        ("**/[ab].csv", ["2024/a.csv", "2024/b.csv", "2025/a.csv"]),
        ("['2025/a.csv', '2024/*.csv', '*/a.csv']", ["2025/a.csv", "2024/a.csv", "2024/b.csv"]),
    ],
)
def test_a_section_reads_many_files_each_once(tmp_path: Path, data: Path, events: str, names: list[str]) -> None:
    assert accepted(run(tmp_path, data, events=events)) == dict.fromkeys(names, 1)


def test_files_behind_urls_are_read_like_those_of_this_machine(tmp_path: Path, data: Path, bucket: str) -> None:
    report = run(
        tmp_path, data, items=f"{bucket}/items.csv", events=f"['{bucket}/20*/*.csv', 'file://{data}/2024/a.csv']"
    )
    assert accepted(report) == {
        "memory:///bucket/2024/a.csv": 1,
        "memory:///bucket/2024/b.csv": 1,
        "memory:///bucket/2025/a.csv": 1,
        f"file://{data}/2024/a.csv": 0,
    }
    assert report.total.duplicates == 1


def test_the_data_directory_may_be_a_url(tmp_path: Path, bucket: str) -> None:
    assert accepted(run(tmp_path, f"{bucket}/", events="2024/*.csv")) == {
        "memory:///bucket/2024/a.csv": 1,
        "memory:///bucket/2024/b.csv": 1,
    }


def test_a_chain_of_urls_reaches_into_an_archive(tmp_path: Path, data: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(data / "items.csv", "shop/items.csv")
    report = run(tmp_path, data, items=f"zip://shop/items.csv::file://{tmp_path}/export.zip")
    assert report.files[0].accepted == 2


def test_a_file_that_is_not_there_is_one_sentence_with_the_next_step(tmp_path: Path, data: Path, bucket: str) -> None:
    with pytest.raises(
        MappingError, match=r"line 3: events\.file names memory://bucket/none\.csv, and no file is there"
    ):
        run(tmp_path, data, events=f"{bucket}/none.csv")
    with pytest.raises(MappingError, match=r"names 2023/\*\.csv in memory://bucket, and no file is there"):
        run(tmp_path, bucket, events="2023/*.csv")
    (data / "log.csv").mkdir()
    with pytest.raises(MappingError, match=r"it is a folder, name its files, such as log\.csv/\*"):
        run(tmp_path, data, events="log.csv")
    with pytest.raises(SourceError, match="Protocol not known: klingon"):
        run(tmp_path, data, events="klingon://bucket/a.csv")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ann:geheim@127.0.0.1:1/a.csv",
        "ftp://ann:ge@heim@127.0.0.1:1/*.csv",
        "memory://ann:geheim@bucket/none.csv",
        "memory://bucket/none.csv?X-Signature=geheim",
        "klingon://geheim@bucket/a.csv",
        "zip://a.csv::ftp://ann:geheim@127.0.0.1:1/a.zip",
        "s3://ann:geheim@bucket/a.klingon",
        "['s3://ann:geheim@bucket/a.csv', 'b.tsv']",
    ],
)
def test_no_message_holds_a_secret_of_a_url(tmp_path: Path, data: Path, url: str) -> None:
    with pytest.raises(IngestError) as raised:
        run(tmp_path, data, events=url)
    assert "heim" not in str(raised.value)
    assert "…" in str(raised.value)


def test_reports_and_quarantine_show_urls_without_secrets(tmp_path: Path, data: Path) -> None:
    fsspec.filesystem("memory").pipe("/ann:geheim@bucket/a.csv", b"account,item,at\nann,9,10\n")
    report = run(tmp_path, data, events="memory://ann:geheim@bucket/a.csv")
    assert accepted(report) == {"memory://…@bucket/a.csv": 0}
    [row] = quarantined(tmp_path / "var").to_pylist()
    assert row["file"] == "memory://…@bucket/a.csv"
    assert "geheim" not in str(row) + str(report)
    fsspec.filesystem("memory").rm("/ann:geheim@bucket", recursive=True)


def test_a_file_does_not_show_its_secret(bucket: str) -> None:
    [file] = find(f"{bucket}/items.csv", ".")
    assert (str(file), file.size) == ("memory://bucket/items.csv", len(FILES["items.csv"]))
    assert "path=" not in repr(file)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/a@b.csv is not there", "s3://…@bucket/a@b.csv is not there"),
        ("https://host/a.csv?sig=x&t=y cannot be read", "https://host/a.csv?… cannot be read"),
        ("url='https://host/a.csv?sig=x', 403", "url='https://host/a.csv?…', 403"),
        ("zip://*.csv::sftp://a:b@host/x.zip", "zip://*.csv::sftp://…@host/x.zip"),
        ("memory://bucket/a?.csv and ann@example.org", "memory://bucket/a?.csv and ann@example.org"),
    ],
)
def test_users_and_queries_are_taken_out_of_urls_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
