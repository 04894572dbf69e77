"""The metrics, worked by hand and against trec_eval."""

import math

import numpy as np
import pytest
import pytrec_eval

from train.metrics import (
    coverage_at_k,
    diversity_at_k,
    f1_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    novelty_at_k,
    recall_at_k,
    reciprocal_rank,
    share_beaten,
)

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


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    precision, recall = 2 / 4, 2 / 3
    np.testing.assert_allclose(f1_at_k(HITS, RELEVANT, 4)[0], 2 * precision * recall / (precision + recall))
    assert f1_at_k(HITS, RELEVANT, 4).tolist() == [2 * 2 / (4 + 3), 0, 2 * 4 / (4 + 6)]


def test_a_relevant_item_beats_what_is_scored_lower_and_half_of_what_is_scored_alike() -> None:
    nan = np.nan
    others = np.array([[1, 2, 3, nan], [5, nan, nan, nan], [nan, nan, nan, nan]], dtype=np.float32)
    scores, query = np.array([2.5, 2, 0, 5, 0], dtype=np.float32), np.array([0, 0, 0, 1, 2])
    np.testing.assert_allclose(share_beaten(scores, query, others), [2 / 3, (1 + 1 / 2) / 3, 0, 1 / 2, 1])


def test_the_mean_share_beaten_is_the_area_under_the_roc_curve() -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 20, size=100).astype(np.float32)  # with ties
    relevant = rng.random(100) < 0.2
    others = np.where(relevant, np.nan, scores)[None].astype(np.float32)
    auc = share_beaten(scores[relevant], np.zeros(np.count_nonzero(relevant), np.int64), others).mean()
    thresholds = np.arange(20, -1, -1)
    true = [np.mean(scores[relevant] >= threshold) for threshold in thresholds]
    false = [np.mean(scores[~relevant] >= threshold) for threshold in thresholds]
    assert auc == pytest.approx(np.trapezoid(true, false))


ITEMS = np.array([[0, 1, 2], [2, 3, -1], [-1, -1, -1]])
"""A full list, one of two items, an empty one."""


def test_coverage_is_the_share_of_the_catalogue_in_any_list() -> None:
    assert coverage_at_k(ITEMS, 1, 8) == 2 / 8
    assert coverage_at_k(ITEMS, 3, 8) == 4 / 8


def test_diversity_is_one_less_the_mean_cosine_of_the_pairs_of_a_list() -> None:
    vectors = np.array([[2, 0], [0, 3], [1, 1], [-5, -5]], dtype=np.float32)
    cosines = (0 + 1 / math.sqrt(2) + 1 / math.sqrt(2)) / 3
    np.testing.assert_allclose(diversity_at_k(ITEMS, 3, vectors), [1 - cosines, 1 - -1, 0], atol=1e-6)
    assert diversity_at_k(ITEMS, 1, vectors).tolist() == [0, 0, 0]
    unknown = np.zeros((4, 2), np.float32)
    assert diversity_at_k(ITEMS, 3, unknown).tolist() == [1, 1, 0]


def test_novelty_is_the_mean_self_information_of_a_list() -> None:
    share = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    np.testing.assert_allclose(novelty_at_k(ITEMS, 3, share), [(1 + 2 + 3) / 3, 3, 0])
    np.testing.assert_allclose(novelty_at_k(ITEMS, 1, share), [1, 3, 0])


def test_recall_ndcg_and_f1_agree_with_trec_eval_on_random_rankings() -> None:
    rng = np.random.default_rng(7)
    num_items, depth = 60, 25
    relevant = [rng.choice(num_items, size=rng.integers(1, 40), replace=False) for _ in range(200)]
    rankings = np.stack([rng.permutation(num_items) for _ in relevant])
    hits = np.stack([np.isin(ranking, items) for ranking, items in zip(rankings, relevant, strict=True)])[:, :depth]
    num_relevant = np.array([len(items) for items in relevant])

    qrels = {f"q{q}": {f"i{item}": 1 for item in items} for q, items in enumerate(relevant)}
    run = {f"q{q}": {f"i{item}": float(-place) for place, item in enumerate(line)} for q, line in enumerate(rankings)}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"recall_20", "ndcg_cut_20", "P_20"}).evaluate(run)
    for metric, ours in {"recall_20": recall_at_k, "ndcg_cut_20": ndcg_at_k}.items():
        theirs = [trec[f"q{q}"][metric] for q in range(len(relevant))]
        np.testing.assert_allclose(ours(hits, num_relevant, 20), theirs, atol=1e-6, rtol=0)
    both = [(line["P_20"], line["recall_20"]) for line in (trec[f"q{q}"] for q in range(len(relevant)))]
    f1 = [2 * precision * recall / (precision + recall or 1) for precision, recall in both]
    np.testing.assert_allclose(f1_at_k(hits, num_relevant, 20), f1, atol=1e-6, rtol=0)


def test_a_query_without_relevant_items_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="query 1 has 0 relevant items: leave out queries without any"):
        recall_at_k(HITS, np.array([3, 0, 6]), 2)


def test_a_cut_off_beyond_the_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hits is \(3, 4\) and k 5"):
        ndcg_at_k(HITS, RELEVANT, 5)
