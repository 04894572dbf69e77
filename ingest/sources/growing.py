"""What grows, a text file or a partition: which whole records were added, and whether it still is the one it was."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Final, NamedTuple

from ingest.mapping import Section
from ingest.sources.files import ExportFile, Stretch
from ingest.sources.kafka import MESSAGES, Partition
from ingest.sources.lines import LONGEST, is_packed

STRETCH: Final = 1 << 24
"""Bytes that are read before it is noted that they were; more where one line is longer."""

_EDGE: Final = 4096
_CHUNK: Final = 1 << 20
_END: Final = "\ue000"
"""After the last line: in a record of its own, unless a quote is open."""

_LINES: Final = frozenset({"csv", "tsv", "recbole", "jsonl", "literals"})


class Place(NamedTuple):
    """How far a file has been read."""

    offset: int
    """Of the next byte, or message."""
    lines: int
    fingerprint: str


START: Final = Place(0, 0, "")


def grows(file: ExportFile, section: Section) -> bool:
    """Whether what is added can be read alone: messages, or lines of text in a local file that is not packed.

    Raises: SourceError if it cannot be read.
    """
    if isinstance(file, Partition):
        return True
    if section.resolved_format not in _LINES or "file" not in file.file_system.protocol:
        return False
    with file.open() as opened:
        return not is_packed(opened.read(4))


def fingerprint(file: ExportFile, offset: int) -> str:
    """A hash of a file's first bytes and of those before an offset: the same while the file only grows.

    Raises: SourceError if it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with file.open() as opened:
        for start in (0, max(0, offset - _EDGE)):
            opened.seek(start)
            digest.update(opened.read(min(_EDGE, offset - start)))
    return digest.hexdigest()


def is_begun(file: ExportFile, place: Place) -> bool:
    """Whether a file still begins with what was read of it; one that was cut short or replaced does not."""
    if isinstance(file, Partition):
        return place.offset <= file.end
    with file.open() as opened:
        size = opened.seek(0, 2)
    return size >= place.offset and (place.offset == 0 or fingerprint(file, place.offset) == place.fingerprint)


def added(file: ExportFile, section: Section, place: Place, end: int) -> tuple[ExportFile, Place] | None:
    """The file as its next whole records alone, and the place after them; None where no record is whole yet.

    Args:
        end: the byte (of a partition the offset) up to which the file is looked at.
    Raises: SourceError if it cannot be read.
    """
    if isinstance(file, Partition):
        start = max(place.offset, file.oldest)
        stop = min(end, start + MESSAGES)
        return (file.between(start, stop), Place(stop, 0, "")) if start < stop else None
    with file.open() as opened:
        stop, lines, quoted = _last_line(opened, place.offset, end)
        if quoted and section.resolved_format == "csv":
            whole = _whole_records(_lines(opened, place.offset, stop), section)
            if whole < lines:
                lines, stop = whole, _after(opened, place.offset, whole)
        if not lines:
            return None
    header = header_of(file, section) if place.offset else b""
    after = Place(stop, place.lines + lines, fingerprint(file, stop))
    skipped = place.lines - header.count(b"\n")
    stretch = Stretch(header, place.offset, stop, skipped, after.fingerprint)
    return replace(file, size=len(header) + stop - place.offset, stretch=stretch), after


def header_of(file: ExportFile, section: Section) -> bytes:
    """What every stretch but the first is read after: the header, where the mapping does not name the columns.

    Raises: SourceError if it cannot be read.
    """
    if section.columns or section.resolved_format not in {"csv", "tsv", "recbole"}:
        return b""
    with file.open() as opened:
        return _header(opened, section)


def _last_line(opened: IO[bytes], start: int, end: int) -> tuple[int, int, bool]:
    """The byte after the last whole line of the next stretch, how many lines end before it, and whether any quotes."""
    opened.seek(start)
    at = stop = start
    lines, quoted = 0, False
    while at < end and (at < start + STRETCH or not lines):
        chunk = opened.read(min(_CHUNK, end - at))
        if not chunk:
            break
        lines += chunk.count(b"\n")
        quoted = quoted or b'"' in chunk
        if (last := chunk.rfind(b"\n")) >= 0:
            stop = at + last + 1
        at += len(chunk)
    return stop, lines, quoted


def _lines(opened: IO[bytes], start: int, stop: int) -> Iterator[bytes]:
    """Lines, a too long one as an empty one, as `ingest.sources.lines` counts them."""
    opened.seek(start)
    while opened.tell() < stop:
        line = opened.readline(LONGEST)
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = opened.readline(LONGEST)
            line = b"\n"
        yield line


def _whole_records(lines: Iterator[bytes], section: Section) -> int:
    """How many of these lines make whole records of csv: the last one may be within quotes that are still open."""

    def texts() -> Iterator[str]:
        for line in lines:
            yield line.decode(section.encoding, "replace")
        yield _END

    reader = csv.reader(texts(), delimiter=section.delimiter or ",")
    whole = 0
    while True:
        try:
            for values in reader:
                if values and values[-1].endswith(_END):
                    return whole
                whole = reader.line_num
            return whole
        except csv.Error:
            whole = reader.line_num


def _after(opened: IO[bytes], start: int, lines: int) -> int:
    """The byte after so many lines."""
    opened.seek(start)
    while lines:
        lines -= opened.readline(_CHUNK).endswith(b"\n")
    return opened.tell()


def _header(opened: IO[bytes], section: Section) -> bytes:
    """The lines of the first record."""
    opened.seek(0)
    taken: list[bytes] = []

    def texts() -> Iterator[str]:
        while line := opened.readline(LONGEST):
            taken.append(line)
            yield line.decode(section.encoding, "replace")

    if section.resolved_format == "csv":
        next(csv.reader(texts(), delimiter=section.delimiter or ","))
    else:
        next(texts())
    return b"".join(taken)
