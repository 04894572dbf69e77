"""Parquet, streamed in batches; a row's line is its number. Numbers and instants become texts, lists joined texts."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import SourceError
from ingest.sources.rows import LIST_SEPARATOR, Row


class ParquetSource:
    """One parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise SourceError(f"{path} cannot be read: No such file or directory") from None
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{path} is not parquet: {str(error).splitlines()[0][:200]}") from None

    @property
    def columns(self) -> Sequence[str]:
        return [str(name) for name in self._file.schema_arrow.names]

    def rows(self) -> Iterator[Row]:
        try:
            for batch in self._file.iter_batches(batch_size=8192):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    self._read += 1
                    yield self._read, [_text(value) for value in values]
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{self._path} breaks off after row {self._read}: {str(error).splitlines()[0][:200]}; "
                "get the file again"
            ) from None

    def position(self) -> float:
        return self._read / max(1, int(self._file.metadata.num_rows))

    def close(self) -> None:
        self._file.close()


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
