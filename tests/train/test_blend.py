"""The blend: what the sparse part is worth is found on validation, and nothing of the test is asked for it."""

from dataclasses import replace

import numpy as np
import pytest

import train.blend
from models.flagship import Flagship
from models.leads_to import LeadsTo
from tests.planted_training import PlantedRun
from train.blend import choose_blend
from train.evaluate import evaluate
from train.loop import METRIC, Prepared, best_encoder, prepare, validation_task


@pytest.fixture(scope="module")
def prepared(planted_run: PlantedRun) -> Prepared:
    return prepare(planted_run.inputs, planted_run.config)


@pytest.fixture(scope="module")
def dense(planted_run: PlantedRun, prepared: Prepared) -> Flagship:
    encoder = best_encoder(planted_run.result.checkpoint, prepared, planted_run.config)
    return Flagship.from_encoder(encoder, prepared.items.graph, LeadsTo.empty(len(prepared.split.train.items)))


def test_what_is_chosen_brings_what_it_says_it_brings(dense: Flagship, prepared: Prepared) -> None:
    blend, leads_to = choose_blend(dense, prepared.split, prepared.items.text.numpy(), seed=0)
    task = validation_task(prepared.split)
    blended = replace(dense, leads_to=leads_to)
    assert evaluate(blended, task).value(METRIC) == pytest.approx(blend.value, abs=0.01)
    assert evaluate(dense, task).value(METRIC) == pytest.approx(blend.dense_value, abs=0.01)
    assert blend.value >= blend.dense_value


def test_it_is_at_least_nearly_as_good_as_the_better_part_alone(dense: Flagship, prepared: Prepared) -> None:
    blend, _ = choose_blend(dense, prepared.split, prepared.items.text.numpy(), seed=0)
    assert blend.value > max(blend.dense_value, blend.sparse_value) - 0.03


def test_more_people_judge_what_a_few_chose(
    dense: Flagship, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = validation_task(prepared.split)

    def brings(seed: int, finalists: int) -> float:
        monkeypatch.setattr(train.blend, "_FINALISTS", finalists)
        blend, leads_to = choose_blend(dense, prepared.split, prepared.items.text.numpy(), seed)
        shortened = blend.applied(dense, leads_to, prepared.items.warm.numpy())
        return evaluate(replace(shortened, leads_to=leads_to), task).value(METRIC)

    monkeypatch.setattr(train.blend, "_CELLS", 3 * len(prepared.split.train.items))  # three people choose
    alone, judged = (np.array([brings(seed, finalists) for seed in range(4)]) for finalists in (1, 9))
    assert (judged >= alone).all()
    assert (judged > alone).any()
    assert (judged >= evaluate(dense, task).value(METRIC)).all()


def test_a_sparse_part_that_says_nothing_is_worth_nothing(dense: Flagship, prepared: Prepared, monkeypatch) -> None:
    monkeypatch.setattr(LeadsTo, "fit", lambda events, linear, text: LeadsTo.empty(len(events.items)))
    blend, _ = choose_blend(dense, prepared.split, prepared.items.text.numpy(), seed=0)
    assert blend.value == blend.dense_value
    assert blend.scale == 0


def test_test_events_do_not_take_part(dense: Flagship, prepared: Prepared) -> None:
    split = prepared.split
    other = replace(split, test=replace(split.test, item=(split.test.item + 11) % len(split.test.items)))
    assert (
        choose_blend(dense, other, prepared.items.text.numpy(), seed=0)[0]
        == choose_blend(dense, split, prepared.items.text.numpy(), seed=0)[0]
    )


def test_validation_events_decide(dense: Flagship, prepared: Prepared) -> None:
    split = prepared.split
    random = np.random.default_rng(0).integers(0, len(split.train.items), len(split.validation))
    other = replace(split, validation=replace(split.validation, item=random))
    assert (
        choose_blend(dense, other, prepared.items.text.numpy(), seed=0)[0].value
        != choose_blend(dense, split, prepared.items.text.numpy(), seed=0)[0].value
    )


def test_cold_items_come_into_lists_as_often_as_people_wanted_them_on_validation(
    dense: Flagship, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.blend.COLD_PRICE", 1.0)
    split = prepared.split
    # All items of each platform are cold but the fifteen that were wanted most.
    counts = np.bincount(split.train.item, minlength=len(split.train.items))
    warm = np.zeros(len(counts), bool)
    for platform in range(len(split.train.platforms)):
        there = np.flatnonzero(split.train.item_platform == platform)
        warm[there[np.argsort(-counts[there])[:15]]] = True
    train = split.train.where(warm[split.train.item])
    wanted = split.validation
    number = split.train.platforms.index("music")
    on_it = wanted.platform == number
    share = float((~warm)[wanted.item[on_it]].mean())
    assert 0.02 < share < 0.98
    blend, leads_to = choose_blend(dense, replace(split, train=train), prepared.items.text.numpy(), seed=0)
    flagship = blend.applied(dense, leads_to, warm.astype(np.float32))
    people = np.unique(wanted.user[on_it])
    histories = train.histories(people)
    scores = flagship.score(histories)
    scores[np.repeat(np.arange(len(people)), np.diff(histories.offsets)), histories.item] = -np.inf
    there = np.flatnonzero(split.train.item_platform == number)
    lists = there[np.argsort(-scores[:, there], axis=1)[:, :10]]
    assert float((~warm)[lists].mean()) == pytest.approx(share, abs=0.01)
    before = replace(flagship, leads_to=replace(flagship.leads_to, lift=None)).score(histories)[:, there]
    assert float((~warm)[there[np.argsort(-before, axis=1)[:, :10]]].mean()) != pytest.approx(share, abs=0.03)


def test_cold_items_are_not_shown_at_any_price(
    dense: Flagship, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = np.arange(len(prepared.split.train.items)) % 6 == 0
    train, wanted = (part.where(~cold[part.item]) for part in (prepared.split.train, prepared.split.validation))
    few = np.where(np.arange(len(wanted)) % 10 == 0, wanted.item - wanted.item % 6, wanted.item)
    split = replace(prepared.split, train=train, validation=replace(wanted, item=few))
    untouched = np.bincount(train.item, minlength=len(train.items)) == 0
    worst = replace(dense, bias=np.where(untouched, np.float32(-50), dense.bias))
    monkeypatch.setattr(LeadsTo, "fit", lambda events, linear, text: LeadsTo.empty(len(events.items)))
    shifts = []
    for price in (-1.0, 1.0):  # no list may lose anything, not even where it gains; any may lose all
        monkeypatch.setattr("train.blend.COLD_PRICE", price)
        shifts.append(max(choose_blend(worst, split, prepared.items.text.numpy(), seed=0)[0].cold))
    assert shifts[0] == 0 < shifts[1]


def test_texts_count_less_for_items_without_events_and_all_the_same_for_others(
    dense: Flagship, prepared: Prepared
) -> None:
    warm = (np.arange(len(dense.bias)) % 4 > 0).astype(np.float32)
    blend, leads_to = choose_blend(dense, prepared.split, prepared.items.text.numpy(), seed=0)
    applied = blend.applied(dense, leads_to, warm)
    assert applied.vectors[warm > 0] == pytest.approx(dense.vectors[warm > 0])
    assert applied.vectors[warm == 0] == pytest.approx(dense.vectors[warm == 0] / 3)
    assert sum(applied.parts.values()) == pytest.approx(applied.vectors, abs=1e-5)
