"""Bundles grown by items that came later: the mean of what they read like."""

import numpy as np
import pytest

from graph.interactions import Histories
from graph.keys import ItemKey
from graph.records import Item
from models.bundle import Bundle
from models.grown import Newcomer, Stacked, find_stand_ins, grow
from models.ranker import Ranker
from tests.serve.tiny import KEYS, write_tiny_bundle

NEW = ItemKey("films", "new")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


def history(*rows: int) -> Histories:
    count = len(rows)
    zeros = np.zeros(count, np.int64)
    return Histories(np.array([0, count]), np.array(rows), zeros, np.arange(count), np.ones(count, np.float32))


def newcomer(key: ItemKey = NEW, **shares: float) -> Newcomer:
    return Newcomer(Item(key, title="New"), {KEYS[int(row[1:])]: share for row, share in shares.items()})


def test_stand_ins_are_the_nearest_allowed_items_by_cosine_to_the_fourth():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 0]], np.float32)
    (found,) = find_stand_ins(
        np.array([[1, 0]], np.float32), vectors, np.array([False, True, True, True]), ["a", "b", "c", "d"]
    )
    assert found == {"b": 1.0}
    (found,) = find_stand_ins(np.array([[0.6, 0.8]], np.float32), vectors, np.ones(4, bool), ["a", "b", "c", "d"])
    total = 0.6**4 + 0.96**4 + 0.8**4
    assert found == pytest.approx({"a": 0.6**4 / total, "b": 0.96**4 / total, "c": 0.8**4 / total}, abs=1e-6)
    assert find_stand_ins(np.array([[1, 0]], np.float32), vectors, np.zeros(4, bool), ["a", "b", "c", "d"]) == [{}]


def test_a_newcomer_has_the_direction_and_length_of_its_stand_ins(bundle: Bundle):
    grown = grow(bundle, [newcomer(r0=0.75, r1=0.25)])
    assert (len(grown.items), grown.items.keys[-1], grown.titles[-1]) == (len(KEYS) + 1, "films:new", "New")
    vectors = bundle.flagship.vectors
    mean = 0.75 * vectors[0] + 0.25 * vectors[1]
    length = 0.75 * np.linalg.norm(vectors[0]) + 0.25 * np.linalg.norm(vectors[1])
    found = grown.flagship.vectors[len(KEYS)]
    np.testing.assert_allclose(found, mean * length / np.linalg.norm(mean), rtol=1e-4)
    np.testing.assert_allclose(sum(part[len(KEYS)] for part in grown.flagship.parts.values()), found, rtol=1e-4)
    bias = bundle.flagship.bias
    assert grown.flagship.bias[-1] == pytest.approx(0.75 * bias[0] + 0.25 * bias[1])
    weights, before = grown.flagship.leads_to.weights.toarray(), bundle.flagship.leads_to.weights.toarray()
    np.testing.assert_array_equal(weights[:-1, :-1], before)
    np.testing.assert_allclose(weights[:-1, -1], 0.75 * before[:, 0] + 0.25 * before[:, 1], rtol=1e-6)
    assert not weights[-1].any()


def test_a_newcomer_is_ranked_and_explained_and_counts_in_a_history(bundle: Bundle):
    grown = grow(bundle, [newcomer(r0=1.0)])
    ranker = Ranker(bundle).grown(grown)
    for past in (history(2), history(2, len(KEYS))):
        ranked = ranker.rank(past, exclude=np.array([2]), k=80)
        explained = ranker.explain(past, ranked.rows)
        assert len(KEYS) in ranked.rows
        for score, explanation in zip(ranked.scores, explained, strict=True):
            assert explanation.score == pytest.approx(float(score), abs=1e-4)
    assert ranker.similar(len(KEYS), k=1).rows == [0]
    assert len(KEYS) not in ranker.rank(history(2), platforms=["books"], exclude=np.array([2]), k=80).rows


def test_newcomers_whose_platform_or_stand_ins_are_unknown_stay_out(bundle: Bundle):
    strangers = [
        newcomer(ItemKey("radio", "1"), r0=1.0),
        newcomer(),
        Newcomer(Item(ItemKey("films", "x")), {"films:unheard-of": 1.0}),
        newcomer(ItemKey.parse(KEYS[0]), r0=1.0),
    ]
    assert grow(bundle, strangers) is bundle


def test_two_matrices_stacked_give_the_lines_that_one_would():
    first, second = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(4, dtype=np.float32).reshape(2, 2) + 10
    both, stacked = np.concatenate([first, second]), Stacked(first, second)
    assert (len(stacked), stacked.shape) == (5, (5, 2))
    for rows in (0, 4, np.array([4, 0, 3]), np.array([[0, 4], [2, 2]]), slice(1, 3), slice(1, 5), slice(None)):
        np.testing.assert_array_equal(stacked[rows], both[rows])
