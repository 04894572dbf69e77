"""The same work on two platforms: pairs made by perturbing the titles of a real catalogue, found again.

    python -m benchmarks.same_work [--seeds 3] [--text-model all-MiniLM-L6-v2] [--var var/benchmarks]

The films of MovieLens-100k are parted at random: half of them are for choosing (what the weights of ingest.same_work
are fitted on, printed at the end), half for telling. Within each half, one film in two is on both platforms and one in
four on each alone; and once more with one in twenty on both, since what is rare is easily mistaken. What the second
platform has is called otherwise there, in one way a film: up to two typing errors, words in another order, the mark of
an edition (the marks of the two halves differ), or, where the catalogue knows the film by two names, the other
language. Its years are missing for a fifth and off by one for a tenth; of the creators a random half is left, and none
for three in ten.
"""

import argparse
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graph.keys import ItemKey
from ingest.same_work import FEATURES, NEIGHBOURS, SCORING, Scoring, Work, candidates_of, features, same_works, year_of
from ingest.sources.movielens import fetch
from models.text import DEFAULT_MODEL, TextEncoder, open_model

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

ONE, OTHER = "one", "other"
CREATORS: Final = frozenset(
    f"film.film.{relation}" for relation in ("actor", "directed_by", "written_by", "produced_by", "cinematography")
)
MARKS: Final = (
    (
        "{} (Special Edition)",
        "{} [DVD]",
        "{} - Director's Cut",
        "{} (Widescreen)",
        "{} 25th Anniversary Edition",
        "{} (Blu-ray)",
        "{} (Two-Disc Set)",
        "{} [Region 1]",
    ),
    (
        "{}: Extended Version",
        "{} (Criterion Collection)",
        "{} [VHS]",
        "{} (4K Ultra HD)",
        "{} - Remastered",
        "{} (Collector's Edition)",
        "{} (OmU)",
        "{} [Import]",
    ),
)
"""For choosing, and for telling."""
MANY, FEW = (2, 1, 1), (2, 19, 19)
"""Films on both platforms, on the first alone, on the second alone."""
ONE_NAME: Final = frozenset({"Se7en", "ID4", "Her Majesty, Mrs. Brown", "Andy Warhol's Dracula", "1995"})
"""What stands in brackets in the catalogue and is no name in another language."""
KNOWN: Final[Mapping[str, Callable[[Work], Work]]] = {
    "title, year, creators": lambda work: work,
    "title, year": lambda work: replace(work, creators=frozenset()),
    "title": lambda work: replace(work, year=None, creators=frozenset()),
}


@dataclass(frozen=True)
class Scene:
    """Two platforms, and which of their items are one work."""

    works: Sequence[Work]
    vectors: NDArray[np.float32]
    truth: Mapping[tuple[ItemKey, ItemKey], str]
    """Pair -> how the second was called otherwise."""


