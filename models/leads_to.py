"""LEADS_TO: the sparse part of the flagship's score, the largest weights of a linear item-item model.

    minimise  (1 - f) |X - X B|^2 + f |T - S B|^2 + lambda |B|^2,  the diagonal of B being 0

X: what people wanted; a line of S: what a person had wanted until some event, faded by age; of T: what came next.
With f = 0 this is EASE (Steck, WWW 2019), with f > 0 order counts (SLIST: Choi et al., WWW 2021); rho |B - E|^2 more
draws B to E, the weights by which an item's text follows from others' (L3AE: Moon et al., CIKM 2025). In closed form

    P = ((1 - f) X'X + f S'S + (lambda + rho) I)^-1
    C = (1 - f) X'X + f S'T + rho E,  B = P C - P diag(diag(P C) / diag(P))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, vstack

from graph.interactions import Histories, Interactions
from models.baselines.ease import EASE
from models.baselines.matrix import check_decay, positive_matrix, query_entries
from models.baselines.ridge import inverse
from models.local_ridge import Counts, Steps, TextWeights, largest, local_weights
from models.retrieval import ItemIndex

WEIGHTS: Final = 6_000_000
"""Weights that are kept of all lines together."""
DENSE_UP_TO: Final = 30_000
"""Items up to which an item-item matrix is inverted in one piece, 3.6 GB and minutes at the most; more are solved on
few items each."""
SUPPORT: Final = 100
"""Items that each item is solved on where there are many."""
ALIKE: Final = 20
"""Items with events whose texts are nearest, which stand in for an item without any."""

_BLOCK: Final = 512
_FEW: Final = 8
"""Where a list has so many times as many items as weights are met, they are added one by one."""
_CLOSE_OVER: Final = 10.0
"""Steps over which closeness falls to 1 / e."""
_CLOSE_STEPS: Final = int(5 * _CLOSE_OVER)
_FADE: Final = 0.7
"""Factor an event loses for each later one where the next event is asked for."""
_FADED: Final = 1e-3
"""What has faded to less is left out."""
_SMALLEST: Final = 1e-5
"""A weight has to be larger."""
SHARPNESS: Final = 4
"""Power of a cosine that says how much an item stands in for another."""


@dataclass(frozen=True)
class Linear:
    """How the linear model is fitted."""

    ridge: float = 300.0
    """lambda of EASE, at least 1."""
    closeness: float = 0.0
    """How much more two items say of each other when people wanted them shortly after each other: EASE's counts X'X get
    so many times the sum over people of exp(-steps between / 10)."""
    following: float = 0.0
    """Share of the fit that asks for every event given the faded ones before it, in [0, 1); the rest asks for every
    event given all others, as EASE does."""
    text: float = 0.0
    """rho, how much what the texts say counts beside what people did, where events follow each other."""

    def __post_init__(self) -> None:
        if self.ridge < 1 or min(self.closeness, self.text) < 0 or not 0 <= self.following < 1:
            raise ValueError(
                f"ridge is {self.ridge}, closeness {self.closeness}, following {self.following} and text {self.text}: "
                "give a ridge of at least 1, such as 300, a closeness and text of at least 0 and a share below 1"
            )
        if self.text and not self.following:
            raise ValueError(
                "text counts where events follow each other: give following a share, such as 0.7, or no text"
            )


PLAIN: Final = Linear()
CLOSE: Final = Linear(ridge=500.0, closeness=2.0)
NEXT: Final = Linear(ridge=100.0, following=0.7, text=100.0)


@dataclass(frozen=True, eq=False)
class LeadsTo:
    """score = sum over wanted events j of decay^age(j) * (scale * weights[j] + lift): EASE with few weights a line."""

    weights: csr_array
    """[N, N]; line j holds what having wanted item j adds to other items."""
    decay: float = 1.0
    """Factor an event loses for each later one of the same person."""
    scale: float = 1.0
    """What the sum is worth beside the dense part of the score."""
    lift: NDArray[np.float32] | None = None
    """[N] what every wanted event adds besides, as faded, so that items without events come up; None: nothing."""
    name: str = "leads_to"

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        linear: Linear = PLAIN,
        text: NDArray[np.float32] | None = None,
        *,
        keep: int | None = None,
    ) -> Self:
        """Solve and keep the largest weights of each line, by absolute value; no untouched item has a line.

        What leads to an untouched item is taken from items that are like it: the mean of the columns of its ALIKE
        touched neighbours by text, each counting as its cosine to the fourth power. They are of the item's platform
        where that has any. Of these weights, too, a line keeps as many as of the others.

        Above DENSE_UP_TO touched items each column of B is solved on SUPPORT items alone, from the newest events of
        each person (`models.local_ridge`).

        Args:
            text: [N, T] text vectors, 0 for items without any; None says nothing about any item.
            keep: weights a line; None keeps as many as make WEIGHTS in all.
        """
        num_items = len(interactions.items)
        keep = max(1, WEIGHTS // max(num_items, 1)) if keep is None else keep
        if keep < 1:
            raise ValueError(f"keep is {keep}: give at least 1 weight a line, such as 200")
        touched = np.unique(interactions.item[interactions.weight > 0])
        if len(touched) > DENSE_UP_TO:
            solved = _solve_locally(interactions, touched, linear, text, keep)
            return cls(_with_untouched(solved, interactions, touched, text, keep))
        weights_of = _solve(interactions, linear, text)
        lines, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        values = [np.zeros(0, np.float32)]
        for start in range(0, len(touched), _BLOCK):
            rows = touched[start : start + _BLOCK]
            block = weights_of(rows)
            block[np.arange(len(rows)), rows] = 0
            size = min(keep, num_items)
            best = np.argpartition(np.abs(block), num_items - size, axis=1)[:, num_items - size :]
            weights = np.take_along_axis(block, best, axis=1)
            line, place = np.nonzero(np.abs(weights) > _SMALLEST)
            lines.append(rows[line])
            columns.append(best[line, place])
            values.append(weights[line, place])
        coordinates = (np.concatenate(lines), np.concatenate(columns))
        solved = csr_array((np.concatenate(values), coordinates), shape=(num_items, num_items))
        return cls(_with_untouched(solved, interactions, touched, text, keep))

    @classmethod
    def empty(cls, num_items: int) -> Self:
        """No weights at all."""
        return cls(csr_array((num_items, num_items), dtype=np.float32))  # type: ignore[arg-type]

    def with_query(self, decay: float, scale: float) -> "LeadsTo":
        """The same weights under another decay and scale."""
        check_decay(decay)
        return LeadsTo(self.weights, decay, scale)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        size = self.weights.shape[0]
        person, item, value = query_entries(histories, size, self.decay)
        if _FEW * (self.weights.indptr[item + 1] - self.weights.indptr[item]).sum() < len(histories) * size:
            scores = np.zeros((len(histories), size), dtype=np.float32)
            entry, target, weight = self.lines(item)
            added = weight * value[entry] * np.float32(self.scale)
            np.add.at(scores.reshape(-1), target + person[entry] * size, added)
        else:
            query = csr_array((value, (person, item)), shape=(len(histories), size))
            scores = np.asarray((query @ self.weights).toarray() * np.float32(self.scale), dtype=np.float32)
        if self.lift is not None:
            mass = np.bincount(person, value, len(histories))
            scores += np.multiply.outer(mass.astype(np.float32), self.lift)
        return scores

    def lines(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """All that some items lead to: positions in `items`, items and weights, line by line."""
        starts = self.weights.indptr[items].astype(np.int64)
        lengths = self.weights.indptr[items + 1] - starts
        ends = np.cumsum(lengths)
        places = np.arange(lengths.sum()) + np.repeat(starts - ends + lengths, lengths)
        line = np.repeat(np.arange(len(items)), lengths)
        return line, self.weights.indices[places], self.weights.data[places]


def _solve(
    interactions: Interactions, linear: Linear, text: NDArray[np.float32] | None
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Rows of touched items -> [len(rows), N] weights; what is on the diagonal is left to the caller."""
    if not (linear.closeness or linear.following):
        return EASE.fit(interactions, ridge=linear.ridge).weights
    num_items = len(interactions.items)
    wanted = interactions.where(interactions.weight > 0)
    touched, place = np.unique(wanted.item, return_inverse=True)
    people = csr_array(positive_matrix(interactions)[:, touched])
    size = len(touched)
    gram = people.T @ people
    if linear.closeness:
        gram = gram + np.float32(linear.closeness) * _close(wanted.user, place, size)
    if not linear.following:
        weights = inverse(gram.toarray(order="C"), linear.ridge)
        weights /= -weights.diagonal()
        return lambda rows: _spread(weights[np.searchsorted(touched, rows)], touched, num_items)
    before, after = _followed(wanted.user, place, size)
    share = np.float32(linear.following)
    asked = csr_array((1 - share) * gram + share * (before.T @ after))
    solved = inverse(
        ((1 - share) * gram + share * (before.T @ before)).toarray(order="C"),
        linear.ridge + (0.0 if text is None else linear.text),
    )
    line = np.repeat(np.arange(size), np.diff(asked.indptr))
    own = np.bincount(asked.indices, asked.data * solved[asked.indices, line], size).astype(np.float32)
    said = _text_weights(text[touched] if text is not None and linear.text else np.zeros((size, 1), np.float32))
    left, right = np.float32(linear.text) * (solved @ said.left), said.right
    own += np.einsum("nt,nt->n", left, right)
    factor = own / solved.diagonal()  # what `said` has on its diagonal drops out here

    def rows_of(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        lines = np.searchsorted(touched, rows)
        block = solved[lines]
        weights = np.asarray(block @ asked + left[lines] @ right.T - block * factor, dtype=np.float32)
        return _spread(weights, touched, num_items)

    return rows_of


def _solve_locally(
    interactions: Interactions, touched: NDArray[np.int64], linear: Linear, text: NDArray[np.float32] | None, keep: int
) -> csr_array:
    """[N, N] the largest weights of each line, each column solved on few items."""
    wanted = interactions.where(interactions.weight > 0)
    touched = touched[np.argsort(-np.bincount(wanted.item)[touched], kind="stable")]
    place = np.empty(len(interactions.items), np.int64)
    place[touched] = np.arange(len(touched))
    counts = Counts.of(wanted.user, place[wanted.item], len(touched), _steps(linear))
    said = None if text is None or not linear.text else _text_weights(text[touched])
    rho = 0.0 if text is None else linear.text
    found = largest(local_weights(counts, linear.ridge + rho, said, rho, SUPPORT), keep).tocoo()
    kept = np.abs(found.data) > _SMALLEST
    places = (touched[found.row[kept]], touched[found.col[kept]])
    return csr_array((found.data[kept], places), shape=(len(interactions.items),) * 2)


def _with_untouched(
    weights: csr_array,
    interactions: Interactions,
    touched: NDArray[np.int64],
    text: NDArray[np.float32] | None,
    keep: int,
) -> csr_array:
    """[N, N] the weights, and for untouched items those of the touched ones that are like them."""
    if text is None:
        return weights
    lengths = np.linalg.norm(text, axis=1, keepdims=True)
    units = np.divide(text, lengths, out=np.zeros_like(text), where=lengths > 0)
    said, warm = lengths[:, 0] > 0, np.bincount(touched, minlength=len(text)) > 0
    stand_in = csr_array(weights.shape, dtype=np.float32)
    for platform in range(len(interactions.platforms)):
        there = interactions.item_platform == platform
        asked, alike = np.flatnonzero(said & ~warm & there), np.flatnonzero(said & warm & there)
        alike = alike if len(alike) else np.flatnonzero(said & warm)
        if len(asked) and len(alike):
            stand_in = stand_in + _shares(units, asked, alike)
    if not stand_in.nnz:
        return weights
    starts = range(0, weights.shape[0], _BLOCK)
    borrowed = [largest(csr_array(weights[start : start + _BLOCK] @ stand_in), keep) for start in starts]
    return csr_array(weights + vstack(borrowed, format="csr"))


def _shares(units: NDArray[np.float32], asked: NDArray[np.int64], alike: NDArray[np.int64]) -> csr_array:
    """[N, N] in the column of each item that is asked for, how much of it each of the nearest others makes."""
    index, size = ItemIndex(units[alike]), len(units)
    found = [index.search(units[asked[start : start + _BLOCK]], ALIKE) for start in range(0, len(asked), _BLOCK)]
    rows, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
    shares = np.where(rows < 0, 0, np.maximum(cosines, 0)) ** SHARPNESS
    total = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    places = alike[rows.ravel()], np.repeat(asked, rows.shape[1])
    return csr_array((shares.ravel(), places), shape=(size, size))


def _steps(linear: Linear) -> Steps:
    """What events of a person add to X'X, W, S'S and S'T pair by pair."""
    ages = int(np.log(_FADED) / np.log(_FADE)) + 1
    apart = np.abs(np.arange(-_CLOSE_STEPS, _CLOSE_STEPS + 1))[:, None]
    share, times = linear.following, np.arange(ages)
    close = (1 - share) * linear.closeness * np.exp(-apart / _CLOSE_OVER) * (apart < _CLOSE_STEPS)
    # Both are faded in every later event's line of S: by age and by age + apart.
    faded = np.where(times + apart < ages, _FADE ** (2 * times + apart), 0)
    together = np.concatenate([np.zeros_like(apart), np.cumsum(faded, axis=1)], axis=1)
    before = np.arange(_CLOSE_STEPS, -_CLOSE_STEPS - 1, -1)[:, None]
    next_to = np.where((before > 0) & (before <= ages), _FADE ** (before - 1.0), 0)
    gram, asked = close + share * together, close + share * next_to
    reach = _CLOSE_STEPS if linear.closeness else ages if share else 0
    some = slice(_CLOSE_STEPS - reach, _CLOSE_STEPS + reach + 1)
    return Steps(1 - share, gram[some].astype(np.float32), asked[some].astype(np.float32))


def _text_weights(text: NDArray[np.float32]) -> TextWeights:
    """EASE with the directions of the text space in the place of people: G_ij / (1 - G_jj), G = F (F'F + r I)^-1 F'.

    F: the texts, each of length 1. r is a third of what F'F is on average along a direction of whitened texts.
    """
    lengths = np.linalg.norm(text, axis=1, keepdims=True)
    units = np.divide(text, lengths, out=np.zeros_like(text), where=lengths > 0)
    ridge = max(1.0, len(units) / units.shape[1] / 3)
    left = units @ np.linalg.inv(units.T @ units + ridge * np.eye(units.shape[1], dtype=np.float32))
    diagonal = np.einsum("nt,nt->n", left, units)
    return TextWeights(left, units / (1 - diagonal)[:, None])


def _spread(lines: NDArray[np.float32], columns: NDArray[np.int64], num_items: int) -> NDArray[np.float32]:
    whole = np.zeros((len(lines), num_items), dtype=np.float32)
    whole[:, columns] = lines
    return whole


def _close(user: NDArray[np.int64], item: NDArray[np.int64], size: int) -> csr_array:
    """W [N, N]: for any two items the sum over people of exp(-steps between / 10), 1 for an item and itself."""
    counts = np.bincount(item, minlength=size).astype(np.float32)
    total = diags_array(counts, format="csr")
    for steps in range(1, _CLOSE_STEPS):
        same = user[steps:] == user[: len(user) - steps]
        pairs = item[: len(item) - steps][same], item[steps:][same]
        weight = np.full(len(pairs[0]), np.exp(-steps / _CLOSE_OVER), dtype=np.float32)
        close = csr_array((weight, pairs), shape=(size, size))
        total = total + close + close.T
    return csr_array(total)


def _followed(user: NDArray[np.int64], item: NDArray[np.int64], size: int) -> tuple[csr_array, csr_array]:
    """S and T [E, N]: for every event with another after it, the events up to it, faded by age, and that other."""
    event = np.flatnonzero(user[1:] == user[:-1])
    shape = (len(user), size)
    after = csr_array((np.ones(len(event), np.float32), (event, item[event + 1])), shape=shape)
    lines, columns, values = [], [], []
    for age in range(int(np.log(_FADED) / np.log(_FADE)) + 1):
        event = event[event >= age]
        event = event[user[event - age] == user[event]]
        lines.append(event)
        columns.append(item[event - age])
        values.append(np.full(len(event), _FADE**age, dtype=np.float32))
    places = (np.concatenate(lines), np.concatenate(columns))
    return csr_array((np.concatenate(values), places), shape=shape), after
