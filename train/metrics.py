"""Metrics of a ranking: pure functions, one value for each query.

Those of accuracy take `hits` [Q, D]: whether the item at each place of the ranking, best first, is relevant; and
where the formula asks for it `num_relevant` [Q], how many relevant items the query has, found or not, at least 1.
Those of a list, whoever it is for, take `items` [Q, D]: the row of the item at each place, -1 behind the last one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Items = NDArray[np.integer[Any]]
PerQuery = NDArray[np.float64]


def recall_at_k(hits: Hits, num_relevant: NDArray[np.int64], k: int) -> PerQuery:
    """[Q] relevant items in the first k places over all relevant items; as trec_eval's `recall`.

    Not divided by min(k, num_relevant) as LensKit does: with more relevant items than places it stays below 1.
    """
    _check(hits, k, num_relevant)
    return np.asarray(np.count_nonzero(hits[:, :k], axis=1) / num_relevant)


def ndcg_at_k(hits: Hits, num_relevant: NDArray[np.int64], k: int) -> PerQuery:
    """[Q] sum of 1 / log2(place + 1) over the hits in the first k places, over that of the best ranking possible.

    The best ranking has min(k, num_relevant) hits in front. Järvelin and Kekäläinen (TOIS 2002) with gains of 0 and 1;
    as trec_eval's `ndcg_cut`.
    """
    _check(hits, k, num_relevant)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    return np.asarray(hits[:, :k] @ discounts / ideal[np.minimum(num_relevant, k)])


def hit_rate_at_k(hits: Hits, k: int) -> PerQuery:
    """[Q] 1 if any of the first k places is relevant, else 0."""
    _check(hits, k)
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def reciprocal_rank(hits: Hits) -> PerQuery:
    """[Q] 1 / place of the first hit, 0 without one; its mean is MRR (Voorhees, TREC-8 1999)."""
    _check(hits, hits.shape[1])
    return np.asarray(hits.any(axis=1) / (hits.argmax(axis=1) + 1))


def f1_at_k(hits: Hits, num_relevant: NDArray[np.int64], k: int) -> PerQuery:
    """[Q] harmonic mean of precision, hits / k, and recall, hits / num_relevant: 2 hits / (k + num_relevant).

    Van Rijsbergen (Information Retrieval, 1979), chapter 7, with beta 1.
    """
    _check(hits, k, num_relevant)
    return np.asarray(2 * np.count_nonzero(hits[:, :k], axis=1) / (k + num_relevant))


def share_beaten(scores: NDArray[np.float32], query: NDArray[np.int64], others: NDArray[np.float32]) -> PerQuery:
    """[T] share of the irrelevant items of its query that each relevant item is scored above, ties counted half.

    The mean over the relevant items of a query is its AUC, the area under the ROC curve, by way of the statistic of
    Mann and Whitney (Hanley and McNeil, Radiology 1982); over all candidates, as in BPR (Rendle et al., UAI 2009,
    section 6.2). 1 where there is nothing to beat. Counted, not sorted: T passes over C scores.

    Args:
        scores: [T] of relevant items.
        query: [T] line of `others`.
        others: [Q, C] scores of the irrelevant candidates, NaN for what is none.
    """
    sizes = np.count_nonzero(~np.isnan(others), axis=1)
    behind = np.empty(len(scores))
    for place, (score, line) in enumerate(zip(scores, query, strict=True)):
        row = others[line]
        behind[place] = (np.count_nonzero(row > score) + np.count_nonzero(row >= score)) / 2
    return np.asarray(1 - behind / np.maximum(sizes, 1)[query])


def coverage_at_k(items: Items, k: int, num_items: int) -> float:
    """Share of a catalogue of num_items that is in the first k places of any query.

    Catalogue coverage of Ge, Delgado-Battenfeld and Jannach (RecSys 2010), section 2.1.
    """
    _check(items, k)
    shown = np.bincount(items[:, :k].ravel() + 1)  # row -1
    return int(np.count_nonzero(shown[1:])) / num_items


def diversity_at_k(items: Items, k: int, vectors: NDArray[np.float32]) -> PerQuery:
    """[Q] 1 - mean cosine over the pairs of items in the first k places; 0 where there are fewer than two.

    The complement of the intra-list similarity of Ziegler et al. (WWW 2005), section 3.3, averaged over the pairs.

    Args:
        vectors: [N, T] of the items, of any length; one of zeros is at a right angle to all.
    """
    _check(items, k)
    lengths = np.linalg.norm(vectors, axis=1)
    values = np.empty(len(items))
    for start in range(0, len(items), _QUERIES_AT_ONCE):
        part = items[start : start + _QUERIES_AT_ONCE, :k]
        scale = np.where(part < 0, 0, 1 / np.maximum(lengths[part], 1e-12)).astype(np.float32)
        unit = vectors[part] * scale[..., None]
        # The squared length of the sum is the sum over all pairs in both orders, and of each item with itself.
        both = np.square(unit.sum(axis=1)).sum(axis=1) - np.square(unit).sum(axis=(1, 2))
        size = np.count_nonzero(part >= 0, axis=1)
        values[start : start + len(part)] = np.where(size > 1, 1 - both / np.maximum(size * (size - 1), 1), 0)
    return values


def novelty_at_k(items: Items, k: int, share: PerQuery) -> PerQuery:
    """[Q] mean -log2 of the popularity of the items in the first k places, 0 for an empty list.

    Mean self-information: Zhou et al. (PNAS 2010); as Vargas and Castells (RecSys 2011), section 4, with p the share
    of all training events that an item has.

    Args:
        share: [N] above 0.
    """
    _check(items, k)
    surprise = np.append(-np.log2(share), 0.0)  # row -1
    size = np.count_nonzero(items[:, :k] >= 0, axis=1)
    return np.asarray(surprise[items[:, :k]].sum(axis=1) / np.maximum(size, 1))


_QUERIES_AT_ONCE = 512


def _check(places: Hits | Items, k: int, num_relevant: NDArray[np.int64] | None = None) -> None:
    if places.ndim != 2 or not 1 <= k <= places.shape[1]:
        raise ValueError(f"hits is {places.shape} and k {k}: expected [Q, D] with D at least k and k at least 1")
    if num_relevant is None:
        return
    if num_relevant.shape != places.shape[:1]:
        raise ValueError(f"num_relevant is {num_relevant.shape}: expected {places.shape[:1]}")
    if (num_relevant < 1).any():
        query = int(np.flatnonzero(num_relevant < 1)[0])
        raise ValueError(f"query {query} has {num_relevant[query]} relevant items: leave out queries without any")
