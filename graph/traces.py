"""Traces: which files still hold some texts, inside compressed, columnar and database files too."""

import bz2
import gzip
import lzma
import sqlite3
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from graph.store import Searched

CHUNK: Final = 1 << 20


def search_files(folder: Path, texts: Collection[str]) -> Iterator[Searched]:
    """Look for texts in every file below a folder, and in its name; a hit is one of the texts.

    Each file is read as it is, which in a database includes pages that are free, and once more as what it is: Parquet,
    gzip, zstd, bzip2, xz, zip (PyTorch's checkpoints are) and SQLite.
    """
    wanted = [text.encode() for text in texts]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            found = {text for text in wanted if text in bytes(path)}
            for chunk in _contents(path, texts):
                found |= {text for text in wanted if text in chunk}
            yield Searched(str(path), size, len(found))


def search_tables(connection: sqlite3.Connection, texts: Collection[str]) -> list[Searched]:
    """Look for texts in every column of every table; a hit is a row."""
    found = []
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
        name = '"' + table.replace('"', '""') + '"'
        columns = [row[1].replace('"', '""') for row in connection.execute(f"PRAGMA table_info({name})")]
        match = " OR ".join(f'instr("{column}", ?{n})' for n in range(1, len(texts) + 1) for column in columns)
        query = f"SELECT count(*), coalesce(sum({match or 0}), 0) FROM {name}"  # noqa: S608
        found.append(Searched(table, *connection.execute(query, list(texts)).fetchone()))
    return found


def _contents(path: Path, texts: Collection[str]) -> Iterator[bytes]:
    """The bytes of a file, and those of what it holds; each chunk begins with the end of the one before."""
    with path.open("rb") as file:
        begin = file.read(16)
        file.seek(0)
        yield from _chunks(file, texts)
    for magic, unpack in _UNPACK.items():
        if begin.startswith(magic):
            yield from unpack(path, texts)


def _chunks(file: IO[bytes], texts: Collection[str]) -> Iterator[bytes]:
    overlap = max((len(text.encode()) for text in texts), default=1) - 1
    kept = b""
    while chunk := file.read(CHUNK):
        yield kept + chunk
        kept = (kept + chunk)[-overlap:] if overlap else b""


def _opened(opener: Callable[[Path], Any]) -> Callable[[Path, Collection[str]], Iterator[bytes]]:
    def unpack(path: Path, texts: Collection[str]) -> Iterator[bytes]:
        with opener(path) as file:
            yield from _chunks(file, texts)

    return unpack


def _zip(path: Path, texts: Collection[str]) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name.encode()
            with archive.open(name) as member:
                yield from _chunks(member, texts)


def _parquet(path: Path, texts: Collection[str]) -> Iterator[bytes]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for column in batch.columns:
                yield from (bytes(buffer) for buffer in _buffers(column))


def _buffers(column: pa.Array) -> Iterable[pa.Buffer]:
    whole = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
    return [buffer for buffer in whole.buffers() if buffer is not None]


def _sqlite(path: Path, texts: Collection[str]) -> Iterator[bytes]:
    """Texts that the pages of a database keep in pieces."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        for text in texts:
            if any(part.hits for part in search_tables(connection, [text])):
                yield text.encode()


_UNPACK: Final[dict[bytes, Callable[[Path, Collection[str]], Iterator[bytes]]]] = {
    b"\x1f\x8b": _opened(gzip.open),
    b"BZh": _opened(bz2.open),
    b"\xfd7zXZ\0": _opened(lzma.open),
    b"\x28\xb5\x2f\xfd": _opened(lambda path: pa.input_stream(str(path), compression="zstd")),
    b"PK\x03\x04": _zip,
    b"PAR1": _parquet,
    b"SQLite format 3\0": _sqlite,
}
