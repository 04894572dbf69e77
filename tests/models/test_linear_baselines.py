"""The linear baselines against numbers worked by hand and against the dense formulas of their papers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix
from threadpoolctl import threadpool_info, threadpool_limits

from graph.interactions import Interactions
from graph.vocabulary import Vocabulary
from models.baselines import ridge
from models.baselines.als import ALS
from models.baselines.gf_cf import GFCF
from models.baselines.interest_fusion import InterestFusion
from models.baselines.l3ae import L3AE
from models.baselines.matrix import normalised, positive_matrix, right_singular_vectors
from models.baselines.popularity import Popularity
from models.baselines.text_gcn import TextGCN

DAY_S = 86_400


def events(
    people: Sequence[Sequence[int]], num_items: int, platforms: Sequence[int] = (), days: Sequence[float] = ()
) -> Interactions:
    """One line of items for each person, oldest first; platforms say where each item is, days when each event was."""
    user = np.repeat(np.arange(len(people)), [len(line) for line in people])
    count = len(user)
    return Interactions(
        user=user,
        item=np.array([item for line in people for item in line], dtype=np.int64),
        type=np.zeros(count, dtype=np.int64),
        at=(np.array(days) * DAY_S).astype(np.int64) if days else np.arange(count),
        value=np.full(count, np.nan, dtype=np.float32),
        weight=np.ones(count, dtype=np.float32),
        users=Vocabulary(f"user:{u}" for u in range(len(people))),
        items=Vocabulary(f"p:{i}" for i in range(num_items)),
        event_types=("LIKED",),
        platforms=tuple(f"p{number}" for number in range(max(platforms, default=0) + 1)),
        item_platform=np.array(platforms or [0] * num_items, dtype=np.int64),
    )


def random_events(num_people: int, num_items: int, platforms: Sequence[int] = ()) -> Interactions:
    random = np.random.default_rng(3)
    lines = [
        random.choice(num_items - 1, size=random.integers(1, 6), replace=False).tolist() for _ in range(num_people)
    ]
    return events([*lines, []], num_items, platforms)


def random_text(num_items: int) -> np.ndarray:
    text = np.random.default_rng(4).normal(size=(num_items, 5)).astype(np.float32)
    text[2] = 0
    return text


def test_popularity_halves_what_is_a_half_life_older_than_the_newest_event() -> None:
    data = events([[0, 1], [0, 2]], 3, days=[0, 30, 20, 10])
    # The newest is item 1 on day 30; item 0 was wanted 30 and 10 days before it, item 2 20 days.
    model = Popularity.fit(data, half_life_days=10)
    assert model.counts.tolist() == [1 / 8 + 1 / 2, 1, 1 / 4]
    assert model.name == "recent popularity"


def test_popularity_per_platform_is_the_share_of_the_platforms_events() -> None:
    data = events([[0, 1, 2], [0, 2, 2]], 4, platforms=[0, 0, 1, 2])
    # Platform 0 has 3 events, platform 1 has 3, platform 2 none.
    np.testing.assert_allclose(Popularity.fit(data, per_platform=True).counts, [2 / 3, 1 / 3, 1, 0])
    assert Popularity.fit(data).counts.tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("num_items", [8, 40], ids=["items fewer than people", "people fewer than items"])
def test_l3ae_is_the_closed_form_of_its_paper(num_items: int) -> None:
    data, F = random_events(15, num_items), random_text(num_items)
    X = positive_matrix(data).toarray().astype(np.float64)
    rX, rF, rE = 3.0, 2.0, 5.0
    P1 = np.linalg.inv(F.astype(np.float64) @ F.T + rF * np.eye(num_items))
    C = -P1 / np.diag(P1)
    np.fill_diagonal(C, 0)
    P2 = np.linalg.inv(X.T @ X + (rX + rE) * np.eye(num_items))
    B = rE * P2 @ C - P2 * ((1 + rE * np.diag(P2 @ C)) / np.diag(P2))
    np.fill_diagonal(B, 0)
    model = L3AE.fit(data, F, ridge=rX, text_ridge=rF, text_weight=rE)
    assert (model.smoother.people is None) == (num_items == 8)
    np.testing.assert_allclose(model.score(data.histories(np.arange(16))), X @ B, atol=3e-6)


def test_l3ae_scores_an_item_without_events_by_its_text() -> None:
    data = events([[0, 1], [0], [1]], num_items=4)
    text = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.float32)
    scores = L3AE.fit(data, text, ridge=1, text_ridge=1, text_weight=5).score(data.histories(np.array([1, 2])))
    assert scores[0, 2] > scores[0, 3]
    assert scores[1, 3] > scores[1, 2]


@pytest.mark.parametrize("rank", [2, 5], ids=["Lanczos", "dense"])
def test_gf_cf_is_the_formula_of_its_paper(rank: int) -> None:
    data = random_events(15, 9)
    X = positive_matrix(data).toarray().astype(np.float64)
    degrees = X.sum(axis=0)
    R = X / np.sqrt(np.maximum(X.sum(axis=1), 1))[:, None] / np.sqrt(np.maximum(degrees, 1))
    V = np.linalg.svd(R)[2][:rank].T
    root = np.diag(np.sqrt(degrees))
    W = R.T @ R + 0.7 * np.linalg.pinv(root) @ V @ V.T @ root
    scores = GFCF.fit(data, rank=rank, alpha=0.7).score(data.histories(np.arange(16)))
    np.testing.assert_allclose(scores, X @ W, atol=1e-5)


def test_singular_vectors_end_where_the_matrix_does() -> None:
    data = events([[0, 1], [0, 1], [2]], num_items=4)
    values, vectors = right_singular_vectors(normalised(positive_matrix(data)), rank=4)
    np.testing.assert_allclose(values, [1, 1], rtol=1e-6)
    assert vectors.shape == (2, 4)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_text_gcn_is_propagation_over_the_graph_of_people_and_items(layers: int) -> None:
    data, text = random_events(12, 9), random_text(9)
    X = positive_matrix(data).toarray().astype(np.float64)
    unit = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-12)
    A = np.block([[np.zeros((13, 13)), X], [X.T, np.zeros((9, 9))]])
    degrees = np.maximum(A.sum(axis=1), 1)
    A = A / np.sqrt(degrees)[:, None] / np.sqrt(degrees)
    layer = np.concatenate([X @ unit / np.maximum(X.sum(axis=1), 1)[:, None], unit])
    total = layer.copy()
    for _ in range(layers):
        layer = A @ layer
        total += layer
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    scores = TextGCN.fit(data, text, layers=layers).score(data.histories(np.arange(13)))
    np.testing.assert_allclose(scores, total[:13] @ total[13:].T, atol=2e-6)


def test_the_normal_equations_are_solved_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two OpenBLAS ends the process where items are many; the caller's threads are as before afterwards."""

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen = []

    def spotrf(matrix: NDArray[np.float32], **options: bool) -> tuple[NDArray[np.float32], int]:
        seen.append(threads())
        return solve(matrix, **options)

    solve = ridge.spotrf
    monkeypatch.setattr(ridge, "spotrf", spotrf)
    gram = np.array([[3, 1], [1, 2]], dtype=np.float32)
    with threadpool_limits(2, "blas"):
        before = threads()
        solved = ridge.inverse(gram.copy(), 1.0)
        assert threads() == before
    assert seen == [{1}]
    np.testing.assert_allclose(solved, np.linalg.inv(gram + np.eye(2)), rtol=1e-6)


