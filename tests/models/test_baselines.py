"""The contract of every scorer, and what is particular to each baseline."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from graph.interactions import Histories, Interactions
from graph.vocabulary import Vocabulary
from models.baselines.als import ALS
from models.baselines.ease import EASE
from models.baselines.gf_cf import GFCF
from models.baselines.interest_fusion import InterestFusion
from models.baselines.item_knn import ItemKNN
from models.baselines.l3ae import L3AE
from models.baselines.matrix import positive_matrix, query_matrix
from models.baselines.popularity import Popularity
from models.baselines.text_gcn import TextGCN
from models.scorer import Scorer
from tests.neural import NEURAL, SEQUENTIAL

Fit = Callable[[Interactions], Scorer]


def text_of(interactions: Interactions) -> np.ndarray:
    """[N, 6] texts: items of one parity have more in common than others; a last one without events has none."""
    num_items = len(interactions.items)
    text = np.random.default_rng(0).normal(scale=0.3, size=(num_items, 6))
    text[np.arange(num_items), np.arange(num_items) % 2] += 1
    text[-1] = 0 if interactions.item.max() < num_items - 1 else text[-1]
    return text.astype(np.float32)


SCORERS: dict[str, Fit] = {
    "popularity": Popularity.fit,
    "item-knn": ItemKNN.fit,
    "ease": lambda interactions: EASE.fit(interactions, ridge=5),
    "ease with recency": lambda interactions: EASE.fit(interactions, ridge=5, decay=0.8),
    "popularity per platform": lambda interactions: Popularity.fit(interactions, per_platform=True),
    "recent popularity": lambda interactions: Popularity.fit(interactions, half_life_days=1000),
    "l3ae": lambda interactions: L3AE.fit(interactions, text_of(interactions), ridge=3, text_ridge=2, text_weight=4),
    "gf-cf": lambda interactions: GFCF.fit(interactions, rank=2),
    "text-gcn": lambda interactions: TextGCN.fit(interactions, text_of(interactions), layers=2),
    "als": lambda interactions: ALS.fit(interactions, rank=2, confidence=3, ridge=0.1),
    "interest fusion": lambda interactions: InterestFusion.fit(interactions, rank=2),
    "interest fusion of texts": lambda interactions: InterestFusion.fit(interactions, text_of(interactions)),
}
SCORERS |= {name: partial(fit, seed=0, validate=None) for name, fit in (NEURAL | SEQUENTIAL).items()}
PERSONAL = [name for name in SCORERS if "popularity" not in name and name not in SEQUENTIAL]


def events(people: Sequence[Sequence[int | tuple[int, float]]], num_items: int) -> Interactions:
    """One line of items for each person, oldest first; an item may come with a weight."""
    flat = [
        (u, *(entry if isinstance(entry, tuple) else (entry, 1.0))) for u, line in enumerate(people) for entry in line
    ]
    user, item, weight = (np.array(column) for column in zip(*flat, strict=True))
    return Interactions(
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        type=np.zeros(len(flat), dtype=np.int64),
        at=np.arange(len(flat), dtype=np.int64),
        value=np.full(len(flat), np.nan, dtype=np.float32),
        weight=weight.astype(np.float32),
        users=Vocabulary(f"user:{u}" for u in range(len(people))),
        items=Vocabulary(f"p:{i}" for i in range(num_items)),
        event_types=("LIKED",),
        platforms=("p",),
        item_platform=np.zeros(num_items, dtype=np.int64),
    )


def checkerboard(people: int, num_items: int) -> Interactions:
    """Person u wants the items of u's own parity, except one of them: that one is what a scorer should find."""
    return events(
        [[i for i in range(num_items) if i % 2 == u % 2 and i != left_out(u, num_items)] for u in range(people)],
        num_items,
    )


def left_out(user: int, num_items: int) -> int:
    return (user * 2 + user % 2) % num_items


