"""LEADS_TO is EASE with its largest weights alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array

from graph.interactions import Interactions
from graph.snapshot import Snapshot
from graph.vocabulary import Vocabulary
from models.baselines.ease import EASE
from models.baselines.matrix import query_matrix
from models.leads_to import LeadsTo, Linear
from tests.networks import random_histories


@pytest.fixture(scope="module")
def events(planted_snapshot: Snapshot):
    return planted_snapshot.interactions()


def test_with_all_weights_kept_it_scores_as_ease_does(events) -> None:
    people = events.histories(np.arange(len(events.users)))
    leads_to = LeadsTo.fit(events, Linear(20), keep=len(events.items)).with_query(0.7, 1.0)
    ease = EASE.fit(events, ridge=20, decay=0.7)
    # Weights below 1e-5 are dropped, at most 20 events sum them.
    assert leads_to.score(people) == pytest.approx(ease.score(people), abs=2e-4)
    assert np.abs(leads_to.score(people)).max() > 0.1


@pytest.mark.parametrize("keep", [3, 20])
def test_of_each_line_the_largest_weights_for_or_against_are_kept_unchanged(events, keep: int) -> None:
    everything = LeadsTo.fit(events, Linear(20), keep=len(events.items)).weights.toarray()
    few = LeadsTo.fit(events, Linear(20), keep=keep).weights.toarray()
    for whole, kept in zip(everything, few, strict=True):
        assert np.count_nonzero(kept) <= keep
        assert (kept[kept != 0] == whole[kept != 0]).all()
        assert np.abs(whole[kept == 0]).max(initial=0) <= np.abs(kept[kept != 0]).min(initial=np.inf)
    assert np.count_nonzero(few) > keep * 60


def test_no_item_leads_to_itself_and_an_untouched_item_leads_nowhere(events) -> None:
    weights = LeadsTo.fit(events, Linear(20)).weights.toarray()
    untouched = np.setdiff1d(np.arange(len(events.items)), events.item[events.weight > 0])
    assert len(untouched) >= 9
    assert not weights[untouched].any()
    assert not weights.diagonal().any()


def test_a_score_is_the_scaled_sum_of_the_weights_of_what_was_wanted_worked_by_hand(events) -> None:
    leads_to = LeadsTo.fit(events, Linear(20))
    rows = leads_to.weights.toarray()
    one = events.histories(np.array([0]))
    length = len(one.item)
    history = replace(one, weight=np.where(np.arange(length) == 1, -1, 1).astype(np.float32))
    expected = np.zeros(len(events.items))
    newest = {int(item): place for place, item in enumerate(history.item) if place != 1}
    for item, place in newest.items():
        expected += 2.5 * 0.9 ** (length - 1 - place) * rows[item]
    assert leads_to.with_query(0.9, 2.5).score(history)[0] == pytest.approx(expected, abs=1e-5)


def test_an_empty_one_scores_everything_alike(events) -> None:
    assert not LeadsTo.empty(5).score(events.where(events.item < 0).histories(np.array([0, 1]))).any()


def test_what_cannot_be_kept_or_forgotten_is_refused(events) -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        LeadsTo.fit(events, keep=0)
    with pytest.raises(ValueError, match="decay is 0"):
        LeadsTo.empty(3).with_query(0, 1)
    with pytest.raises(ValueError, match=r"ridge is 0\.5, closeness 0\.0, following 0\.0 and text 0\.0"):
        Linear(ridge=0.5)


def test_closeness_adds_pairs_by_the_steps_between_worked_densely(events) -> None:
    counts = np.zeros((len(events.items), len(events.items)))
    for user in range(len(events.users)):
        mine = slice(events.offsets[user], events.offsets[user + 1])
        items = events.item[mine][events.weight[mine] > 0]
        apart = np.abs(np.arange(len(items))[:, None] - np.arange(len(items)))
        np.add.at(counts, np.ix_(items, items), 2 * np.exp(-apart / 10))
        counts[np.ix_(np.unique(items), np.unique(items))] += 1
    inverted = np.linalg.inv(counts + 20 * np.eye(len(counts)))
    expected = -inverted / inverted.diagonal()
    np.fill_diagonal(expected, 0)
    found = LeadsTo.fit(events, Linear(20, closeness=2), keep=len(events.items)).weights.toarray()
    assert found == pytest.approx(expected, abs=2e-5)
    assert not np.allclose(found, LeadsTo.fit(events, Linear(20), keep=len(events.items)).weights.toarray(), atol=0.01)


def test_following_asks_for_the_next_event_given_the_faded_ones_before_it_worked_densely(events) -> None:
    size, share, ridge = len(events.items), 0.7, 20
    gram, asked = np.zeros((size, size)), np.zeros((size, size))
    for user in range(len(events.users)):
        mine = slice(events.offsets[user], events.offsets[user + 1])
        items = events.item[mine][events.weight[mine] > 0]
        everything = np.bincount(items, minlength=size).clip(max=1)
        gram += (1 - share) * np.outer(everything, everything)
        asked += (1 - share) * np.outer(everything, everything)
        before = np.zeros(size)
        for item, after in pairwise(items):
            before = 0.7 * before
            before[item] += 1
            gram += share * np.outer(before, before)
            asked[:, after] += share * before
    inverted = np.linalg.inv(gram + ridge * np.eye(size))
    expected = inverted @ asked
    expected -= inverted * (expected.diagonal() / inverted.diagonal())
    found = LeadsTo.fit(events, Linear(ridge, following=share), keep=size).weights.toarray()
    # What has faded to a thousandth is left out.
    assert found == pytest.approx(expected, abs=2e-4)
    assert not found.diagonal().any()
    assert np.abs(found - found.T).max() > 0.01


def test_texts_draw_the_weights_to_what_they_say_worked_densely(events) -> None:
    size, linear = len(events.items), Linear(20, following=0.7, text=30)
    text = np.random.default_rng(0).standard_normal((size, 5)).astype(np.float32)
    text[3] = 0
    units = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)
    touched = np.unique(events.item[events.weight > 0])
    units = units[touched]
    along = units @ np.linalg.inv(units.T @ units + max(1, len(units) / 5 / 3) * np.eye(5)) @ units.T
    said = along / (1 - along.diagonal())
    np.fill_diagonal(said, 0)
    without = LeadsTo.fit(events, Linear(50, following=0.7), keep=size).weights.toarray()[np.ix_(touched, touched)]
    found = LeadsTo.fit(events, linear, text, keep=size).weights.toarray()[np.ix_(touched, touched)]
    # P is the same where the ridge is as much higher; what keeps the diagonal at 0 is all that else differs.
    counts, size = _normal_equations(events, 0.7, touched), len(touched)
    inverted = np.linalg.inv(counts + 50 * np.eye(size))
    drawn = 30 * inverted @ said
    expected = without + drawn - inverted * (drawn.diagonal() / inverted.diagonal())
    assert found == pytest.approx(expected, abs=4e-4)
    assert np.abs(found - without).max() > 0.01


def _normal_equations(events, share: float, touched) -> np.ndarray:
    size = len(events.items)
    gram = np.zeros((size, size))
    for user in range(len(events.users)):
        mine = slice(events.offsets[user], events.offsets[user + 1])
        items = events.item[mine][events.weight[mine] > 0]
        everything = np.bincount(items, minlength=size).clip(max=1)
        gram += (1 - share) * np.outer(everything, everything)
        before = np.zeros(size)
        for item in items[:-1]:
            before = 0.7 * before
            before[item] += 1
            gram += share * np.outer(before, before)
    return gram[np.ix_(touched, touched)]


def test_without_any_text_the_texts_say_nothing(events) -> None:
    silent = np.zeros((len(events.items), 4), np.float32)
    drawn = LeadsTo.fit(events, Linear(20, following=0.7, text=30), silent).weights.toarray()
    # B is drawn to 0 then, which is what a ridge does.
    assert drawn == pytest.approx(LeadsTo.fit(events, Linear(50, following=0.7)).weights.toarray(), abs=1e-5)
    with pytest.raises(ValueError, match="give following a share"):
        Linear(20, text=30)


def test_where_order_decides_following_ranks_what_comes_next_first() -> None:
    """Everybody walks round ten items, from somewhere: what comes next is certain, and counts alone cannot tell it."""
    steps = [[(start + step) % 10 for step in range(6)] for start in range(10)] * 5
    flat = np.array(steps).ravel()
    walks = Interactions(
        user=np.repeat(np.arange(len(steps)), 6),
        item=flat,
        type=np.zeros(len(flat), np.int64),
        at=np.tile(np.arange(6), len(steps)),
        value=np.full(len(flat), np.nan, np.float32),
        weight=np.ones(len(flat), np.float32),
        users=Vocabulary(f"user:{number}" for number in range(len(steps))),
        items=Vocabulary(f"item:{number}" for number in range(10)),
        event_types=("PURCHASED",),
        platforms=("shop",),
        item_platform=np.zeros(10, np.int64),
    )
    people = np.arange(10)
    hits = {
        linear: int(
            (
                LeadsTo.fit(walks, linear).with_query(0.6, 1).score(walks.histories(people)).argmax(axis=1)
                == (people + 6) % 10
            ).sum()
        )
        for linear in (Linear(1), Linear(1, following=0.7))
    }
    assert hits[Linear(1, following=0.7)] == 10 > hits[Linear(1)]


def _counts(events: Interactions, share: float) -> tuple[np.ndarray, np.ndarray]:
    """G and A [39, 39] of the crowded events."""
    gram, asked = np.zeros((40, 40)), np.zeros((40, 40))
    for user in range(len(events.users)):
        mine = slice(events.offsets[user], events.offsets[user + 1])
        items = events.item[mine][events.weight[mine] > 0]
        everything = np.bincount(items, minlength=40).clip(max=1)
        gram += (1 - share) * np.outer(everything, everything)
        asked += (1 - share) * np.outer(everything, everything)
        before = np.zeros(40)
        for item, after in pairwise(items):
            before = 0.7 * before
            before[item] += 1
            gram += share * np.outer(before, before)
            asked[:, after] += share * before
    return gram[:39, :39], asked[:39, :39]


def _said(text: np.ndarray) -> np.ndarray:
    units = text / np.linalg.norm(text, axis=1, keepdims=True)
    along = units @ np.linalg.inv(units.T @ units + len(units) / 5 / 3 * np.eye(5)) @ units.T
    said = along / (1 - along.diagonal())
    np.fill_diagonal(said, 0)
    return said


def _crowded(people: int = 400, items: int = 40) -> Interactions:
    """Any two items come together somewhere; people have 0 to 30 events, some items twice."""
    random = np.random.default_rng(3)
    lengths = random.integers(0, 31, people)
    total = int(lengths.sum())
    return Interactions(
        user=np.repeat(np.arange(people), lengths),
        item=np.minimum(random.geometric(0.03, total) - 1, items - 2),  # the last item is untouched
        type=np.zeros(total, np.int64),
        at=np.arange(total),
        value=np.full(total, np.nan, np.float32),
        weight=np.where(random.random(total) < 0.1, -1, 1).astype(np.float32),
        users=Vocabulary(f"user:{number}" for number in range(people)),
        items=Vocabulary(f"item:{number}" for number in range(items)),
        event_types=("PURCHASED",),
        platforms=("shop",),
        item_platform=np.zeros(items, np.int64),
    )


@pytest.mark.parametrize(
    "linear",
    [Linear(20), Linear(20, closeness=2), Linear(20, following=0.7), Linear(20, following=0.7, text=30)],
    ids=["plain", "close", "next", "text"],
)
@pytest.mark.parametrize("small", [False, True], ids=["one piece", "many pieces"])
def test_solved_on_all_other_items_the_local_weights_are_the_dense_ones(monkeypatch, linear: Linear, small) -> None:
    events = _crowded()
    text = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    dense = LeadsTo.fit(events, linear, text).weights.toarray()
    monkeypatch.setattr("models.leads_to.DENSE_UP_TO", 10)
    if small:
        for name, value in {"_HEAD": 7, "_WORK": 100, "_QUERIES": 3, "_CELLS": 300}.items():
            monkeypatch.setattr(f"models.local_ridge.{name}", value)
    local = LeadsTo.fit(events, linear, text).weights.toarray()
    assert local == pytest.approx(dense, abs=3e-5)
    assert np.abs(dense).max() > 0.05


@pytest.mark.parametrize("linear", [Linear(20), Linear(20, following=0.7, text=30)])
def test_a_small_support_is_solved_exactly_and_has_the_best_items_worked_densely(monkeypatch, linear: Linear) -> None:
    events = _crowded()
    text = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    monkeypatch.setattr("models.leads_to.DENSE_UP_TO", 10)
    monkeypatch.setattr("models.leads_to.SUPPORT", 6)
    monkeypatch.setattr("models.local_ridge._CELLS", 300)
    found = LeadsTo.fit(events, linear, text).weights.toarray()
    gram, asked = _counts(events, linear.following)
    if linear.text:
        asked += linear.text * _said(text[np.arange(39)])
    ridge = linear.ridge + linear.text
    overlap = 0
    for target in range(39):
        support = np.flatnonzero(found[:, target])
        assert target not in support
        assert 5 <= len(support) <= 6
        equations = gram[np.ix_(support, support)] + ridge * np.eye(len(support))
        assert found[support, target] == pytest.approx(np.linalg.solve(equations, asked[support, target]), abs=3e-4)
        gain = asked[:, target] / np.sqrt(gram.diagonal() + ridge)
        gain[target] = -np.inf
        overlap += len(np.intersect1d(support, np.argsort(-gain)[:6]))
    # Only the nearest texts are looked at where nobody wanted both.
    assert overlap > (0.8 if linear.text else 0.97) * 6 * 39


def test_of_long_histories_the_newest_events_count_where_there_are_many_items(monkeypatch) -> None:
    events = _crowded()
    position = np.arange(len(events)) - events.offsets[events.user]
    length = np.diff(events.offsets)[events.user]
    monkeypatch.setattr("models.leads_to.DENSE_UP_TO", 10)
    everything = replace(events, weight=np.ones(len(events), np.float32))
    newest = everything.where(position >= length - 8)
    expected = LeadsTo.fit(newest, Linear(20, following=0.7)).weights.toarray()
    whole = LeadsTo.fit(everything, Linear(20, following=0.7)).weights.toarray()
    monkeypatch.setattr("models.local_ridge.NEWEST", 8)
    assert LeadsTo.fit(everything, Linear(20, following=0.7)).weights.toarray() == pytest.approx(expected, abs=1e-6)
    assert np.abs(whole - expected).max() > 0.01


def test_a_lift_is_added_for_every_wanted_event_as_it_fades_and_nobody_without_events_gets_it(events) -> None:
    plain = replace(LeadsTo.fit(events, Linear(20)), decay=0.5)
    lifted = replace(plain, lift=np.linspace(0, 1, len(events.items), dtype=np.float32))
    whole = events.histories(np.array([0]))
    first = np.unique(whole.item, return_index=True)[1][:3]
    history = whole.where(np.isin(np.arange(len(whole.item)), first))
    history = replace(history, weight=np.ones(3, np.float32))
    unwanted = replace(history, weight=np.array([1, -1, 1], np.float32))
    for told, mass in ((history, 1 + 0.5 + 0.25), (unwanted, 1 + 0.25), (history.where(np.zeros(3, bool)), 0)):
        assert (lifted.score(told) - plain.score(told))[0] == pytest.approx(mass * lifted.lift, abs=1e-5)


def test_what_leads_to_items_that_read_alike_leads_to_one_without_events_worked_densely(events) -> None:
    """Of the item's platform where that has any with events: the platform that nobody knows has none of its own."""
    num_items = len(events.items)
    text = (np.random.default_rng(3).standard_normal((num_items, 6)) + 1).astype(np.float32)
    text[::7] = 0
    new = events.item_platform == len(events.platforms) - 1
    known = events.where(~new[events.item])
    untouched = np.setdiff1d(np.arange(num_items), known.item[known.weight > 0])
    assert np.count_nonzero(new[untouched] & text[untouched].any(axis=1)) >= 20
    assert np.count_nonzero(~new[untouched] & text[untouched].any(axis=1)) >= 4
    alone = LeadsTo.fit(known, Linear(20), keep=num_items).weights.toarray()
    expected = alone.copy()
    for item in untouched[text[untouched].any(axis=1)]:
        others = np.setdiff1d(np.flatnonzero(text.any(axis=1)), untouched)
        if not new[item]:
            others = others[events.item_platform[others] == events.item_platform[item]]
        cosines = text[others] @ text[item] / np.linalg.norm(text[others], axis=1) / np.linalg.norm(text[item])
        nearest = np.argsort(-cosines)[:20]
        shares = np.maximum(cosines[nearest], 0) ** 4
        expected[:, item] = alone[:, others[nearest]] @ (shares / shares.sum())
    found = LeadsTo.fit(known, Linear(20), text, keep=num_items).weights.toarray()
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(found[:, untouched]).max() > 0.01
    few = LeadsTo.fit(known, Linear(20), text, keep=5).weights.toarray()
    assert np.count_nonzero(few[:, untouched], axis=1).max() == 5


@pytest.mark.parametrize("num_items", [40, 5000])
@pytest.mark.parametrize("lengths", [[0], [1], [30], [4, 0, 30]])
def test_few_weights_and_many_are_added_up_alike(num_items: int, lengths: list[int]) -> None:
    random = np.random.default_rng(num_items)
    weights = csr_array((random.random((num_items, num_items)) < 0.004) * random.normal(size=(num_items, num_items)))
    lift = random.normal(size=num_items).astype(np.float32)
    linear = LeadsTo(csr_array(weights.astype(np.float32)), decay=0.7, scale=1.7, lift=lift)
    history = random_histories(lengths)
    query = query_matrix(history, num_items, 0.7)
    expected = 1.7 * (query @ weights).toarray() + np.multiply.outer(np.asarray(query.sum(axis=1)), lift)
    assert linear.score(history) == pytest.approx(expected, abs=1e-4)
