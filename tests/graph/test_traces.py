"""Traces: a text is found wherever a file may hide it."""

import bz2
import gzip
import lzma
import sqlite3
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph.traces import CHUNK, search_files

DIGEST = "0123456789abcdef0123456789abcdef"
LINE = f"account:shop:{DIGEST}\n".encode()
MANY = [sha256(bytes([n, m])).hexdigest()[:32] for n in range(50) for m in range(50)]
PADDED = b"x" * 5000 + LINE + b"y" * 5000


def parquet(path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"n": list(range(len(column))), "column": column}), path, compression="zstd")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", PADDED)


def zstd(path: Path) -> None:
    with pa.output_stream(str(path), compression="zstd") as file:
        file.write(PADDED)


def database(path: Path) -> None:
    """A value in pieces, the last of 508 bytes: parted within the digest, so that the raw file has it nowhere."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE t (name TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", ["z" * 600 + DIGEST + "z" * 490])
    connection.close()
    assert DIGEST.encode() not in path.read_bytes()


def freed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE t (name TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(DIGEST + "z" * 600,)] * 100)
        connection.execute("DELETE FROM t")
    connection.close()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(PADDED),
        lambda path: path.write_bytes(b"x" * (CHUNK - 20) + LINE),
        lambda path: path.write_bytes(gzip.compress(PADDED)),
        lambda path: path.write_bytes(bz2.compress(PADDED)),
        lambda path: path.write_bytes(lzma.compress(PADDED)),
        zstd,
        zipped,
        lambda path: parquet(path, pa.array(["a", LINE.decode(), "b"])),
        lambda path: parquet(path, pa.array([["a"], ["b", DIGEST]])),
        lambda path: parquet(path, pa.array([{"key": DIGEST}, {"key": "x"}])),
        lambda path: parquet(path, pa.array([*MANY, DIGEST]).dictionary_encode()),
        database,
        freed,
    ],
    ids=lambda write: write.__name__.strip("<>"),
)
def test_a_text_is_found_in_every_kind_of_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "file")
    (found,) = search_files(tmp_path, {DIGEST, "f" * 32})
    assert found.hits == 1
    assert found.size == (tmp_path / "deep" / "file").stat().st_size
    (other,) = search_files(tmp_path, {"e" * 32})
    assert other.hits == 0


def test_a_files_name_counts_too(tmp_path: Path) -> None:
    (tmp_path / DIGEST).write_bytes(b"")
    assert [part.hits for part in search_files(tmp_path, [DIGEST])] == [1]
