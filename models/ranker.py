"""The ranker: one person's best items from an opened bundle, with reasons; serving asks nothing else of a model."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graph.interactions import Histories
from models.bundle import Bundle
from models.eight_bits import EightBits, multiplies_exactly
from models.explain import Explanation, explain
from models.retrieval import ItemIndex, best, reached

EXACT_UP_TO = 100_000
"""Items of a platform that are compared one by one; above, FAISS proposes candidates."""
LOOK_FROM = 5_000
"""Items of a platform from which on a look at 8 bits of each saves time."""
_ROUNDING = 1e-6
"""What single precision may take from a sum, as a share of it."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """Items, best first."""

    rows: NDArray[np.int64]
    """[K]"""
    scores: NDArray[np.float32]
    """[K] the model's."""
    merits: NDArray[np.float32]
    """[K] what they are ordered by: the scores, lifted."""


class Ranker:
    """Ranks over one bundle. Holds no state of a request, so threads may share it."""

    def __init__(self, bundle: Bundle, exact_up_to: int = EXACT_UP_TO, look_from: int = LOOK_FROM) -> None:
        self.bundle = bundle
        self._model = bundle.flagship
        vectors, bias = self._model.vectors, self._model.bias
        self._rows = [np.flatnonzero(bundle.item_platform == number) for number in range(len(bundle.platforms))]
        self._later = [np.zeros(0, np.int64) for _ in bundle.platforms]
        self._norms = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
        # The bias is one more dimension, so that an inner product is the whole dense score.
        self._indexes = [
            ItemIndex(np.concatenate([vectors[rows], bias[rows, None]], axis=1), exact_up_to)
            if len(rows) > exact_up_to
            else None
            for rows in self._rows
        ]
        self._rough = [
            EightBits(vectors[_span(rows)])
            if index is None and len(rows) >= look_from and multiplies_exactly()
            else None
            for rows, index in zip(self._rows, self._indexes, strict=True)
        ]

    def grown(self, bundle: Bundle) -> "Ranker":
        """The same over a bundle that has more items after those of this one's: what was indexed is not again."""
        ranker = copy(self)
        ranker.bundle, ranker._model = bundle, bundle.flagship
        first = len(self.bundle.items)
        later = np.arange(first, len(bundle.items))
        ranker._later = [later[bundle.item_platform[first:] == number] for number in range(len(bundle.platforms))]
        lengths = np.linalg.norm(bundle.flagship.vectors[later], axis=1)
        ranker._norms = np.concatenate([self._norms, np.maximum(lengths, np.finfo(np.float32).tiny)])
        return ranker

    def rank(
        self,
        history: Histories,
        *,
        platforms: Sequence[str] | None = None,
        exclude: NDArray[np.int64],
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        lift: NDArray[np.float32] | None = None,
        each_platform: bool = False,
    ) -> Ranked:
        """The k best items for one person, at most.

        Args:
            history: of one person; may be empty, then the platforms' priors rank.
            platforms: names of the platforms to choose from; None chooses from all.
            exclude: rows that may not be returned.
            allowed: [N] false for more of them; None allows all.
            lift: [N] added to the scores to order by, in standard deviations of this person's; None adds nothing.
            each_platform: k of each platform rather than of all together.
        """
        numbers = self._numbers(platforms)
        sparse = self._model.leads_to.score(history)[0]
        queries = self._model.queries(history)[0]
        parts = []
        for group in [[number] for number in numbers] if each_platform else [numbers]:
            candidates = self._candidates(group, queries, sparse, k, exclude, allowed, lift)
            rows = np.concatenate([some for _, some in candidates])
            dense = np.concatenate([self._dense(number, some, queries[number]) for number, some in candidates])
            dense += sparse[rows]
            parts.append((rows, dense))
        unit = 0.0 if lift is None else float(np.concatenate([scores for _, scores in parts]).std())
        return _joined([_best(rows, scores, exclude, k, allowed, lift, unit) for rows, scores in parts])

    def scores(self, history: Histories, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[K] what one person's events make of these items [K]."""
        queries = self._model.queries(history)[0][self.bundle.item_platform[rows]]
        dense = np.einsum("kd,kd->k", queries, self._model.vectors[rows]) + self._model.bias[rows]
        return np.asarray(dense + self._model.leads_to.score(history)[0][rows], dtype=np.float32)

    def taste(self, history: Histories) -> NDArray[np.float32]:
        """[P * D] what one person's events ask for on each platform, without what anybody asks for."""
        return np.asarray(self._model.queries(history)[0] - self._model.prior.numpy()).ravel()

    def nearest(
        self, values: NDArray[np.float32], *, platforms: Sequence[str] | None, k: int, allowed: NDArray[np.bool_] | None
    ) -> Ranked:
        """The items with the largest of some values [N]; never those of -inf."""
        numbers = self._numbers(platforms)
        rows = np.concatenate([of[number] for number in numbers for of in (self._rows, self._later)])
        return _best(rows, values[rows], np.zeros(0, np.int64), k, allowed)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[K, D] the items' vectors, for how far they are from each other."""
        found: NDArray[np.float32] = self._model.vectors[rows]
        return found

    def explain(self, history: Histories, rows: NDArray[np.int64], most: int | None = None) -> list[Explanation]:
        """Why these items score as they do, for one person; see models.explain."""
        return explain(self._model, history, rows, self.bundle.knowledge, most)

    def similar(
        self, row: int, *, platforms: Sequence[str] | None = None, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> Ranked:
        """The items whose vectors have the largest cosine with an item's; never the item itself."""
        candidates = np.concatenate(
            [of[number] for number in self._numbers(platforms) for of in (self._rows, self._later)]
        )
        cosine = self._model.vectors[candidates] @ self._model.vectors[row]
        cosine = cosine / (self._norms[candidates] * self._norms[row])
        return _best(candidates, cosine, np.array([row]), k, allowed)

    def _dense(self, number: int, candidates: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of candidates of a platform; those that follow each other are not copied."""
        rows = _span(candidates)
        scores: NDArray[np.float32] = self._model.vectors[rows] @ query + self._model.bias[rows]
        return scores

    def _numbers(self, platforms: Sequence[str] | None) -> Sequence[int]:
        if platforms is None:
            return range(len(self._rows))
        unknown = [name for name in platforms if name not in self.bundle.platforms]
        if unknown or not platforms:
            raise ValueError(
                f"platforms is {list(platforms)}: name at least one of {', '.join(self.bundle.platforms)}, and no other"
            )
        return [self.bundle.platforms.index(name) for name in platforms]

    def _candidates(
        self,
        numbers: Sequence[int],
        queries: NDArray[np.float32],
        sparse: NDArray[np.float32],
        k: int,
        exclude: NDArray[np.int64],
        allowed: NDArray[np.bool_] | None,
        lift: NDArray[np.float32] | None,
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """By platform the items that could be among the first k of these: all, or what a first look leaves."""
        looked = [] if lift is not None else [number for number in numbers if self._rough[number] is not None]
        found = self._looked(looked, queries, sparse, k, exclude, allowed) if looked else []
        for number in numbers:
            if self._indexes[number] is not None:
                found.append((number, self._searched(number, queries[number], sparse, k + len(exclude), allowed, lift)))
            elif number not in looked:
                found.append((number, self._rows[number]))
            if len(self._later[number]):
                found.append((number, self._later[number]))
        return found

    def _looked(
        self,
        numbers: Sequence[int],
        queries: NDArray[np.float32],
        sparse: NDArray[np.float32],
        k: int,
        exclude: NDArray[np.int64],
        allowed: NDArray[np.bool_] | None,
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """The items of some platforms whose score can be among the best k of these, from a look at 8 bits of each."""
        ends = np.cumsum([len(self._rows[number]) for number in numbers])
        scores = np.empty(ends[-1], np.float32)
        parts = np.split(scores, ends[:-1])
        off = 0.0
        for number, part in zip(numbers, parts, strict=True):
            rough, rows = self._rough[number], self._rows[number]
            assert rough is not None  # noqa: S101
            off = max(off, rough.products(queries[number], out=part))
            some = _span(rows)
            part += self._model.bias[some]
            part += sparse[some]
            if allowed is not None:
                part[~allowed[some]] = -np.inf
            places = np.minimum(np.searchsorted(rows, exclude), len(rows) - 1)
            part[places[rows[places] == exclude]] = -np.inf
        worst = reached(scores, min(k, len(scores)))
        least = np.float32(max(worst - 2 * off - _ROUNDING * abs(worst), float(np.finfo(np.float32).min)))
        return [(number, self._rows[number][part >= least]) for number, part in zip(numbers, parts, strict=True)]

    def _searched(
        self,
        number: int,
        query: NDArray[np.float32],
        sparse: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        lift: NDArray[np.float32] | None,
    ) -> NDArray[np.int64]:
        """The items of a platform that a part of the score or a lift could put among the first k."""
        rows, index = self._rows[number], self._indexes[number]
        assert index is not None  # noqa: S101
        extended, admitted = np.append(query, np.float32(1))[None], None if allowed is None else allowed[rows]
        found = [rows[np.flatnonzero(sparse[rows])], _found(rows, index.search(extended, 10 * k, admitted)[0])]
        if lift is not None and (lifted := lift[rows] > 0).any():
            admitted = lifted if admitted is None else lifted & admitted
            found.append(_found(rows, index.search(extended, 10 * k, admitted)[0]))
        return np.unique(np.concatenate(found))


def _span(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Rows in their order; those that follow each other as a slice, which copies nothing."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _found(rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows[places[0][places[0] >= 0]]
    return found


def _joined(parts: Sequence[Ranked]) -> Ranked:
    if len(parts) == 1:
        return parts[0]
    rows, scores, merits = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "scores", "merits")
    )
    order = np.argsort(-merits, kind="stable")
    return Ranked(rows[order], scores[order], merits[order])


def _best(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    exclude: NDArray[np.int64],
    k: int,
    allowed: NDArray[np.bool_] | None,
    lift: NDArray[np.float32] | None = None,
    unit: float = 0.0,
) -> Ranked:
    kept = np.ones(max(rows.max(initial=-1), exclude.max(initial=-1)) + 1, dtype=np.bool_)
    kept[exclude] = False
    kept = kept[rows]
    if allowed is not None:
        kept &= allowed[rows]
    merits = scores if lift is None else scores + np.float32(unit) * lift[rows]
    places = best(np.where(kept, merits, np.float32(-np.inf)), k)
    return Ranked(rows[places], scores[places], merits[places])