def test_als_solves_a_person_as_implicit_does() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    data = random_events(30, 20)
    model = ALS.fit(data, rank=4, confidence=3, ridge=0.5, seed=1)
    with threadpool_limits(1, "blas"):
        theirs = AlternatingLeastSquares(
            factors=4, regularization=0.5, alpha=3, iterations=15, num_threads=1, random_state=1
        )
        theirs.fit(csr_matrix(positive_matrix(data)), show_progress=False)
        people = theirs.recalculate_user(np.arange(31), csr_matrix(positive_matrix(data)))
    np.testing.assert_allclose(model.items, theirs.item_factors, atol=1e-6)
    np.testing.assert_allclose(model.score(data.histories(np.arange(31))), people @ model.items.T, atol=1e-4)


def test_als_minimises_the_weighted_squared_error_of_a_person() -> None:
    data = events([[2, 0], [1]], num_items=3)
    items = np.array([[1, 0.5], [0, 1], [0.3, 1]], dtype=np.float32)
    model = ALS(items, confidence=4, ridge=0.1, decay=0.5)
    # Item 2 is one event old: its confidence is half way from 1 to 4.
    C = np.diag([4, 1, 2.5])
    x = np.linalg.inv(items.T @ C @ items + 0.1 * np.eye(2)) @ items.T @ C @ [1, 0, 1]
    np.testing.assert_allclose(model.score(data.histories(np.array([0])))[0], items @ x, rtol=1e-5)


def test_interest_fusion_adds_the_mean_interests_of_each_platform() -> None:
    data = events([[0, 1, 2]], 4, platforms=[0, 0, 1, 1])
    vectors = np.array([[1, 0], [0, 1], [2, 2], [1, 3]], dtype=np.float32)
    model = InterestFusion(vectors, np.array([[1, 10], [100, 1000]], np.float32), data.item_platform)
    # v[0] = (1/2, 1/2), v[1] = (2, 2); platform 0 is scored by 1 v[0] + 100 v[1], platform 1 by 10 v[0] + 1000 v[1].
    first, second = np.array([200.5, 200.5]), np.array([2005.0, 2005.0])
    expected = [first @ vectors[0], first @ vectors[1], second @ vectors[2], second @ vectors[3]]
    np.testing.assert_allclose(model.score(data.histories(np.array([0])))[0], expected)


