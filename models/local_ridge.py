"""The linear item-item model of `leads_to` over many items: each item's weights solved on a few other items alone.

For a target j with support S, from the same G and A as in the dense closed form, so that it is exact where S is all:

    b = (G_SS + ridge I)^-1 (A_Sj + rho E_Sj)

That is SLIM with feature selection (fsSLIM: Ning & Karypis, ICDM 2011) and a ridge in the place of coordinate descent.
S are the items that would explain j best one at a time, those with the largest |A_ij + rho E_ij| / sqrt(G_ii + ridge).
G and A are sums over pairs of a person's events, made line by line when they are asked for and never whole, but every
line in full: G_SS is exact, because with entries left out it need not be positive definite.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import sposv
from scipy.sparse import csr_array, diags_array, vstack

from models.retrieval import ItemIndex

NEWEST: Final = 200
"""Events of each person that count: what they did before is left out, or one person would make millions of pairs."""

_HEAD: Final = 8192
"""Items with the most events, whose part of G is kept: they are in the support of most and take longest to make."""
_CELLS: Final = 32_000_000
"""Values of G and A in memory for targets that are solved together."""
_WORK: Final = 5_000_000
"""Pairs of events looked at in one piece."""
_QUERIES: Final = 128


@dataclass(frozen=True, eq=False)
class TextWeights:
    """E = left right' off the diagonal."""

    left: NDArray[np.float32]
    """[N, T]"""
    right: NDArray[np.float32]
    """[N, T]"""


@dataclass(frozen=True, eq=False)
class Steps:
    """What two events of a person add to G and A, by the k steps from the first of them to the second, |k| <= K."""

    flat: float
    """What X'X counts, which does not look at steps."""
    gram: NDArray[np.float32]
    """[2 K + 1, L] line K + k, column min(l, L - 1) where l events follow both."""
    asked: NDArray[np.float32]
    """[2 K + 1, 1] line K + k for a target and what came k steps after it."""


