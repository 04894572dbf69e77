"""The metrics, worked by hand and against trec_eval."""

import math

import numpy as np
import pytest
import pytrec_eval

from train.metrics import hit_rate_at_k, ndcg_at_k, recall_at_k, reciprocal_rank

HITS = np.array([[False, True, False, True], [False, False, False, False], [True, True, True, True]])
"""Two of three relevant items at places 2 and 4; none of one; the first four of six."""
RELEVANT = np.array([3, 1, 6])


def test_recall_is_hits_over_all_relevant_items_even_with_fewer_places() -> None:
    assert recall_at_k(HITS, RELEVANT, 2).tolist() == [1 / 3, 0, 2 / 6]
    assert recall_at_k(HITS, RELEVANT, 4).tolist() == [2 / 3, 0, 4 / 6]


def test_ndcg_compares_with_the_best_ranking_there_could_be() -> None:
    log2 = math.log2
    dcg = 1 / log2(3) + 1 / log2(5)
    ideal = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    np.testing.assert_allclose(ndcg_at_k(HITS, RELEVANT, 4), [dcg / ideal, 0, 1])
    np.testing.assert_allclose(ndcg_at_k(HITS, RELEVANT, 2), [(1 / log2(3)) / (1 + 1 / log2(3)), 0, 1])


def test_hit_rate_asks_whether_there_is_any_hit() -> None:
    assert hit_rate_at_k(HITS, 1).tolist() == [0, 0, 1]
    assert hit_rate_at_k(HITS, 4).tolist() == [1, 0, 1]


def test_reciprocal_rank_is_one_over_the_place_of_the_first_hit() -> None:
    assert reciprocal_rank(HITS).tolist() == [1 / 2, 0, 1]


def test_recall_and_ndcg_agree_with_trec_eval_on_random_rankings() -> None:
    rng = np.random.default_rng(7)
    num_items, depth = 60, 25
    relevant = [rng.choice(num_items, size=rng.integers(1, 40), replace=False) for _ in range(200)]
    rankings = np.stack([rng.permutation(num_items) for _ in relevant])
    hits = np.stack([np.isin(ranking, items) for ranking, items in zip(rankings, relevant, strict=True)])[:, :depth]
    num_relevant = np.array([len(items) for items in relevant])

    qrels = {f"q{q}": {f"i{item}": 1 for item in items} for q, items in enumerate(relevant)}
    run = {f"q{q}": {f"i{item}": float(-place) for place, item in enumerate(line)} for q, line in enumerate(rankings)}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"recall_20", "ndcg_cut_20", "recip_rank"}).evaluate(run)
    for metric, ours in {"recall_20": recall_at_k, "ndcg_cut_20": ndcg_at_k}.items():
        theirs = [trec[f"q{q}"][metric] for q in range(len(relevant))]
        np.testing.assert_allclose(ours(hits, num_relevant, 20), theirs, atol=1e-6, rtol=0)


def test_a_query_without_relevant_items_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="query 1 has 0 relevant items: leave out queries without any"):
        recall_at_k(HITS, np.array([3, 0, 6]), 2)


def test_a_cut_off_beyond_the_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hits is \(3, 4\) and k 5"):
        ndcg_at_k(HITS, RELEVANT, 5)
