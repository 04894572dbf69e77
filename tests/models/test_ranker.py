"""The ranker: what the flagship scores best, filtered and excluded; exact and approximate search agree."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models.bundle import Bundle
from models.ranker import Ranker
from tests.networks import NUM_ITEMS, PLATFORM_OF, histories, random_flagship, random_histories

NOTHING = np.zeros(0, np.int64)


def ranker_of(flagship, exact_up_to: int = 100_000, look_from: int = 100_000) -> Ranker:
    bundle = SimpleNamespace(
        flagship=flagship, item_platform=flagship.item_platform, platforms=["a", "b", "c"], knowledge={}
    )
    return Ranker(bundle, exact_up_to, look_from)


@pytest.fixture(scope="module")
def flagship():
    return random_flagship()


@pytest.mark.parametrize("length", [0, 1, 8])
def test_the_ranking_is_that_of_the_flagships_scores(flagship, length: int) -> None:
    history = random_histories([length])
    ranked = ranker_of(flagship).rank(history, exclude=NOTHING, k=NUM_ITEMS)
    scores = flagship.score(history)[0]
    assert sorted(ranked.rows) == list(range(NUM_ITEMS))
    assert ranked.scores == pytest.approx(scores[ranked.rows], abs=1e-5)
    assert (np.diff(ranked.scores) <= 0).all()


def test_only_the_platforms_asked_for_are_chosen_from(flagship) -> None:
    history = random_histories([5])
    ranked = ranker_of(flagship).rank(history, platforms=["c", "a"], exclude=NOTHING, k=NUM_ITEMS)
    assert set(ranked.rows) == set(np.flatnonzero(PLATFORM_OF != 1))
    single = ranker_of(flagship).rank(history, platforms=["b"], exclude=NOTHING, k=4)
    best = np.flatnonzero(PLATFORM_OF == 1)[np.argsort(-flagship.score(history)[0][PLATFORM_OF == 1])[:4]]
    assert single.rows.tolist() == best.tolist()


@pytest.mark.parametrize("platforms", [[], ["nowhere"]])
def test_no_platform_or_an_unknown_one_is_refused_with_those_there_are(flagship, platforms: list[str]) -> None:
    ranker = ranker_of(flagship)
    with pytest.raises(ValueError, match=f"name at least one of {', '.join(ranker.bundle.platforms)}"):
        ranker.rank(random_histories([3]), platforms=platforms, exclude=np.zeros(0, np.int64), k=3)


def test_what_is_excluded_is_not_returned_and_its_place_is_taken(flagship) -> None:
    history = random_histories([5])
    whole = ranker_of(flagship).rank(history, exclude=NOTHING, k=NUM_ITEMS)
    without = ranker_of(flagship).rank(history, exclude=whole.rows[[0, 2]], k=3)
    assert without.rows.tolist() == whole.rows[[1, 3, 4]].tolist()


def test_only_what_is_allowed_is_returned_and_the_list_is_full_where_it_can_be(flagship) -> None:
    history = random_histories([5])
    allowed = np.arange(NUM_ITEMS) % 3 == 1
    ranked = ranker_of(flagship).rank(history, exclude=NOTHING, k=NUM_ITEMS, allowed=allowed)
    assert set(ranked.rows) == set(np.flatnonzero(allowed))
    assert set(ranker_of(flagship).similar(4, k=NUM_ITEMS, allowed=allowed).rows) == set(ranked.rows) - {4}
    many = np.arange(6000) % 50 == 7
    for probed in (ranker_of(large_flagship(6000), exact_up_to=500), ranker_of(large_flagship(6000), exact_up_to=20)):
        found = probed.rank(history, exclude=np.array([7]), k=100, allowed=many)
        assert len(found.rows) == 100
        assert many[found.rows].all()


def test_a_lift_is_counted_in_standard_deviations_of_the_persons_scores_and_told_apart_from_them(flagship) -> None:
    history = random_histories([5])
    scores = flagship.score(history)[0]
    lift = np.where(np.arange(NUM_ITEMS) == 11, np.float32(2), np.float32(0))
    ranked = ranker_of(flagship).rank(history, exclude=NOTHING, k=NUM_ITEMS, lift=lift)
    expected = scores + scores.std() * lift
    assert ranked.rows.tolist() == np.argsort(-expected, kind="stable").tolist()
    assert ranked.merits == pytest.approx(expected[ranked.rows], abs=1e-5)
    assert ranked.scores == pytest.approx(scores[ranked.rows], abs=1e-5)
    large, far = large_flagship(6000), np.zeros(6000, np.float32)
    far[np.argsort(large.score(history)[0])[:3]] = 100
    found = ranker_of(large, exact_up_to=500).rank(history, exclude=NOTHING, k=5, lift=far)
    assert set(found.rows[:3]) == set(np.flatnonzero(far))


def test_of_each_platform_come_as_many(flagship) -> None:
    history = random_histories([5])
    found = ranker_of(flagship).rank(history, exclude=NOTHING, k=2, each_platform=True)
    assert np.bincount(PLATFORM_OF[found.rows]).tolist() == [2, 2, 2]
    assert (np.diff(found.scores) <= 0).all()
    scores = flagship.score(history)[0]
    assert ranker_of(flagship).scores(history, found.rows) == pytest.approx(scores[found.rows], abs=1e-5)
    for rows in (np.flatnonzero(number == PLATFORM_OF) for number in range(3)):
        assert rows[np.argmax(scores[rows])] in found.rows


def test_fewer_are_returned_where_fewer_are_left(flagship) -> None:
    exclude = np.arange(2, NUM_ITEMS)
    ranked = ranker_of(flagship).rank(random_histories([3]), exclude=exclude, k=10)
    assert sorted(ranked.rows) == [0, 1]
    assert ranker_of(flagship).rank(random_histories([3]), exclude=np.arange(NUM_ITEMS), k=10).rows.tolist() == []


def test_somebody_without_events_gets_what_the_platforms_priors_rank(flagship) -> None:
    ranked = ranker_of(flagship).rank(histories([]), exclude=NOTHING, k=3)
    prior = (flagship.prior.numpy()[PLATFORM_OF] * flagship.vectors).sum(axis=1) + flagship.bias
    assert ranked.rows.tolist() == np.argsort(-prior)[:3].tolist()


def test_similar_items_are_those_of_the_largest_cosine_and_never_the_item_itself(flagship) -> None:
    unit = flagship.vectors / np.linalg.norm(flagship.vectors, axis=1, keepdims=True)
    cosine = unit @ unit[7]
    cosine[7] = -np.inf
    similar = ranker_of(flagship).similar(7, k=5)
    assert similar.rows.tolist() == np.argsort(-cosine)[:5].tolist()
    assert similar.scores == pytest.approx(cosine[similar.rows], abs=1e-5)
    elsewhere = ranker_of(flagship).similar(7, platforms=["c"], k=NUM_ITEMS)
    assert set(elsewhere.rows) == set(np.flatnonzero(PLATFORM_OF == 2))


def large_flagship(num_items: int):
    """The tiny network over many items of which none leads to another unless it is one of the first thirty."""
    from dataclasses import replace

    from scipy.sparse import csr_array

    from models.leads_to import LeadsTo

    small, random = random_flagship(), np.random.default_rng(0)
    vectors = random.normal(size=(num_items, small.vectors.shape[1])).astype(np.float32)
    weights = csr_array(small.leads_to.weights)
    weights.resize((num_items, num_items))
    return replace(
        small,
        vectors=vectors,
        bias=random.normal(size=num_items).astype(np.float32),
        parts={"own": vectors},
        item_platform=np.arange(num_items) % 3,
        leads_to=LeadsTo(weights, decay=0.8, scale=3.0),
    )


@pytest.mark.parametrize("length", [0, 1, 6])
@pytest.mark.parametrize("platforms", [None, ["b"], ["c", "a"]])
def test_a_first_look_at_eight_bits_leaves_the_list_as_it_is(length: int, platforms: list[str] | None) -> None:
    flagship = large_flagship(6000)
    exact, looked = ranker_of(flagship), ranker_of(flagship, look_from=100)
    for seed in range(5):
        history = random_histories([length], seed=seed)
        best = exact.rank(history, platforms=platforms, exclude=NOTHING, k=400)
        asked = {
            "plain": {"exclude": NOTHING},
            "excluded": {"exclude": np.concatenate([best.rows, history.item])},
            "allowed": {"exclude": best.rows[:2], "allowed": np.arange(6000) % 7 == 3},
            "few": {"exclude": NOTHING, "allowed": np.arange(6000) % 900 == 4},
            "each platform": {"exclude": best.rows[:1], "each_platform": True},
            "lifted": {"exclude": NOTHING, "lift": (np.arange(6000) % 11 == 5).astype(np.float32)},
        }
        for name, wish in asked.items():
            wanted = exact.rank(history, platforms=platforms, k=50, **wish)
            found = looked.rank(history, platforms=platforms, k=50, **wish)
            assert found.rows.tolist() == wanted.rows.tolist(), name
            assert found.scores == pytest.approx(wanted.scores, abs=1e-5), name
    # What it leaves is far less than what there is.
    queries, sparse = flagship.queries(history)[0], flagship.leads_to.score(history)[0]
    left = looked._looked([0, 1, 2], queries, sparse, 50, NOTHING, None)
    assert 50 <= sum(len(rows) for _, rows in left) < 1000


def test_what_came_after_the_bundle_is_ranked_beside_what_was_looked_at(tmp_path: Path) -> None:
    from graph.keys import ItemKey
    from graph.records import Item
    from models.grown import Newcomer, grow
    from tests.serve.tiny import write_tiny_bundle

    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    history = histories([(0, 0, 0, 1.0), (9, 1, 5, 1.0)])
    like = bundle.items.keys[Ranker(bundle).rank(history, exclude=history.item, k=1).rows[0]]
    newcomer = Newcomer(Item(ItemKey(ItemKey.parse(like).platform, "put-a-moment-ago"), "Put"), {like: 1.0})
    grown = grow(bundle, [newcomer])
    exact, looked = Ranker(bundle, look_from=10**9).grown(grown), Ranker(bundle, look_from=1).grown(grown)
    found = looked.rank(history, exclude=history.item, k=10)
    assert found.rows.tolist() == exact.rank(history, exclude=history.item, k=10).rows.tolist()
    assert len(bundle.items) in found.rows


def test_the_approximate_search_finds_nearly_what_the_exact_one_finds_at_the_same_scores() -> None:
    flagship = large_flagship(6000)
    exact, approximate = ranker_of(flagship), ranker_of(flagship, exact_up_to=500)
    common = []
    for seed in range(20):
        history = random_histories([6], seed=seed)
        exclude = np.unique(history.item)
        wanted = exact.rank(history, exclude=exclude, k=10)
        found = approximate.rank(history, exclude=exclude, k=10)
        assert len(found.rows) == 10
        assert not np.isin(found.rows, exclude).any()
        assert found.scores == pytest.approx(flagship.score(history)[0][found.rows], abs=1e-4)
        common.append(len(np.intersect1d(wanted.rows, found.rows)) / 10)
    assert np.mean(common) > 0.8


def test_the_approximate_search_keeps_platforms_apart() -> None:
    ranked = ranker_of(large_flagship(6000), exact_up_to=500).rank(
        random_histories([6]), platforms=["b"], exclude=NOTHING, k=50
    )
    assert len(ranked.rows) == 50
    assert set(ranked.rows % 3) == {1}


def test_over_a_bundle_it_ranks_as_the_bundles_flagship_scores(planted_bundle: Path) -> None:
    bundle = Bundle.open(planted_bundle)
    history = histories([(0, 0, 0, 1.0), (9, 1, 5, 1.0)])
    ranked = Ranker(bundle).rank(history, platforms=["films"], exclude=history.item, k=5)
    films = np.setdiff1d(np.flatnonzero(bundle.item_platform == bundle.platforms.index("films")), history.item)
    scores = bundle.flagship.score(history)[0]
    assert ranked.rows.tolist() == films[np.argsort(-scores[films], kind="stable")[:5]].tolist()
