"""KGAT's adjacency text, as LightGCN and many others use it: a person and their items a line, ids only, in two files.

    train.txt    0 0 1 2 3         person 0 had the items 0, 1, 2 and 3
    test.txt     0 7 9

Neither file knows texts or times. For a road that parts events by time the parts are given days.
"""

import gzip
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from ingest.errors import SourceError
from ingest.sources.files import local_file
from ingest.sources.lines import Lines

TRAINED: Final = date(2000, 1, 1)
VALIDATED: Final = date(2000, 2, 1)
TESTED: Final = date(2000, 3, 1)
"""The days that stand for the parts; no other order is known."""


def write_events(source: Path, directory: Path, *, seed: int = 0) -> Path:
    """Write items.csv.gz (item) and events.csv.gz (account, item, at) for a mapping such as amazon-book.yaml.

    A tenth of each person's training, rounded down but at least one where two or more are there, becomes validation, at
    random. A pair of person and item counts once; one that is in both files is training. A person without items in a
    file has no events there.

    Args:
        source: the folder of train.txt and test.txt, or both with .gz.
        directory: the same input and seed write the same bytes here.
    Returns: the directory.
    Raises: SourceError if a file is missing, or a line is not numbers.
    """
    train, test = (_read(_found(source, name)) for name in ("train.txt", "test.txt"))
    draw = random.Random(seed)  # noqa: S311  (a split, no secret)
    directory.mkdir(parents=True, exist_ok=True)
    items = sorted({item for lists in (train, test) for had in lists.values() for item in had})
    _write(directory / "items.csv.gz", ("item",), ((item,) for item in items))
    _write(directory / "events.csv.gz", ("account", "item", "at"), _events(train, test, draw))
    return directory


def _events(
    train: Mapping[int, Sequence[int]], test: Mapping[int, Sequence[int]], draw: random.Random
) -> Iterator[tuple[int, int, str]]:
    for person in sorted({*train, *test}):
        known = train.get(person, ())
        held = max(len(known) // 10, 1) if len(known) > 1 else 0
        validation = set(draw.sample(known, held))
        for item in known:
            yield person, item, (VALIDATED if item in validation else TRAINED).isoformat()
        for item in test.get(person, ()):
            if item not in known:
                yield person, item, TESTED.isoformat()


def _found(source: Path, name: str) -> Path:
    for path in (source / name, source / f"{name}.gz"):
        if path.is_file():
            return path
    raise SourceError(f"{source / name} is not there, nor {name}.gz: name the folder of KGAT's train.txt and test.txt")


def _read(path: Path) -> Mapping[int, Sequence[int]]:
    """Person → items, each once, in the order of the file; a person may have several lines."""
    found: dict[int, dict[int, None]] = {}
    lines = Lines(local_file(path), "ascii")
    try:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not all(field.isdecimal() for field in fields):
                raise SourceError(
                    f"{path} line {number} is not numbers: a person's, then their items', parted by blanks"
                )
            if fields:
                person, *items = map(int, fields)
                found.setdefault(person, {}).update(dict.fromkeys(items))
    finally:
        lines.close()
    return {person: list(items) for person, items in found.items()}


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    # Without the file's name and the time in gzip's header, the same rows are the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=6) as packed:
        text = (",".join(map(str, row)) + "\n" for row in (header, *rows))
        packed.writelines(line.encode() for line in text)