def test_interest_fusion_fits_its_weights_to_what_people_wanted_without_the_item_itself() -> None:
    platforms = [0] * 5 + [1] * 4
    data, vectors = random_events(25, 9, platforms), random_text(9)
    weights = InterestFusion.fit(data, vectors, ridge=0).weights
    wanted = positive_matrix(data).toarray() > 0
    for target in (0, 1):
        features, wishes = [], []
        for u in range(26):
            for i in np.flatnonzero(np.array(platforms) == target):
                others = wanted[u].copy()
                others[i] = False
                own = [vectors[others & (np.array(platforms) == p)] for p in (0, 1)]
                features.append([v.mean(axis=0) @ vectors[i] if len(v) else 0.0 for v in own])
                wishes.append(wanted[u, i])
        expected = np.linalg.lstsq(np.array(features), np.array(wishes, dtype=np.float64))[0]
        np.testing.assert_allclose(weights[:, target], expected, rtol=1e-4)


def test_interest_fusion_learns_which_platform_says_something_about_another() -> None:
    random = np.random.default_rng(5)
    taste, noise = random.integers(0, 2, 60), random.integers(0, 2, 60)
    # Items 0-3 of platform 0 and 4-7 of platform 1 follow the same taste; platform 2 is wanted at random.
    people = [
        [*(random.permutation(2)[:1] * 2 + t), *(4 + random.permutation(2) * 2 + t), 8 + n]
        for t, n in zip(taste, noise, strict=True)
    ]
    vectors = np.eye(2, dtype=np.float32)[np.arange(10) % 2]
    data = events(people, 10, platforms=[0] * 4 + [1] * 4 + [2] * 2)
    weights = InterestFusion.fit(data, vectors).weights
    assert weights[1, 0] > 5 * abs(weights[2, 0])
    assert weights[0, 1] > 5 * abs(weights[2, 1])


def test_a_decay_makes_newer_wishes_count_more() -> None:
    data = events([[0, 1], [0, 2], [0, 2], [1, 3], [1, 3]], num_items=4)
    text = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    models = [
        L3AE.fit(data, text, ridge=1, text_ridge=1, text_weight=1),
        GFCF.fit(data, rank=2),
        TextGCN.fit(data, text),
        ALS.fit(data, rank=3, confidence=5, ridge=0.1),
        InterestFusion.fit(data, text),
    ]
    query = data.histories(np.array([0]))
    for model in models:
        gain = np.subtract(*(m.score(query)[0, 3] - m.score(query)[0, 2] for m in (replace(model, decay=0.2), model)))
        assert gain > 1e-3, model.name


FITS: dict[str, tuple[Callable[[Interactions], object], str]] = {
    "half-life": (lambda data: Popularity.fit(data, half_life_days=0), "half_life_days is 0: give more than 0"),
    "l3ae ridge": (lambda data: L3AE.fit(data, random_text(9), ridge=0), "ridge is 0 and text_weight 300"),
    "l3ae weight": (lambda data: L3AE.fit(data, random_text(9), text_weight=-1), "text_weight -1: give no negative"),
    "l3ae text ridge": (lambda data: L3AE.fit(data, random_text(9), text_ridge=0), "text_ridge is 0: give more than 0"),
    "l3ae texts": (lambda data: L3AE.fit(data, random_text(8)), r"the vectors are \(8, 5\) for 9 items"),
    "l3ae nan": (lambda data: L3AE.fit(data, random_text(9) * np.nan), "NaN or infinity: give zeros"),
    "gf-cf rank": (lambda data: GFCF.fit(data, rank=0), "rank is 0: give at least 1"),
    "gf-cf alpha": (lambda data: GFCF.fit(data, alpha=-1), "alpha is -1: give at least 0"),
    "text-gcn layers": (lambda data: TextGCN.fit(data, random_text(9), layers=-1), "layers is -1: give at least 0"),
    "text-gcn texts": (lambda data: TextGCN.fit(data, random_text(8)), r"the vectors are \(8, 5\) for 9 items"),
    "als rank": (lambda data: ALS.fit(data, rank=0), "rank is 0 and iterations 15: give at least 1"),
    "als ridge": (lambda data: ALS.fit(data, ridge=0), "confidence is 5.0 and ridge 0: give"),
    "als confidence": (lambda data: ALS.fit(data, confidence=0.5), "confidence is 0.5 and ridge 30.0: give"),
    "fusion ridge": (lambda data: InterestFusion.fit(data, ridge=-1), "ridge is -1: give at least 0"),
    "fusion vectors": (lambda data: InterestFusion.fit(data, random_text(8)), r"the vectors are \(8, 5\) for 9 items"),
    "decay": (lambda data: GFCF.fit(data, decay=2), "decay is 2: give a factor"),
}


@pytest.mark.parametrize("case", FITS)
def test_a_setting_that_makes_no_sense_is_refused_with_its_value(case: str) -> None:
    fit, message = FITS[case]
    with pytest.raises(ValueError, match=message):
        fit(random_events(12, 9))


def test_nobody_wanting_anything_is_no_failure() -> None:
    data = events([[], []], num_items=3)
    for model in (Popularity.fit(data, half_life_days=1, per_platform=True), GFCF.fit(data), InterestFusion.fit(data)):
        assert np.isfinite(model.score(data.histories(np.array([0, 1])))).all()
    assert right_singular_vectors(csr_array((2, 3), dtype=np.float32), 2)[1].shape == (0, 3)
