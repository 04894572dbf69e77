"""The best of many items: order, filters, completeness, and how much the approximate index finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retrieval import ItemIndex, top_k


def test_top_k_gives_the_best_first() -> None:
    rows, scores = top_k(np.array([[0.1, 0.9, 0.5], [3, 2, 1]], dtype=np.float32), 2)
    assert rows.tolist() == [[1, 2], [0, 1]]
    np.testing.assert_allclose(scores, [[0.9, 0.5], [3, 2]])


def test_top_k_fills_up_where_fewer_are_allowed_or_there_are() -> None:
    scores = np.array([[1, 3, 2]], dtype=np.float32)
    rows, best = top_k(scores, 5, np.array([True, False, True]))
    assert rows.tolist() == [[2, 0, -1, -1, -1]]
    assert best.tolist() == [[2, 1, -np.inf, -np.inf, -np.inf]]


def test_top_k_takes_a_filter_for_each_line() -> None:
    scores = np.array([[1, 3, 2], [1, 3, 2]], dtype=np.float32)
    rows, _ = top_k(scores, 1, np.array([[True, False, True], [True, True, True]]))
    assert rows.tolist() == [[2], [1]]


def test_top_k_refuses_a_filter_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"allowed is \(2,\): expected \(1, 3\) or \(3,\)"):
        top_k(np.zeros((1, 3), dtype=np.float32), 1, np.array([True, False]))


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 10))
def test_top_k_is_the_head_of_a_full_sort(seed: int, k: int, num_items: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(3, num_items)).astype(np.float32)
    allowed = rng.random((3, num_items)) < 0.7
    rows, best = top_k(scores, k, allowed)
    for b in range(3):
        expected = sorted(scores[b, allowed[b]].tolist(), reverse=True)[:k]
        assert best[b, : len(expected)].tolist() == expected
        kept = rows[b, rows[b] >= 0]
        assert len(set(kept.tolist())) == len(kept) == len(expected)
        assert allowed[b, kept].all()


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """20,000 items in 100 clusters and 200 queries near items, 32 wide."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(100, 32))
    items = centres[rng.integers(100, size=20_000)] + 0.5 * rng.normal(size=(20_000, 32))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    queries = items[rng.integers(20_000, size=200)] + 0.1 * rng.normal(size=(200, 32))
    return items.astype(np.float32), queries.astype(np.float32)


@pytest.fixture(scope="module")
def approximate(clustered: tuple[np.ndarray, np.ndarray]) -> ItemIndex:
    return ItemIndex(clustered[0], exact_up_to=1_000)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), expected.tolist(), strict=True)])
    )


def test_the_exact_index_is_top_k_of_inner_products(clustered: tuple[np.ndarray, np.ndarray]) -> None:
    items, queries = clustered
    rows, scores = ItemIndex(items).search(queries, 10)
    expected = np.argsort(-(queries @ items.T), axis=1)[:, :10]
    assert recall(rows, expected) == 1
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ items.T, rows, axis=1), rtol=1e-5)


def test_the_faiss_index_finds_nearly_all_of_the_exact_top_20_on_clustered_vectors(
    clustered: tuple[np.ndarray, np.ndarray], approximate: ItemIndex
) -> None:
    items, queries = clustered
    exact, _ = ItemIndex(items).search(queries, 20)
    rows, scores = approximate.search(queries, 20)
    assert recall(rows, exact) >= 0.95
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
def test_a_filtered_answer_is_complete_and_keeps_to_the_filter(
    clustered: tuple[np.ndarray, np.ndarray], approximate: ItemIndex, share: float
) -> None:
    items, queries = clustered
    allowed = np.random.default_rng(5).random(len(items)) < share
    rows, _ = approximate.search(queries, 50, allowed)
    exact, _ = ItemIndex(items).search(queries, 50, allowed)
    possible = min(50, np.count_nonzero(allowed))
    assert (np.count_nonzero(rows >= 0, axis=1) == possible).all()
    assert allowed[rows[rows >= 0]].all()
    assert recall(rows[:, :possible], exact[:, :possible]) >= 0.9


def test_a_filter_that_leaves_one_far_cluster_still_fills_the_answer(approximate: ItemIndex) -> None:
    """The lists nearest to the query hold nothing that is allowed: the search has to go on."""
    query = approximate.vectors[:1]
    allowed = np.zeros(len(approximate), dtype=np.bool_)
    allowed[np.argsort(approximate.vectors @ query[0])[:1_500]] = True
    rows, _ = approximate.search(query, 100, allowed)
    assert (rows >= 0).all()
    assert allowed[rows].all()


def test_vectors_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors is float64 \(3, 2\): expected float32 \[N, D\]"):
        ItemIndex(np.zeros((3, 2)))


@pytest.mark.parametrize("kinds", [3, 100_000])
@pytest.mark.parametrize("num_items", [100, 1_601, 50_000])
def test_one_line_of_many_items_gives_what_many_lines_give(num_items: int, kinds: int) -> None:
    random = np.random.default_rng(num_items)
    scores = random.integers(0, kinds, (1, num_items)).astype(np.float32)
    allowed = random.random(num_items) < 0.5
    for k in (1, 20, 200):
        rows, best = top_k(scores, k, allowed)
        _, expected = top_k(np.repeat(scores, 2, axis=0), k, allowed)
        np.testing.assert_array_equal(best[0], expected[0])
        found = rows[0][rows[0] >= 0]
        np.testing.assert_array_equal(scores[0][found], best[0][rows[0] >= 0])
        assert len(set(found.tolist())) == len(found)
        assert allowed[found].all()


def test_one_line_without_any_item_allowed_gives_none() -> None:
    rows, _ = top_k(np.ones((1, 5_000), np.float32), 3, np.zeros(5_000, dtype=np.bool_))
    assert (rows == -1).all()