def unseen_best(scores: np.ndarray, histories: Histories) -> np.ndarray:
    scores = scores.copy()
    for b in range(len(histories)):
        scores[b, histories.item[histories.offsets[b] : histories.offsets[b + 1]]] = -np.inf
    return scores.argmax(axis=1)


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_gives_one_finite_float32_for_each_person_and_item(name: str) -> None:
    data = checkerboard(20, 12)
    scores = SCORERS[name](data).score(data.histories(np.arange(7)))
    assert scores.shape == (7, 12)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_scores_a_person_alike_whoever_else_is_in_the_batch(name: str) -> None:
    data = checkerboard(20, 12)
    scorer = SCORERS[name](data)
    together = scorer.score(data.histories(np.arange(20)))
    for user in (0, 7, 19):
        np.testing.assert_allclose(
            scorer.score(data.histories(np.array([user])))[0], together[user], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_scores_a_person_without_history_and_an_item_without_events(name: str) -> None:
    data = events([[0, 1], [1, 2], []], num_items=5)
    scores = SCORERS[name](data).score(data.histories(np.array([2, 0])))
    assert np.isfinite(scores).all()
    assert scores[1, 4] <= scores[1].max()


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_takes_dislikes_for_no_wish(name: str) -> None:
    wished = [[0, 1], [0, 1, 2], [2, 3], [1, 3]]
    disliked = [[0, 1, (3, -1.0)], [0, 1, 2, (3, -1.0)], [2, 3, (0, -1.0)], [1, 3]]
    alone, beside = events(wished, 4), events(disliked, 4)
    query = alone.histories(np.arange(4))
    np.testing.assert_allclose(SCORERS[name](beside).score(query), SCORERS[name](alone).score(query), rtol=1e-6)


@pytest.mark.parametrize("people", [10, 60], ids=["people fewer than items", "items fewer than people"])
@pytest.mark.parametrize("name", PERSONAL)
def test_every_personal_scorer_finds_the_item_left_out_of_a_checkerboard(name: str, people: int) -> None:
    data = checkerboard(people, 20)
    histories = data.histories(np.arange(people))
    best = unseen_best(SCORERS[name](data).score(histories), histories)
    assert best.tolist() == [left_out(u, 20) for u in range(people)]


def test_popularity_counts_the_events_of_positive_weight() -> None:
    data = events([[0, 1], [1, (2, -1.0)], [1, 0]], num_items=3)
    assert Popularity.fit(data).score(data.histories(np.array([2]))).tolist() == [[2.0, 3.0, 0.0]]


def test_item_knn_is_the_shrunk_cosine_worked_by_hand() -> None:
    data = events([[0, 1], [0, 1], [0], [1, 2]], num_items=3)
    # |0| = 3, |1| = 3, |2| = 1; 0 and 1 share two people, 1 and 2 one, 0 and 2 none.
    expected = [[0, 2 / (3 + 1), 0], [2 / (3 + 1), 0, 1 / (3**0.5 + 1)], [0, 1 / (3**0.5 + 1), 0]]
    model = ItemKNN.fit(data, shrinkage=1)
    np.testing.assert_allclose(model.similarity.toarray(), expected, rtol=1e-6)
    both = model.score(data.histories(np.array([0])))[0]
    np.testing.assert_allclose(both, np.add(expected[0], expected[1]), rtol=1e-6)


def test_item_knn_keeps_the_nearest_neighbours_only() -> None:
    data = events([[0, 1], [0, 1], [0], [1, 2]], num_items=3)
    kept = ItemKNN.fit(data, neighbours=1, shrinkage=1).similarity.toarray()
    assert (kept > 0).tolist() == [[False, True, False], [True, False, False], [False, True, False]]


@pytest.mark.parametrize("num_items", [8, 40], ids=["items fewer than people", "people fewer than items"])
def test_ease_is_the_closed_form_of_its_paper(num_items: int) -> None:
    rng = np.random.default_rng(1)
    people = [rng.choice(num_items, size=rng.integers(2, 6), replace=False).tolist() for _ in range(15)]
    data = events(people, num_items)
    X = positive_matrix(data).toarray().astype(np.float64)
    P = np.linalg.inv(X.T @ X + 7 * np.eye(num_items))
    B = np.eye(num_items) - P / np.diag(P)
    model = EASE.fit(data, ridge=7)
    assert (model.smoother.people is None) == (num_items == 8)
    np.testing.assert_allclose(model.score(data.histories(np.arange(15))), X @ B, atol=2e-6)
    np.testing.assert_allclose(model.weights(np.arange(num_items)), B, atol=2e-6)


def test_a_wish_loses_weight_with_each_later_event_and_its_newest_time_counts() -> None:
    data = events([[2, 0, 1, 0, (3, -1.0)]], num_items=4)
    # ages: 2 is 4 events old, 0 is 3 and again 1, 1 is 2; the dislike is no wish but an event.
    query = query_matrix(data.histories(np.array([0])), 4, decay=0.5)
    assert query.toarray().tolist() == [[0.5**1, 0.5**2, 0.5**4, 0.0]]


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.1, float("nan")])
def test_a_decay_that_is_no_factor_is_refused_with_its_value(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay is {decay}: give a factor"):
        EASE.fit(checkerboard(4, 4), decay=decay)


def test_an_ease_without_ridge_is_refused_with_its_value() -> None:
    with pytest.raises(ValueError, match=r"ridge is 0: give at least 1"):
        EASE.fit(checkerboard(4, 4), ridge=0)
