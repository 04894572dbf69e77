"""Reranking: orders worked by hand, and what holds of every list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rerank import Share, rerank

# Two of a kind to the east, one to the north, one between.
EAST, NORTH = [1.0, 0.0], [0.0, 2.0]
VECTORS = np.array([EAST, EAST, NORTH, [1.0, 1.0]], dtype=np.float32)
RELEVANCE = np.array([4.0, 3.0, 1.0, 0.0], dtype=np.float32)


def test_without_diversity_the_order_is_that_of_relevance():
    assert rerank(RELEVANCE[::-1].copy(), VECTORS, 3).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("diversity", "order"),
    [
        # Second place: 1 has .75 of relevance and cosine 1, 2 has .25 and 0, 3 has 0 and .71.
        (0.2, [0, 1, 2, 3]),  # .8*.75 - .2 = .40   .8*.25 = .20
        (0.5, [0, 2, 1, 3]),  # .5*.75 - .5 = -.125 .5*.25 = .125; then 1 has -.125 and 3 has -.35
        (1.0, [0, 2, 3, 1]),  # -1, 0, -.71
    ],
)
def test_diversity_trades_relevance_for_distance(diversity: float, order: list[int]):
    assert rerank(RELEVANCE, VECTORS, 4, diversity=diversity).tolist() == order


def test_a_group_gets_its_share_of_every_beginning_of_the_list():
    groups = np.array([0, 0, 0, 0, 1, 1])
    relevance = np.array([6, 5, 4, 3, 2, 1], dtype=np.float32)
    vectors = np.ones((6, 2), dtype=np.float32)
    found = rerank(relevance, vectors, 6, groups=groups, shares={1: Share(at_least=1 / 3)})
    assert found.tolist() == [0, 1, 4, 2, 3, 5]
    half = rerank(relevance, vectors, 6, groups=groups, shares={0: Share(at_most=0.5)})
    assert half.tolist() == [0, 4, 1, 5, 2]  # the fifth place may be group 0's: of 5 it may have 3, of 6 no more
    assert rerank(relevance, vectors, 6, groups=groups, shares={0: Share(at_most=0.0)}).tolist() == [4, 5]


def test_what_is_buried_comes_last_even_where_only_distance_counts():
    buried = np.array([True, False, False, False])
    for diversity in (0.0, 0.5, 1.0):
        assert rerank(RELEVANCE, VECTORS, 4, diversity=diversity, buried=buried).tolist()[-1] == 0


def test_a_pinned_candidate_has_its_place_and_no_other():
    assert rerank(RELEVANCE, VECTORS, 4, pins={1: 3}).tolist() == [0, 3, 1, 2]
    assert rerank(RELEVANCE, VECTORS, 2, pins={3: 0}).tolist() == [1, 2]
    assert rerank(RELEVANCE, VECTORS, 9, pins={7: 0}).tolist() == [1, 2, 3, 0]


def test_no_candidates_make_no_list():
    assert rerank(np.zeros(0, np.float32), np.zeros((0, 2), np.float32), 5, diversity=0.5).tolist() == []


@pytest.mark.parametrize("wrong", [(-0.1, 1), (0.6, 0.5), (0, 1.1)])
def test_a_share_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="give 0 <= at_least"):
        Share(*wrong)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0.5, 1))
def test_whatever_is_asked_nothing_comes_twice_and_shares_hold(seed, diversity, at_least, at_most):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 3, 40)
    relevance, vectors = random.normal(size=40).astype(np.float32), random.normal(size=(40, 4)).astype(np.float32)
    shares = {0: Share(at_least, at_most), 1: Share(0, at_most)}
    found = rerank(relevance, vectors, 30, diversity=diversity, groups=groups, shares=shares)
    assert len(set(found.tolist())) == len(found)
    for length in range(1, len(found) + 1):
        of = [int((groups[found[:length]] == group).sum()) for group in (0, 1)]
        assert max(of) <= at_most * length + 1
        assert of[0] > at_least * length - 1 or of[0] == (groups == 0).sum()
