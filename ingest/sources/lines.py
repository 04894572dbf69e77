"""The lines of a text file, gzip or not, decoded one by one so that one bad byte costs one row."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ingest.errors import SourceError

_GZIP_MAGIC = b"\x1f\x8b"


class Lines:
    """Iterates over decoded lines with their ends."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self.undecodable = False
        """A line given since this was last set to False has bytes that are not of the encoding."""
        self._encoding = encoding
        try:
            self._size = path.stat().st_size
            self._raw: IO[bytes] = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None
        if self._size == 0:
            self.close()
            raise SourceError(f"{path} is empty: expected at least a header or a record")
        magic = self._raw.read(2)
        self._raw.seek(0)
        if magic == _GZIP_MAGIC:
            self._file: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=self._raw, mode="rb"), 1 << 17)
        elif path.suffix == ".gz":
            self.close()
            raise SourceError(f"{path} ends in .gz but is not gzip: compress it, or take the .gz off its name")
        else:
            self._file = self._raw

    def __iter__(self) -> Iterator[str]:
        encoding = self._encoding
        number = 0
        try:
            for number, line in enumerate(self._file, 1):
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError:
                    self.undecodable = True
                    text = line.decode(encoding, "replace")
                yield text if number > 1 else text.removeprefix("\ufeff")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(
                f"{self.path} breaks off after line {number}: its gzip data are damaged or cut short ({error}); "
                "get the file again and repeat the run, which adds only what is missing"
            ) from None
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read after line {number}: {error.strerror}") from None

    def position(self) -> float:
        return self._raw.tell() / self._size

    def close(self) -> None:
        self._raw.close()