@dataclass(frozen=True, eq=False)
class Counts:
    """G and A by lines, from the newest events of each person."""

    item: NDArray[np.int32]
    """[E] person by person, oldest first."""
    begin: NDArray[np.int32]
    """[E] where the events of the same person begin."""
    end: NDArray[np.int32]
    """[E] and where the next person's do."""
    people: csr_array
    """X [U, N]"""
    wanted_by: csr_array
    """X' [N, U]"""
    events_of: csr_array
    """[N, E] the events of each item."""
    work: NDArray[np.int64]
    """[N] pairs of events that a line looks at."""
    steps: Steps

    @classmethod
    def of(cls, user: NDArray[np.int64], item: NDArray[np.int64], size: int, steps: Steps) -> Self:
        """Count events that are sorted by person and time, of items below `size`, those with the most events first."""
        _, first, length = np.unique(user, return_index=True, return_counts=True)
        newest = np.repeat(first + length, length) - np.arange(len(user)) <= NEWEST
        events, length = item[newest].astype(np.int32), np.minimum(length, NEWEST)
        ends = np.cumsum(length, dtype=np.int32)
        ones = np.ones(len(events), dtype=np.float32)
        people = csr_array((ones, events, np.append(np.int32(0), ends)), shape=(len(ends), size), copy=True)
        people.sum_duplicates()
        people.data[:] = 1
        events_of = csr_array((ones, (events, np.arange(len(events), dtype=np.int32))), shape=(size, len(events)))
        work = np.bincount(events, np.repeat(length, length), size).astype(np.int64)
        bounds = np.stack([ends - length, ends]).astype(np.int32)
        begin, end = np.repeat(bounds, length, axis=1)
        return cls(events, begin, end, people, people.T.tocsr(), events_of, work, steps)

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows in pieces of bounded work."""
        piece = np.cumsum(self.work[rows]) // _WORK
        yield from np.split(rows, np.flatnonzero(np.diff(piece)) + 1)

    def lines(self, rows: NDArray[np.int64], by_steps: NDArray[np.float32]) -> csr_array:
        """[len(rows), N] lines of G, or of A' with one for each target, by the table of `steps` that is given."""
        lines = np.float32(self.steps.flat) * (self.wanted_by[rows] @ self.people)
        mine, most = self.events_of[rows], by_steps.shape[1] - 1
        event, line = mine.indices, np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(mine.indptr))
        back, ahead = self.begin[event] - event, self.end[event] - event
        found = []
        for weights, steps in zip(by_steps, range(-(len(by_steps) // 2), len(by_steps)), strict=False):
            there = np.flatnonzero((back <= steps) & (steps < ahead))
            left = ahead[there] - 1 - max(steps, 0)
            found.append((weights[np.minimum(left, most)], line[there], self.item[event[there] + steps]))
        values, places, items = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return csr_array(lines + csr_array((values, (places, items)), shape=lines.shape))

    def diagonal(self) -> NDArray[np.float32]:
        """[N] the diagonal of G but for what an item that comes twice to a person adds between these two."""
        left = np.minimum(self.end - 1 - np.arange(len(self.end)), self.steps.gram.shape[1] - 1)
        own = self.steps.gram[len(self.steps.gram) // 2][left]
        counts = np.float32(self.steps.flat) * np.diff(self.wanted_by.indptr)
        return (counts + np.bincount(self.item, own, len(counts))).astype(np.float32)


def local_weights(counts: Counts, ridge: float, text: TextWeights | None, rho: float, support: int) -> csr_array:
    """B [N, N], with at most `support` weights a column.

    Args:
        ridge: what is added to the diagonal of G, rho included.
        rho: how much the text counts.
    Raises: ValueError if a support's equations cannot be solved in single precision with this ridge.
    """
    candidates, asked = _candidates(counts, ridge, text, rho, support)
    head = np.arange(min(_HEAD, candidates.shape[0]))
    head_gram = _dense(counts, head, head)
    rows, columns, values = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for targets in _alike(candidates):
        union = np.unique(candidates[targets].indices).astype(np.int64)
        heads = np.searchsorted(union, len(head))
        tail_gram = _dense(counts, union[heads:], union)
        wanted = asked[targets][:, union].toarray()
        if text is not None:
            wanted += np.float32(rho) * (text.right[targets] @ text.left[union].T)
        for target, line in zip(targets, wanted, strict=True):
            chosen = candidates.indices[candidates.indptr[target] : candidates.indptr[target + 1]]
            if not len(chosen):
                continue
            place, known = np.searchsorted(union, chosen), np.searchsorted(chosen, len(head))
            system = np.empty((len(chosen), len(chosen)), np.float32)  # the half below the diagonal is looked at
            system[:known, :known] = head_gram[np.ix_(chosen[:known], chosen[:known])]
            system[known:] = tail_gram[np.ix_(place[known:] - heads, place)]
            np.fill_diagonal(system, system.diagonal() + ridge)
            _, solved, failed = sposv(system.T, line[place], overwrite_a=True)
            if failed:
                raise ValueError(f"the equations of an item cannot be solved with ridge {ridge}: give a larger one")
            rows.append(chosen)
            columns.append(np.full(len(chosen), target, dtype=np.int32))
            values.append(solved)
    places = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.concatenate(values), places), shape=candidates.shape)


def largest(matrix: csr_array, k: int) -> csr_array:
    """The k largest values of each line, by absolute value."""
    kept = []
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        line = np.arange(start, end)
        if len(line) > k:
            line = start + np.sort(np.argpartition(-np.abs(matrix.data[start:end]), k)[:k])
        kept.append(line)
    place = np.concatenate(kept)
    ends = np.append(0, np.cumsum([len(line) for line in kept]))
    return csr_array((matrix.data[place], matrix.indices[place], ends), shape=matrix.shape)


def _candidates(
    counts: Counts, ridge: float, text: TextWeights | None, rho: float, support: int
) -> tuple[csr_array, csr_array]:
    """[N, N] a line for each target with a value at each item of its support, and A' there."""
    scale = 1 / np.sqrt(counts.diagonal() + np.float32(ridge))
    index = None if text is None else ItemIndex(text.left * scale[:, None])
    found, values = [], []
    for rows in counts.blocks(np.arange(len(scale))):
        asked = counts.lines(rows, counts.steps.asked)
        gain = csr_array(asked @ diags_array(scale))
        if text is not None and index is not None:
            gain = gain + np.float32(rho) * _told(index, text.right[rows], support + 1)
        own = csr_array((np.ones(len(rows), np.bool_), (np.arange(len(rows)), rows)), shape=gain.shape)
        gain = largest(gain - gain.multiply(own), support)
        gain.eliminate_zeros()
        gain.sort_indices()
        found.append(gain)
        chosen = csr_array((np.ones(gain.nnz, np.float32), gain.indices, gain.indptr), shape=gain.shape)
        values.append(asked.multiply(chosen).tocsr())
    return csr_array(vstack(found)), csr_array(vstack(values))


def _told(index: ItemIndex, queries: NDArray[np.float32], k: int) -> csr_array:
    """[B, N] the k largest inner products of each query."""
    parts = [index.search(queries[start : start + _QUERIES], k) for start in range(0, len(queries), _QUERIES)]
    items, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    line, place = np.nonzero(items >= 0)
    return csr_array((values[line, place], (line, items[line, place])), shape=(len(queries), len(index)))


def _dense(counts: Counts, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    lines, end = np.empty((len(rows), len(columns)), np.float32), 0
    for some in counts.blocks(rows):
        start, end = end, end + len(some)
        lines[start:end] = counts.lines(some, counts.steps.gram)[:, columns].toarray()
    return lines


def _alike(candidates: csr_array) -> Iterator[NDArray[np.int64]]:
    """The targets, halved until the supports of each part are few items together; which are alike decides speed alone.

    What a support says about its target is smoothed along supports, and each half lies on its side of the longest axis.
    """
    size = candidates.shape[0]
    places = np.random.default_rng(0).standard_normal((size, 32)).astype(np.float32)
    for _ in range(15):
        places += candidates @ places
        places -= places.mean(axis=0)
        places /= np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-9)
    parts = [np.arange(size)]
    while parts:
        part = parts.pop()
        union = np.unique(candidates[part].indices)
        if len(part) == 1 or (np.count_nonzero(union >= _HEAD) + len(part)) * len(union) <= _CELLS:
            yield part
            continue
        here = places[part] - places[part].mean(axis=0)
        order = np.argsort(here @ np.linalg.eigh(here.T @ here)[1][:, -1])
        parts += [np.sort(half) for half in np.array_split(part[order], 2)]
