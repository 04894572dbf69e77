"""What is particular to baselines that learn: what they find, that seeds repeat, when they stop, what they may see."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graph.interactions import Histories, Interactions
from graph.snapshot import Snapshot
from graph.vocabulary import Vocabulary
from models.baselines.adversarial import AdversarialFactorisation
from models.baselines.alpharec import AlphaRec
from models.baselines.fitting import Pairs, minimise, seeded, wanted_among
from models.baselines.lightgcn import LightGCN, UserItemGraph
from models.baselines.matrix import positive_matrix, query_matrix
from models.baselines.matrix_factorisation import (
    MatrixFactorisation,
    bpr_loss,
    cross_entropy_loss,
    squared_loss,
)
from models.baselines.mult_vae import MultVAE
from models.baselines.next_item import NextItem, newest_items
from models.baselines.people import TrainedUsers, history_sums, row_means
from models.baselines.popularity import Popularity
from models.baselines.recurrent import Recurrent
from models.baselines.sasrec import SASRec
from models.baselines.two_tower import TwoTower
from models.baselines.xsimgcl import XSimGCL
from models.scorer import Scorer
from tests.neural import NEURAL, SEQUENTIAL
from tests.planted import taste_of

ALL = NEURAL | SEQUENTIAL


@pytest.fixture(scope="module")
def planted(planted_snapshot: Snapshot) -> Interactions:
    """The wanted events of the planted graph."""
    interactions = planted_snapshot.interactions()
    return interactions.where(interactions.weight > 0)


@pytest.fixture(scope="module")
def fitted(planted: Interactions) -> dict[str, Scorer]:
    """Every model on the planted graph."""
    return {name: fit(planted, 0, None) for name, fit in ALL.items()}


def strangers(histories: Histories) -> Histories:
    """The same events, of people whom nobody knows."""
    return replace(histories, users=None)


def share_of_own_taste(scorer: Scorer, data: Interactions, histories: Histories) -> float:
    """Of the four best items that a person has not had and others have, the share of their newest item's taste."""
    taste = np.array([taste_of(key) for key in data.items.keys])
    scores = scorer.score(histories)
    scores[:, np.bincount(data.item, minlength=len(data.items)) == 0] = -np.inf
    shares = []
    for person in range(len(histories)):
        had = histories.item[histories.offsets[person] : histories.offsets[person + 1]]
        scores[person, had] = -np.inf
        best = np.argsort(-scores[person])[:4]
        shares.append(float((taste[best] == taste[had[-1]]).mean()))
    return float(np.mean(shares))


def walkers(data: Interactions) -> NDArray[np.int64]:
    """The people with ten events or more: they have a taste, and something of it left to want."""
    return np.flatnonzero(np.diff(data.offsets) >= 10)


@pytest.mark.parametrize("name", ALL)
def test_every_neural_baseline_learns_the_planted_tastes_that_popularity_does_not_see(
    name: str, planted: Interactions, fitted: dict[str, Scorer]
) -> None:
    histories = planted.histories(walkers(planted))
    assert share_of_own_taste(Popularity.fit(planted), planted, histories) < 0.5
    assert share_of_own_taste(fitted[name], planted, histories) > 0.8


@pytest.mark.parametrize("name", ALL)
def test_every_neural_baseline_knows_the_taste_of_somebody_who_was_not_in_training(
    name: str, planted: Interactions, fitted: dict[str, Scorer]
) -> None:
    assert share_of_own_taste(fitted[name], planted, strangers(planted.histories(walkers(planted)))) > 0.8


