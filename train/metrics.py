"""Metrics of a ranking: pure functions of where the relevant items came, one value for each query.

Every function takes `hits` [Q, D]: whether the item at each place of the ranking, best first, is relevant; and
where the formula asks for it `num_relevant` [Q], how many relevant items the query has, found or not, at least 1.
"""

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
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


def _check(hits: Hits, k: int, num_relevant: NDArray[np.int64] | None = None) -> None:
    if hits.ndim != 2 or not 1 <= k <= hits.shape[1]:
        raise ValueError(f"hits is {hits.shape} and k {k}: expected [Q, D] with D at least k and k at least 1")
    if num_relevant is None:
        return
    if num_relevant.shape != hits.shape[:1]:
        raise ValueError(f"num_relevant is {num_relevant.shape}: expected {hits.shape[:1]}")
    if (num_relevant < 1).any():
        query = int(np.flatnonzero(num_relevant < 1)[0])
        raise ValueError(f"query {query} has {num_relevant[query]} relevant items: leave out queries without any")
