"""Same work: which items of two platforms are one film or book: candidates by text vectors, a score, its evidence.

    candidates   of each item the nearest of the other platform by text vector (`models.retrieval.ItemIndex`)
    score        a logistic model of title, text, numbers, year and creators; what is unknown says nothing
    pairs        each item with one of the other platform at most, the highest score first, from a threshold on

The text's part is the margin of Artetxe and Schwenk (ACL 2019): a cosine over the mean of both sides' nearest, which
means the same for models whose cosines lie in different ranges. The weights were fitted by `python -m
benchmarks.same_work` on one half of a real catalogue and measured on the other.
"""

import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graph.errors import SnapshotError
from graph.keys import ItemKey
from graph.records import Relation
from graph.store import Store
from graph.vectors import read_vectors
from ingest.errors import IngestError
from models.retrieval import ItemIndex

SAME_WORK: Final = "SAME_WORK"
NEIGHBOURS: Final = 10
"""Candidates of an item on each other platform."""
FEATURES: Final = (
    "title",
    "subset",
    "margin",
    "numbers",
    "same year",
    "near year",
    "far year",
    "creator",
    "no creator",
)
_BLOCK: Final = 256
_CREATORS: Final = "Creator"


@dataclass(frozen=True, slots=True)
class Work:
    """What is compared of an item; what the source does not say is None or empty."""

    key: ItemKey
    title: str
    year: int | None = None
    creators: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scoring:
    """A logistic model of FEATURES."""

    weights: Sequence[float]
    """Of FEATURES, in their order."""
    bias: float
    threshold: float = 0.8
    """The lowest score of a pair that is linked."""

    def scores(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[N] scores between 0 and 1 of [N, len(FEATURES)] features."""
        return np.asarray(1 / (1 + np.exp(-(values @ np.array(self.weights) + self.bias))))


SCORING: Final = Scoring((16.53, 4.17, 1.27, -2.3, 2.28, -0.32, -8.01, 4.34, -4.7), -17.99)


@dataclass(frozen=True, slots=True)
class SameWork:
    """Two items that are one work."""

    first: ItemKey
    second: ItemKey
    score: float
    """0 to 1: how likely it is, by the catalogue that the weights were fitted on."""
    evidence: str
    """What spoke for and against it, for a person to read."""

    @property
    def relation(self) -> Relation:
        return Relation(SAME_WORK, self.first, self.second, {"score": self.score, "evidence": self.evidence})


@dataclass(frozen=True, slots=True)
class SameWorkReport:
    """What a run did."""

    platforms: Mapping[tuple[str, str], int]
    """Pairs of each two platforms."""
    removed: int
    """Links of an earlier run that were replaced."""
    without_vector: int
    """Items with a title that `isthmus embed` has not read; they cannot be linked."""
    links: Sequence[SameWork] = field(repr=False, default=())

    def __str__(self) -> str:
        lines = [f"{first} and {second}: {number:,}" for (first, second), number in self.platforms.items() if number]
        lines = lines or ["no two items were found to be the same work"]
        if self.removed:
            lines.append(f"{self.removed:,} links of an earlier run were replaced")
        if self.without_vector:
            lines.append(f"{self.without_vector:,} items have no vector and were left out: run isthmus embed first")
        return "\n".join(lines)


def link_same_works(store: Store, vectors: Path) -> SameWorkReport:
    """Replace the SAME_WORK relations of a store by those that its items give now; the same items give the same.

    A year is an item's attribute `year`, or stands in brackets in its title; its creators are the entities of the kind
    creator that any relation leads to.

    Args:
        vectors: the file that `ingest.embed` writes for items, vectors/<model>/Item.parquet.
    Raises: IngestError if there are no vectors; StoreError.
    """
    works = read_works(store)
    try:
        matrix, present = read_vectors(vectors, [work.key for work in works])
    except SnapshotError as error:
        raise IngestError(f"the items' texts have not been read: {error}") from error
    known = [work for work, there in zip(works, present, strict=True) if there]
    links = same_works(known, matrix[present])
    removed = unlink_same_works(store)
    store.upsert_edges(link.relation for link in links)
    platforms = sorted({work.key.platform for work in works})
    counts = dict.fromkeys(itertools.combinations(platforms, 2), 0)
    for link in links:
        counts[link.first.platform, link.second.platform] += 1
    return SameWorkReport(counts, removed, len(works) - len(known), links)


def unlink_same_works(store: Store) -> int:
    """Take all SAME_WORK relations back, so that the graph is as it was before them; returns how many there were."""
    return store.delete_relations(SAME_WORK)


def read_works(store: Store) -> list[Work]:
    """All items of a store that have a title, sorted by key."""
    creators: dict[str, set[str]] = {}
    if _CREATORS in store.labels():
        for type in store.relation_types():
            for batch in store.read_relations(type):
                for row in batch.to_pylist():
                    if row["target_label"] == _CREATORS and row["source_label"] == "Item":
                        creators.setdefault(row["source"], set()).add(row["target"].partition(":")[2])
    works = []
    for batch in store.read_nodes("Item"):
        for key, title, attributes in zip(*(batch[name].to_pylist() for name in _READ), strict=True):
            if title and title.strip():
                named = frozenset(creators.get(key, ()))
                works.append(Work(ItemKey.parse(key), title, year_of(title, attributes), named))
    return sorted(works, key=lambda work: work.key)


def same_works(works: Sequence[Work], vectors: NDArray[np.float32], scoring: Scoring = SCORING) -> list[SameWork]:
    """The pairs of items of two platforms that are one work, best first.

    Args:
        vectors: [len(works), D] unit vectors of what the items say.
    """
    found = []
    for candidates in candidates_of(works, vectors).values():
        scored = [(pair, features(works[pair[0]], works[pair[1]], margin)) for pair, margin in candidates.items()]
        if not scored:
            continue
        scores = scoring.scores(np.array([values for _, values in scored]))
        order = np.lexsort((*zip(*(pair[::-1] for pair, _ in scored), strict=True), -scores))
        taken: set[int] = set()
        for place in order.tolist():
            (a, b), values = scored[place]
            if scores[place] < scoring.threshold:
                break
            if taken.isdisjoint((a, b)):
                taken |= {a, b}
                evidence = _evidence(works[a], works[b], values)
                found.append(SameWork(works[a].key, works[b].key, round(float(scores[place]), 4), evidence))
    return sorted(found, key=lambda link: (-link.score, link.first, link.second))


def candidates_of(
    works: Sequence[Work], vectors: NDArray[np.float32]
) -> Mapping[tuple[str, str], Mapping[tuple[int, int], float]]:
    """For each two platforms the pairs of rows of which one is among the other's nearest, with their margins.

    The first row of a pair is of the platform that comes first in the alphabet.
    """
    platforms: dict[str, list[int]] = {}
    for row, work in enumerate(works):
        platforms.setdefault(work.key.platform, []).append(row)
    indexes = {name: ItemIndex(vectors[rows]) for name, rows in platforms.items()}
    found = {}
    for one, other in itertools.combinations(sorted(platforms), 2):
        there = _nearest(indexes[one].vectors, indexes[other])
        back = _nearest(indexes[other].vectors, indexes[one])
        level_one, level_other = there[1].mean(axis=1), back[1].mean(axis=1)
        cosines = {
            (a, int(b)): float(c)
            for a in range(len(there[0]))
            for b, c in zip(*(part[a] for part in there), strict=True)
        }
        cosines |= {
            (int(a), b): float(c) for b in range(len(back[0])) for a, c in zip(*(part[b] for part in back), strict=True)
        }
        rows_one, rows_other = platforms[one], platforms[other]
        found[one, other] = {
            (rows_one[a], rows_other[b]): cosine / max(float(level_one[a] + level_other[b]) / 2, 1e-3)
            for (a, b), cosine in cosines.items()
        }
    return found


def features(a: Work, b: Work, margin: float) -> tuple[float, ...]:
    """What speaks for and against two items being one work, in the order of FEATURES."""
    from rapidfuzz import fuzz

    title = subset = 0.0
    for (m, one), (n, other) in itertools.product(enumerate(titles_of(a.title)), enumerate(titles_of(b.title))):
        if m < 2 or n < 2:  # two brackets that say the same may be marks that we do not know
            title = max(title, fuzz.ratio(one, other), fuzz.token_sort_ratio(one, other))
            subset = max(subset, fuzz.token_set_ratio(one, other))
    years = None if a.year is None or b.year is None else abs(a.year - b.year)
    shared = bool(a.creators & b.creators)
    return (
        title / 100,
        subset / 100,
        margin,
        float(numbers_of(a.title) != numbers_of(b.title)),
        float(years == 0),
        float(years == 1),
        float(years is not None and years > 1),
        float(shared),
        float(bool(a.creators) and bool(b.creators) and not shared),
    )


@lru_cache(maxsize=1 << 16)
def titles_of(title: str) -> tuple[str, ...]:
    """What a title may be called, without marks of its edition, accents, punctuation and articles.

    The whole; where it has brackets, what stands before them, then what is in each: "A (B)" is A or B.
    """
    plain = _plain(title)
    parts = [" ".join(words) for part in _BRACKETS.split(plain) if (words := _words(part))]
    named = dict.fromkeys([" ".join(parts), *parts] if parts else ())
    return tuple(named) or (" ".join(_SPLIT.findall(plain)) or title.casefold(),)


@lru_cache(maxsize=1 << 16)
def numbers_of(title: str) -> tuple[str, ...]:
    """The numbers in a title, Roman and English ones too: they part a sequel from its first part."""
    words = [word for part in _BRACKETS.split(_plain(title)) for word in _words(part)]
    roman = [_ROMAN.get(word, word) if place else word for place, word in enumerate(words)]
    return tuple(sorted(word for word in (_SPOKEN.get(word, word) for word in roman) if word.isdecimal()))


def year_of(title: str, attributes: str = "{}") -> int | None:
    """The year of an item: its attribute `year` (in the store's JSON), or the last one in brackets in its title."""
    stated = _STATED_YEAR.match(str(json.loads(attributes).get("year", "")))
    found = [stated[0]] if stated else _TITLE_YEAR.findall(title)
    return int(found[-1]) if found else None


_READ: Final = ("key", "title", "attributes")
_STATED_YEAR: Final = re.compile(r"\d{4}(?!\d)")
_TITLE_YEAR: Final = re.compile(r"[(\[](\d{4})[)\]]")
_BRACKETS: Final = re.compile(r"[()\[\]{}]")
_SPLIT: Final = re.compile(r"\w+")
_ARTICLES: Final = frozenset({"the", "a", "an"})
_MARKS: Final = (
    "abridged anniversary audio audiobook bluray blu ray cd collection collector collectors complete criterion cut "
    "deluxe digital director directors disc dvd ebook edition enhanced expanded extended final fullscreen hardcover hd "
    "imax import kindle limited original paperback print reissue release remaster remastered restored revised s screen "
    "series set special standard the theatrical tape uhd ultimate ultra uncut unabridged unrated version vhs widescreen"
)
_LAST: Final = (
    "audiobook bluray cut dvd ebook edition fullscreen hardcover paperback ray remastered restored uhd uncut unrated "
    "version vhs widescreen"
)
_EDITION, _HEADS = frozenset(_MARKS.split()), frozenset(_LAST.split())
"""Words of a mark of an edition; and those that make one of the words before them though no bracket parts them off."""
_ORDINAL: Final = re.compile(r"\d+(?:st|nd|rd|th|k|d)")
_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPOKEN: Final = {word: str(number) for number, word in enumerate(_NUMBERS, 1)}
_ROMAN: Final = {
    word: str(number)
    for number, word in enumerate(("ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii"), 2)
}


def _plain(title: str) -> str:
    """Without case, accents and the year in brackets."""
    text = unicodedata.normalize("NFKD", _TITLE_YEAR.sub(" ", title))
    return "".join(letter for letter in text if not unicodedata.combining(letter)).casefold().replace("&", " and ")


def _words(part: str) -> list[str]:
    """The words of a part of a title; none where they all mark an edition."""
    words = _SPLIT.findall(part)
    if _EDITION.intersection(words) and all(word in _EDITION or _is_number(word) for word in words):
        return []
    while words and words[-1] in _HEADS:
        while words and (words[-1] in _EDITION or _ORDINAL.fullmatch(words[-1])):
            words = words[:-1]
    return [word for word in words if word not in _ARTICLES]


def _is_number(word: str) -> bool:
    return word.isdecimal() or word in _SPOKEN or _ORDINAL.fullmatch(word) is not None


def _nearest(queries: NDArray[np.float32], index: ItemIndex) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and cosines of the nearest, [len(queries), NEIGHBOURS] or as many as there are."""
    k = min(NEIGHBOURS, len(index))
    parts = [index.search(queries[start : start + _BLOCK], k) for start in range(0, len(queries), _BLOCK)]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([cosines for _, cosines in parts])


def _evidence(a: Work, b: Work, values: Sequence[float]) -> str:
    named = dict(zip(FEATURES, values, strict=True))
    said = [f"title {named['title']:.2f}", f"text {named['margin']:.2f}"]
    if named["numbers"]:
        said.append("other numbers")
    if a.year is not None and b.year is not None:
        said.append(f"year {a.year}" if a.year == b.year else f"years {a.year} and {b.year}")
    if named["creator"]:
        said.append(f"creator {', '.join(sorted(a.creators & b.creators)[:3])}")
    if named["no creator"]:
        said.append("no creator in common")
    return "; ".join(said)
