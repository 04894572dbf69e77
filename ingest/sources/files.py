"""Files of exports, local or behind an fsspec URL: found by name or pattern, opened as bytes, shown without secrets."""

import glob
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from ingest.errors import SourceError, redacted

TOPIC: Final = "kafka://"
"""What the URL of a Kafka topic begins with; its partitions are read as files are (ingest/sources/kafka.py)."""

QUERIED: Final = ("http://", "https://")
"""URLs whose ? begins a query and is no pattern: nothing lists what a web server holds."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole records of a growing file, given in its place; lines are counted as in the file."""

    header: bytes
    """What is read before them: the file's header, unless they begin with it."""
    start: int
    """The byte they begin with."""
    stop: int
    """The byte after them."""
    skipped: int
    """Lines of the file that are not given."""
    fingerprint: str
    """That of the file up to `stop` (ingest/sources/growing.py)."""

    @property
    def begins(self) -> bool:
        """Whether what is given begins as the file does."""
        return self.start == 0 or bool(self.header)

    @property
    def first_line(self) -> int:
        """The line they begin with, counted from 1."""
        return self.skipped + self.header.count(b"\n") + 1


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export; its text is its path or URL, without user, password or query."""

    file_system: Any = field(repr=False)
    """The fsspec file system that it is in."""
    path: str = field(repr=False)
    """As that file system knows it; it may hold a secret."""
    name: str
    """As reports show it: relative to the data directory, or its URL without secrets."""
    shown: str
    """The whole path or URL, without secrets."""
    size: int | None
    """Bytes; None where the file system does not know."""
    stretch: Stretch | None = None
    """The part of it that is read; all when None."""
    row_group: int | None = None
    """The one row group that is read of a file of parquet; all when None."""

    def open(self) -> IO[bytes]:
        """Open it to read; raises SourceError if it is not there or cannot be had."""
        with _explained(self.shown):
            opened: IO[bytes] = self.file_system.open(self.path, "rb")
            return opened if self.stretch is None else cast(IO[bytes], _Stretched(opened, self.stretch))

    def __str__(self) -> str:
        return self.shown


def is_url(place: str) -> bool:
    """Whether this names something behind fsspec (s3://…, zip://…::…) and no local path."""
    return "://" in place


def has_pattern(place: str) -> bool:
    """Whether several files may fit it: it has * or ? or […]."""
    return glob.has_magic(place) and not place.startswith(QUERIED)


def local_file(path: Path, name: str | None = None) -> ExportFile:
    """A file on this machine.

    Raises: SourceError if it is not there.
    """
    from fsspec.implementations.local import LocalFileSystem

    with _explained(str(path)):
        size = path.stat().st_size
    return ExportFile(LocalFileSystem(), os.path.abspath(path), name or str(path), str(path), size)


def find(place: str, data: str) -> list[ExportFile]:
    """The files that a mapping means by a name or pattern, sorted; none when there are none.

    Args:
        place: a URL, or a path relative to `data`; * ? and […] match within a name, ** over folders.
        data: a directory or a URL of one.
    Raises: SourceError if the file system cannot be asked.
    """
    if place.startswith(TOPIC):
        from ingest.sources.kafka import partitions

        return list(partitions(place))
    if is_url(place):
        return _find_remote(place)
    if is_url(data):
        return _find_remote(f"{data.rstrip('/')}/{place}")
    root = Path(data)
    names = sorted(glob.glob(place, root_dir=root, recursive=True)) if has_pattern(place) else [place]
    return [local_file(root / name, name) for name in names if (root / name).is_file()]


def _find_remote(url: str) -> list[ExportFile]:
    import fsspec

    with _explained(redacted(url)):
        file_system, path = fsspec.core.url_to_fs(url)
        try:
            found = file_system.glob(path, detail=True) if has_pattern(url) else {path: file_system.info(path)}
        except FileNotFoundError:
            return []
        files = [(name, info.get("size")) for name, info in sorted(found.items()) if info["type"] == "file"]
        shown = {name: redacted(url if name == path else file_system.unstrip_protocol(name)) for name, _ in files}
    return [ExportFile(file_system, name, shown[name], shown[name], size) for name, size in files]


class _Stretched(io.RawIOBase):
    """The bytes of a header and a stretch."""

    def __init__(self, file: IO[bytes], stretch: Stretch) -> None:
        self._file = file
        self._stretch = stretch
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("a stretch is sought from its beginning")
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        header, start, stop = self._stretch.header, self._stretch.start, self._stretch.stop
        if self._at < len(header):
            found = header[self._at : self._at + len(buffer)]
        else:
            place = start + self._at - len(header)
            self._file.seek(place)
            found = self._file.read(max(0, min(len(buffer), stop - place)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """What file systems raise, each in its own manner, as one sentence without secrets."""
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{shown} cannot be read: No such file or directory") from None
    except ImportError as error:
        raise SourceError(f"{shown} needs a driver that is not installed: {error}") from None
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        raise SourceError(f"{shown} cannot be read: {type(error).__name__}: {error}") from None