@pytest.mark.parametrize("name", ALL)
def test_one_seed_gives_the_same_scores_and_another_seed_others(
    name: str, planted: Interactions, fitted: dict[str, Scorer]
) -> None:
    few = planted.where(planted.user < 12)
    histories = few.histories(np.arange(12))
    first, again, other = (ALL[name](few, seed, None).score(histories) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_fitting_leaves_the_random_numbers_of_the_caller_alone(planted: Interactions) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    LightGCN.fit(planted, dim=4, epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequential_baseline_finds_what_comes_next_in_a_ring(name: str) -> None:
    data = _walks([[(start + step) % 8 for step in range(6)] for start in range(8) for _ in range(3)], 8)
    scorer = SEQUENTIAL[name](data, 0, None)
    asked = _walks([[(start + step) % 8 for step in range(3)] for start in range(8)], 8).histories(np.arange(8))
    assert scorer.score(asked).argmax(axis=1).tolist() == [(start + 3) % 8 for start in range(8)]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequential_baseline_does_not_see_the_future(
    name: str, planted: Interactions, fitted: dict[str, Scorer]
) -> None:
    network = fitted[name].network  # type: ignore[attr-defined]
    item, length = torch.tensor([[4, 9, 2, 7, 1]]), torch.tensor([5])
    other = torch.tensor([[4, 9, 2, 8, 3]])
    with torch.inference_mode():
        before, after = network(item, length), network(other, length)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequential_baseline_gives_somebody_without_history_no_preference(
    name: str, planted: Interactions, fitted: dict[str, Scorer]
) -> None:
    nobody = planted.where(planted.user < 0).histories(np.arange(2))
    assert not fitted[name].score(nobody).any()


def test_the_newest_items_are_wanted_ones_oldest_first_and_padded_at_the_end() -> None:
    data = _walks([[5, 6, 7, 8], [], [1, 2]], 9)
    data = replace(data, weight=np.where(data.item == 7, -1, data.weight).astype(np.float32))
    item, length = newest_items(data.histories(np.arange(3)), 2)
    assert item.tolist() == [[6, 8], [0, 0], [1, 2]]
    assert length.tolist() == [2, 0, 2]


def test_a_known_person_keeps_the_trained_vector_and_others_are_folded_in() -> None:
    users = TrainedUsers(np.array([[1.0], [2.0]], np.float32), np.array([True, False]))
    histories = _walks([[0], [0]], 2).histories(np.array([1, 0]))
    folded = np.array([[7.0], [8.0]], np.float32)
    assert users.vectors_of(histories, folded).tolist() == [[7.0], [1.0]]
    assert users.vectors_of(strangers(histories), folded) is folded


def test_history_sums_and_row_means_worked_by_hand() -> None:
    data = _walks([[0, 1, 0, 2, 3], []], 4)
    items = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    histories = data.histories(np.arange(2))
    assert history_sums(histories, items).tolist() == [[(1 + 2 + 3 + 4) / 4**0.5], [0.0]]
    assert row_means(query_matrix(histories, 4), items).tolist() == [[(1 + 2 + 3 + 4) / 4], [0.0]]


def test_layers_of_the_graph_are_those_of_a_dense_product_and_messages_fold_people_in(planted: Interactions) -> None:
    graph = UserItemGraph.from_interactions(planted)
    X = positive_matrix(planted).toarray()
    A = np.block([[np.zeros((len(X), len(X))), X], [X.T, np.zeros((X.shape[1], X.shape[1]))]])
    degree = A.sum(axis=1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    A = root[:, None] * A * root
    x = torch.randn(len(A), 3, generator=torch.Generator().manual_seed(0))
    layers = graph.layers(x, 2)
    np.testing.assert_allclose(layers[1], A @ x.numpy(), atol=1e-5)
    np.testing.assert_allclose(layers[2], A @ A @ x.numpy(), atol=1e-5)
    histories = planted.histories(np.arange(len(X)))
    folded = history_sums(histories, graph.messages(layers[:-1]).numpy())
    np.testing.assert_allclose(folded, (layers[1] + layers[2])[: len(X)], atol=1e-5)


def test_pair_losses_worked_by_hand() -> None:
    positive, negative = torch.tensor([0.5, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    # (0.5^2 + 1^2 + 0) and (1^2 + 0 + 0)
    assert squared_loss(positive, negative).item() == pytest.approx((1.25 + 1) / 2)
    # -ln sigmoid(0) is ln 2, for one positive and two negatives
    zeros = torch.zeros(2), torch.zeros(2, 2)
    assert cross_entropy_loss(*zeros).item() == pytest.approx(3 * np.log(2))
    assert bpr_loss(*zeros).item() == pytest.approx(np.log(2))
    assert bpr_loss(positive, negative).item() == pytest.approx(
        np.mean([np.log1p(np.exp(0.5)), np.log1p(np.exp(-0.5)), np.log(2), np.log(2)])
    )


def test_pairs_draw_items_that_the_person_did_not_want() -> None:
    pairs = Pairs.from_matrix(positive_matrix(_walks([[0, 1], [4]], 6)))
    with seeded(0):
        drawn = pairs.unwanted(torch.tensor([0, 1]), 500)
    assert set(drawn[0].tolist()) == {2, 3, 4, 5}
    assert set(drawn[1].tolist()) == {0, 1, 2, 3, 5}


def test_negatives_that_a_person_wanted_are_told_from_the_others() -> None:
    people = positive_matrix(_walks([[0, 1], [4]], 6))
    wanted = wanted_among(people, torch.tensor([1, 0, 1]), torch.tensor([4, 0, 4, 5]))
    assert wanted.tolist() == [[True, False, True, False], [False, True, False, False], [True, False, True, False]]


def test_batches_hold_every_distinct_pair_once() -> None:
    pairs = Pairs.from_matrix(positive_matrix(_walks([[0, 1, 0], [4]], 6)))
    with seeded(0):
        batches = list(pairs.batches(2))
    assert [len(user) for user, _ in batches] == [2, 1]
    flat = {(int(u), int(i)) for user, item in batches for u, i in zip(user, item, strict=True)}
    assert flat == {(0, 0), (0, 1), (1, 4)}


@dataclass(frozen=True)
class _Counted:
    """A scorer that is a number."""

    value: float
    name: str = "counted"

    def score(self, histories: Histories) -> NDArray[np.float32]:
        return np.full((len(histories), 1), self.value, np.float32)


def _count(figures: list[float] | None, epochs: int, **settings: int) -> tuple[float, int]:
    """Minimise -x from 0 at a step of 1 an epoch; validation says `figures` in turn. The x kept, and epochs run."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    passed = 0

    def epoch() -> Iterator[Tensor]:
        nonlocal passed
        passed += 1
        yield -network.weight.sum()

    told = iter(figures or [])
    kept = minimise(
        network,
        epoch,
        lambda: _Counted(network.weight.item()),
        epochs=epochs,
        learning_rate=1.0,
        validate=(lambda scorer: next(told)) if figures else None,
        **settings,
    )
    return round(kept.value, 3), passed


def test_fitting_keeps_what_validation_liked_best_and_stops_when_it_gets_no_better() -> None:
    assert _count([0.1, 0.5, 0.4, 0.3, 0.9], 9, look_every=1, patience=2) == (2.0, 4)


def test_fitting_looks_at_validation_every_few_epochs_and_after_the_last() -> None:
    assert _count([0.1, 0.2, 0.3], 5, look_every=2, patience=2) == (5.0, 5)


def test_fitting_without_validation_takes_all_epochs() -> None:
    assert _count(None, 6) == (6.0, 6)


@pytest.mark.parametrize("name", ALL)
def test_every_neural_baseline_hands_itself_to_validation_and_keeps_what_it_liked(
    name: str, planted: Interactions
) -> None:
    few = planted.where(planted.user < 12)
    histories = few.histories(np.arange(12))
    seen: list[NDArray[np.float32]] = []

    def validate(scorer: Scorer) -> float:
        seen.append(scorer.score(histories))
        return -len(seen)

    np.testing.assert_array_equal(ALL[name](few, 0, validate).score(histories), seen[0])
    assert np.abs(seen[0] - seen[-1]).max() > 0


@pytest.mark.parametrize(
    ("fit", "settings", "message"),
    [
        (MatrixFactorisation.fit, {"loss": "hinge"}, "loss is 'hinge': give one of squared, cross_entropy, bpr"),
        (MatrixFactorisation.fit, {"negatives": 0}, "negatives is 0"),
        (MatrixFactorisation.fit, {"dim": 0}, "dim is 0"),
        (MatrixFactorisation.fit, {"batch": 0}, "batch is 0"),
        (MatrixFactorisation.fit, {"epochs": 0}, "epochs is 0"),
        (AdversarialFactorisation.fit, {"noise": -1.0}, "noise is -1.0"),
        (LightGCN.fit, {"layers": 0}, "layers is 0"),
        (LightGCN.fit, {"learning_rate": 0.0}, "learning_rate 0.0"),
        (XSimGCL.fit, {"temperature": 0.0}, "temperature 0.0"),
        (AlphaRec.fit, {"text": np.zeros((1, 2), np.float32)}, r"vectors are \(1, 2\)"),
        (TwoTower.fit, {"dropout": 1.0}, "dropout is 1.0"),
        (MultVAE.fit, {"latent": 0}, "latent 0"),
        (Recurrent.fit, {"cell": "rnn"}, "cell is 'rnn': give one of gru, lstm"),
        (SASRec.fit, {"dim": 10, "heads": 4}, "dim is 10, blocks 1 and heads 4"),
        (SASRec.fit, {"max_history": 0}, "max_history is 0"),
    ],
)
def test_a_setting_that_is_none_is_refused_with_its_value(
    fit: Any, settings: dict[str, Any], message: str, planted: Interactions
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(planted, **settings)


@pytest.mark.parametrize("name", ALL)
def test_nothing_wanted_is_nothing_to_learn_from(name: str, planted: Interactions) -> None:
    with pytest.raises(ValueError, match="positive weight"):
        ALL[name](planted.where(planted.user < 0), 0, None)


@pytest.mark.parametrize("fit", [TwoTower.fit, AlphaRec.fit], ids=["two-tower", "alpharec"])
def test_text_says_what_an_item_without_events_is_like(fit: Any, planted: Interactions) -> None:
    tastes = np.array([taste_of(key) for key in planted.items.keys])
    text = (tastes[:, None] == np.unique(tastes)).astype(np.float32)
    scorer = fit(planted, text, dim=8, negatives=32, epochs=10, batch=64, learning_rate=0.02)
    cold = np.flatnonzero(np.bincount(planted.item, minlength=len(planted.items)) == 0)
    histories = planted.histories(walkers(planted))
    best = cold[scorer.score(histories)[:, cold].argmax(axis=1)]
    assert (tastes[best] == tastes[histories.item[histories.offsets[1:] - 1]]).mean() > 0.9


def _walks(people: list[list[int]], num_items: int) -> Interactions:
    """One line of items for each person, oldest first."""
    user = np.repeat(np.arange(len(people)), [len(line) for line in people])
    item = np.array([each for line in people for each in line], np.int64)
    return Interactions(
        user=user,
        item=item,
        type=np.zeros(len(item), np.int64),
        at=np.arange(len(item)),
        value=np.full(len(item), np.nan, np.float32),
        weight=np.ones(len(item), np.float32),
        users=Vocabulary(f"user:{u}" for u in range(len(people))),
        items=Vocabulary(f"p:{i}" for i in range(num_items)),
        event_types=("LIKED",),
        platforms=("p",),
        item_platform=np.zeros(num_items, np.int64),
    )


def test_a_step_hides_a_share_of_all_items_numbers_and_a_question_none() -> None:
    network = NextItem(50, 40, nn.Identity(), dropout=0.2)
    step = network.train().vectors()
    hidden = step == 0
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.04)
    torch.testing.assert_close(step[~hidden], network.items.weight[~hidden] / 0.8)
    assert torch.equal(network.eval().vectors(), network.items.weight)