def main() -> None:
    """Measure, print the table and the weights that choosing gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--text-model", default=DEFAULT_MODEL)
    parser.add_argument("--var", type=Path, default=Path("var/benchmarks"))
    options = parser.parse_args()
    films = catalogue(fetch(options.var / "sources" / "movielens-100k", lambda text: print(text, file=sys.stderr)))
    encode = remembering(open_model(options.text_model))
    halves = list(films)
    random.Random(0).shuffle(halves)
    middle = len(halves) // 2
    choosing = [scene(halves[:middle], MARKS[0], seed, encode) for seed in range(options.seeds)]
    telling = [scene(halves[middle:], MARKS[1], seed + 1000, encode) for seed in range(options.seeds)]
    rare = [scene(halves[middle:], MARKS[1], seed + 2000, encode, FEW) for seed in range(options.seeds)]

    print("| known of a film | on both | precision | recall | typing errors | word order | edition | other language |")
    print("|---|---|---|---|---|---|---|---|")
    for share, scenes in (("1 in 2", telling), ("1 in 20", rare)):
        for name, known in KNOWN.items():
            print(f"| {name} | {share} | {' | '.join(measured([_with(each, known) for each in scenes]))} |", flush=True)
    reached = [pair in found for each in telling for found in [_candidates(each)] for pair in each.truth]
    number = sum(len(each.works) for each in telling) // len(telling)
    print(f"\nabout {number:,} items on two platforms, {options.seeds} draws; with {options.text_model} and")
    print(f"{NEIGHBOURS} nearest {np.mean(reached):.3f} of the pairs are candidates\n\nfitted on the other half:")
    fitted = fit([_with(each, known) for each in choosing for known in KNOWN.values()])
    rare = [scene(halves[:middle], MARKS[0], seed + 2000, encode, FEW) for seed in range(options.seeds)]
    for share, scenes in (("1 in 2", choosing), ("1 in 20", rare)):
        for threshold in (0.5, 0.8, 0.95):
            every = [_with(each, known) for each in scenes for known in KNOWN.values()]
            precision, recall, *_ = measured(every, replace(fitted, threshold=threshold))
            print(f"{share} on both, threshold {threshold}: precision {precision}, recall {recall}")


def catalogue(source: Path) -> Sequence[Work]:
    """The films of MovieLens-100k with years and creators, each once."""
    links = {entity: item for item, entity in _rows(source / "links.csv", ",")}
    creators: dict[str, set[str]] = {}
    for head, relation, tail in _rows(source / "ml-100k.kg", "\t"):
        if head in links and relation in CREATORS:
            creators.setdefault(links[head], set()).add(tail)
    films: dict[tuple[str, str], Work] = {}
    for item, title, year, _ in _rows(source / "ml-100k.item", "\t"):
        stated = year_of(title, f'{{"year": "{year}"}}')
        films.setdefault((title, year), Work(ItemKey(ONE, item), title, stated, frozenset(creators.get(item, ()))))
    return [film for film in films.values() if film.title != "unkonwn"]


def scene(
    films: Sequence[Work], marks: Sequence[str], seed: int, encode: Encode, shares: Sequence[int] = MANY
) -> Scene:
    """Two platforms of these films; the same seed gives the same."""
    draw = random.Random(seed)
    works: list[Work] = []
    truth: dict[tuple[ItemKey, ItemKey], str] = {}
    for film in films:
        where = draw.choices(("both", ONE, OTHER), shares)[0]
        names = _names(film.title)
        if where != OTHER:
            works.append(replace(film, title=names[0]) if len(names) > 1 else film)
        if where != ONE:
            copy, way = perturbed(film, names, marks, draw)
            works.append(copy)
            if where == "both":
                truth[film.key, copy.key] = way
    return Scene(works, encode([work.title for work in works]), truth)


def perturbed(film: Work, names: Sequence[str], marks: Sequence[str], draw: random.Random) -> tuple[Work, str]:
    """The film as the other platform has it, and what was done to its title."""
    if len(names) > 1:
        way, title = "language", names[1]
    else:
        way = draw.choice(("typos", "order", "edition"))
        title = film.title
        if way == "typos":
            for _ in range(draw.randint(1, 2)):
                title = _typo(title, draw)
        elif way == "order":
            title = _reordered(title, draw)
        else:
            title = draw.choice(marks).format(title)
    year = film.year
    chance = draw.random()
    if chance < 0.2:
        year = None
    elif chance < 0.3 and year is not None:
        year += draw.choice((-1, 1))
    known = sorted(film.creators)
    creators = frozenset(draw.sample(known, (len(known) + 1) // 2) if draw.random() >= 0.3 else ())
    return Work(ItemKey(OTHER, film.key.id), title, year, creators), way


def measured(scenes: Sequence[Scene], scoring: Scoring = SCORING) -> Iterator[str]:
    """Precision, recall, and the recall of each way of calling a film otherwise; over all scenes."""
    right = found = 0
    hit: dict[str, list[bool]] = {"typos": [], "order": [], "edition": [], "language": []}
    for each in scenes:
        pairs = {(link.first, link.second) for link in same_works(each.works, each.vectors, scoring)}
        found += len(pairs)
        right += len(pairs & each.truth.keys())
        for pair, way in each.truth.items():
            hit[way].append(pair in pairs)
    yield f"{right / found:.3f}"
    yield f"{np.mean([one for ways in hit.values() for one in ways]):.3f}"
    for ways in hit.values():
        yield f"{np.mean(ways):.3f} of {len(ways)}" if ways else ""


def fit(scenes: Sequence[Scene]) -> Scoring:
    """The weights of a logistic regression on the candidates of these scenes, printed beside those in use."""
    from sklearn.linear_model import LogisticRegression

    values, labels = [], []
    for each in scenes:
        for (a, b), margin in _candidate_rows(each).items():
            one, other = each.works[a], each.works[b]
            values.append(features(one, other, margin))
            labels.append((one.key, other.key) in each.truth)
    model = LogisticRegression(C=10.0, max_iter=5000).fit(np.array(values), np.array(labels))
    weights = tuple(round(float(weight), 2) for weight in model.coef_[0])
    fitted = Scoring(weights, round(float(model.intercept_[0]), 2))
    print(f"{FEATURES}\n{fitted}\nin use: {SCORING}")
    return fitted


def remembering(model: TextEncoder) -> Encode:
    """The model's `encode`, each text once."""
    known: dict[str, NDArray[np.float32]] = {}

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, model.encode(new), strict=True))
        return np.stack([known[text] for text in texts])

    return encode


def _rows(path: Path, delimiter: str) -> Sequence[Sequence[str]]:
    return [line.split(delimiter) for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def _with(scene: Scene, known: Callable[[Work], Work]) -> Scene:
    return replace(scene, works=[known(work) for work in scene.works])


def _candidate_rows(scene: Scene) -> Mapping[tuple[int, int], float]:
    return candidates_of(scene.works, scene.vectors)[ONE, OTHER]


def _candidates(scene: Scene) -> set[tuple[ItemKey, ItemKey]]:
    return {(scene.works[a].key, scene.works[b].key) for a, b in _candidate_rows(scene)}


def _names(title: str) -> Sequence[str]:
    """The names of a film: its title, or what stands before the brackets and in them."""
    found = re.fullmatch(r"(.+) \((.+)\)", title)
    return [title] if found is None or found[2] in ONE_NAME else [found[1], found[2]]


def _typo(title: str, draw: random.Random) -> str:
    place = draw.randrange(len(title))
    letter = draw.choice("abcdefghijklmnopqrstuvwxyz")
    match draw.choice(("swap", "drop", "add", "change")):
        case "swap":
            return title[:place] + title[place : place + 2][::-1] + title[place + 2 :]
        case "drop":
            return (title[:place] + title[place + 1 :]) or title
        case "add":
            return title[:place] + letter + title[place:]
        case _:
            return title[:place] + letter + title[place + 1 :]


def _reordered(title: str, draw: random.Random) -> str:
    words = title.replace(",", "").replace(":", "").split()
    draw.shuffle(words)
    return " ".join(words)


if __name__ == "__main__":
    main()
