"""Delimited text: csv with quotes, tsv without; a header first; gzip or not."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.errors import SourceError
from ingest.sources.lines import Lines
from ingest.sources.rows import Malformed, Row


class DelimitedSource:
    """One csv or tsv file."""

    def __init__(self, path: Path, delimiter: str, *, quoted: bool, encoding: str) -> None:
        self._lines = Lines(path, encoding)
        self._encoding = encoding
        lines = iter(self._lines)
        self._reader = (
            csv.reader(lines, delimiter=delimiter)
            if quoted
            else csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        )
        try:
            self._columns = self._read_header(path, delimiter)
        except SourceError:
            self.close()
            raise

    @property
    def columns(self) -> Sequence[str]:
        return self._columns

    def rows(self) -> Iterator[Row]:
        reader, lines, width = self._reader, self._lines, len(self._columns)
        start = reader.line_num + 1
        while True:
            try:
                for values in reader:
                    if lines.undecodable:
                        lines.undecodable = False
                        yield (
                            start,
                            Malformed(
                                f"has bytes that are not {self._encoding}: convert the file or set encoding",
                                undecodable=True,
                            ),
                        )
                    elif len(values) == width:
                        yield start, values
                    elif values:
                        yield start, Malformed(f"has {len(values)} fields where the header has {width}")
                    start = reader.line_num + 1
                return
            except csv.Error as error:
                yield start, Malformed(f"is not csv ({error}): is a quote left open?")
                start = reader.line_num + 1

    def position(self) -> float:
        return self._lines.position()

    def close(self) -> None:
        self._lines.close()

    def _read_header(self, path: Path, delimiter: str) -> list[str]:
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise SourceError(f"{path} does not begin with a header: {error}") from None
        if self._lines.undecodable or any("\x00" in name for name in header):
            raise SourceError(
                f"{path} is not {self._encoding} text: convert it (iconv -t utf-8) or set encoding in the mapping"
            )
        if not any(name.strip() for name in header):
            raise SourceError(f"{path} does not begin with a header: its first line is blank")
        for other in ",;\t|":
            if len(header) == 1 and other != delimiter and other in header[0]:
                raise SourceError(
                    f"{path} has one column {header[0][:60]!r} when parted by {delimiter!r}: "
                    + ("set format: tsv" if other == "\t" else f"set format: csv and delimiter: {other!r}")
                )
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise SourceError(f"{path} has two columns {twice!r}: give each column a name of its own")
        return header
