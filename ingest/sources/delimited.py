"""Delimited text: csv with quotes, tsv without; names of the fields in a header or in the mapping.

RecBole's atomic files are tsv whose header says the type of each column (`item_id:token`, `genre:token_seq`): names
are those before the colon, and a sequence becomes a list.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import Final

from ingest.errors import SourceError
from ingest.sources.files import ExportFile
from ingest.sources.lines import Lines
from ingest.sources.rows import LIST_SEPARATOR, Malformed, Row

_ONE_CHARACTER: Final = "\x1e"
"""What a delimiter of several characters becomes, since `csv` takes one: a control character made to part records."""

RECBOLE_TYPES: Final = frozenset({"token", "token_seq", "float", "float_seq"})


class DelimitedSource:
    """One csv or tsv file.

    Args:
        quoted: whether fields may be in double quotes; only with a delimiter of one character.
        columns: the names of the fields, where the file has no header.
    """

    def __init__(
        self, file: ExportFile, delimiter: str, *, quoted: bool, encoding: str, columns: Sequence[str] = ()
    ) -> None:
        self._lines = Lines(file, encoding)
        lines = iter(self._lines)
        if len(delimiter) > 1:
            lines = (line.replace(delimiter, _ONE_CHARACTER) for line in lines)
        one = delimiter if len(delimiter) == 1 else _ONE_CHARACTER
        self._reader = (
            csv.reader(lines, delimiter=one) if quoted else csv.reader(lines, delimiter=one, quoting=csv.QUOTE_NONE)
        )
        self._named = "the mapping names" if columns else "the header has"
        try:
            self._columns = list(columns) or self._read_header(file, delimiter, encoding)
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
                    if lines.fault:
                        yield start, lines.fault
                        lines.fault = None
                    elif len(values) == width:
                        yield start, values
                    elif values:
                        yield start, Malformed(f"has {len(values)} fields where {self._named} {width}")
                    start = reader.line_num + 1
                return
            except csv.Error as error:
                yield start, Malformed(f"is not csv ({error}): is a quote left open?")
                start = reader.line_num + 1

    def position(self) -> float:
        return self._lines.position()

    def close(self) -> None:
        self._lines.close()

    def _read_header(self, file: ExportFile, delimiter: str, encoding: str) -> list[str]:
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise SourceError(f"{file} does not begin with a header: {error}") from None
        if self._lines.fault or any("\x00" in name for name in header):
            raise SourceError(
                f"{file} is not {encoding} text: convert it (iconv -t utf-8) or set encoding in the mapping"
            )
        if not any(name.strip() for name in header):
            raise SourceError(f"{file} does not begin with a header: its first line is blank")
        for other in ("::", ",", ";", "\t", "|"):
            if len(header) == 1 and other != delimiter and other in header[0]:
                kind = {"\t": "format: tsv", "::": "format: tsv and delimiter: '::'"}
                raise SourceError(
                    f"{file} has one column {header[0][:60]!r} when parted by {delimiter!r}: "
                    f"set {kind.get(other, f'format: csv and delimiter: {other!r}')}"
                )
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise SourceError(f"{file} has two columns {twice!r}: give each column a name of its own")
        return header


class RecBoleSource(DelimitedSource):
    """One atomic file of RecBole: .inter, .item, .user, .kg, .link or .net."""

    def __init__(self, file: ExportFile, *, encoding: str) -> None:
        super().__init__(file, "\t", quoted=False, encoding=encoding)
        typed = [name.rpartition(":") for name in self._columns]
        if odd := next(
            (name for name, (_, _, type) in zip(self._columns, typed, strict=True) if type not in RECBOLE_TYPES), None
        ):
            self.close()
            raise SourceError(
                f"{file} has column {odd!r} without a type of RecBole's, such as item_id:token: set format: tsv"
            )
        self._columns = [name for name, _, _ in typed]
        self._lists = [at for at, (_, _, type) in enumerate(typed) if type.endswith("_seq")]

    def rows(self) -> Iterator[Row]:
        lists = self._lists
        for line, values in super().rows():
            if not isinstance(values, Malformed):
                for at in lists:
                    values[at] = values[at].replace(" ", LIST_SEPARATOR)
            yield line, values
