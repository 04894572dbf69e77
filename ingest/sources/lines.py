"""The lines of a text file, plain, gzip or zstd, decoded one by one so that one bad line costs one row."""

import gzip
import io
from collections.abc import Iterator
from typing import IO, Final, cast

from ingest.errors import SourceError
from ingest.sources.files import ExportFile
from ingest.sources.rows import Malformed

LONGEST: Final = 1 << 24
"""Bytes of a line; a longer one is a bad row, so that a file without line ends does not fill the memory."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


def is_packed(magic: bytes) -> bool:
    """Whether a file that begins with these four bytes is gzip or zstd."""
    return magic.startswith(_GZIP_MAGIC) or magic == _ZSTD_MAGIC


class Bytes:
    """The bytes of a file, unpacked."""

    def __init__(self, file: ExportFile) -> None:
        self._size = file.size
        self._raw = file.open()
        try:
            magic = self._raw.read(4)
            self._raw.seek(0)
            self.stream = self._unpacked(file, magic)
        except SourceError:
            self.close()
            raise

    def position(self) -> float:
        """The share of the file that has been read, 0 to 1; 0 where its size is unknown."""
        return self._raw.tell() / self._size if self._size else 0.0

    def close(self) -> None:
        self._raw.close()

    def _unpacked(self, file: ExportFile, magic: bytes) -> IO[bytes]:
        if not magic:
            raise SourceError(f"{file} is empty: expected at least a header or a record")
        if magic.startswith(_GZIP_MAGIC):
            return io.BufferedReader(gzip.GzipFile(fileobj=self._raw, mode="rb"), 1 << 17)
        if magic == _ZSTD_MAGIC:
            import pyarrow as pa

            packed = pa.CompressedInputStream(pa.PythonFile(self._raw, "r"), "zstd")
            return io.BufferedReader(cast(io.RawIOBase, packed), 1 << 17)
        for suffix, packing in ((".gz", "gzip"), (".zst", "zstd")):
            if file.path.endswith(suffix):
                raise SourceError(
                    f"{file} ends in {suffix} but is not {packing}: compress it, or take the {suffix} off its name"
                )
        return io.BufferedReader(cast(io.RawIOBase, self._raw), 1 << 17)


class Lines:
    """Iterates over decoded lines with their ends."""

    def __init__(self, file: ExportFile, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._bytes = Bytes(file)
        self.fault: Malformed | None = None
        """What is wrong with a line given since this was last set to None."""

    def __iter__(self) -> Iterator[str]:
        encoding, read = self._encoding, self._bytes.stream.readline
        number, later = 0, self._file.stretch is not None and not self._file.stretch.begins
        try:
            while line := read(LONGEST):
                number += 1
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = read(LONGEST)
                    self.fault = Malformed(f"is longer than {LONGEST:,} bytes: is it a line of this format?")
                    yield "\n"
                    continue
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError:
                    rule = f"has bytes that are not {encoding}: convert the file or set encoding"
                    self.fault = Malformed(rule, undecodable=True)
                    text = line.decode(encoding, "replace")
                yield text if number > 1 or later else text.removeprefix("\ufeff")
        except Exception as error:
            raise broken(self._file, f"line {number}", error) from None

    def position(self) -> float:
        return self._bytes.position()

    def close(self) -> None:
        self._bytes.close()


def broken(file: ExportFile, where: str, error: Exception) -> SourceError:
    """What to say when a file cannot be read on, whatever its packing or file system raised."""
    if isinstance(error, OSError) and error.strerror:
        return SourceError(f"{file} cannot be read after {where}: {error.strerror}")
    return SourceError(
        f"{file} breaks off after {where}: its data are damaged or cut short "
        f"({type(error).__name__}: {str(error)[:200]}); "
        "get the file again and repeat the run, which adds only what is missing"
    )
