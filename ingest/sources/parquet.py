"""Parquet, streamed in batches; a row's line is its number. Numbers and instants become texts, lists joined texts."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import SourceError
from ingest.sources.files import ExportFile
from ingest.sources.lines import broken
from ingest.sources.rows import LIST_SEPARATOR, Row


class ParquetSource:
    """One parquet file.

    Args:
        wanted: the columns that are read; all of them when None.
    """

    def __init__(self, file: ExportFile, wanted: Collection[str] | None = None) -> None:
        self._file = file
        self._read = 0
        self._handle = file.open()
        try:
            self._parquet = pq.ParquetFile(self._handle)
        except (pa.ArrowException, OSError) as error:
            self._handle.close()
            raise SourceError(f"{file} is not parquet: {str(error).splitlines()[0][:200]}") from None
        groups = range(self._parquet.num_row_groups)
        if file.row_group is not None:
            self._read = sum(self._parquet.metadata.row_group(at).num_rows for at in groups[: file.row_group])
        self._groups = list(groups) if file.row_group is None else [file.row_group]
        names = [str(name) for name in self._parquet.schema_arrow.names]
        self._columns = [name for name in names if wanted is None or name in wanted]

    @property
    def columns(self) -> Sequence[str]:
        return self._columns

    def rows(self) -> Iterator[Row]:
        try:
            for batch in self._parquet.iter_batches(8192, self._groups, self._columns):
                columns = [batch.column(name).to_pylist() for name in self._columns]
                for values in zip(*columns, strict=True):
                    self._read += 1
                    yield self._read, [_text(value) for value in values]
        except Exception as error:
            raise broken(self._file, f"row {self._read}", error) from None

    def position(self) -> float:
        return self._read / max(1, int(self._parquet.metadata.num_rows))

    @property
    def row_groups(self) -> int:
        """How many row groups the file has."""
        return int(self._parquet.num_row_groups)

    def close(self) -> None:
        self._parquet.close()
        self._handle.close()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return LIST_SEPARATOR.join(_text(member) for member in value)
    return str(value)
