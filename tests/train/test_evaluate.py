"""What the evaluator asks, masks, samples and tells apart; leaks are planted to be seen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import pytest
import pytrec_eval

from graph.interactions import Histories, Interactions
from graph.vocabulary import Vocabulary
from train.evaluate import Task, evaluate


def events(people: Sequence[Sequence[int | tuple[int, float]]], platforms: Sequence[int]) -> Interactions:
    """A line of items for each person; `platforms` says where each item is; an item may come with a weight."""
    flat = [
        (u, *(entry if isinstance(entry, tuple) else (entry, 1.0))) for u, line in enumerate(people) for entry in line
    ]
    return Interactions(
        user=np.array([u for u, _, _ in flat], dtype=np.int64),
        item=np.array([item for _, item, _ in flat], dtype=np.int64),
        type=np.zeros(len(flat), dtype=np.int64),
        at=np.arange(len(flat), dtype=np.int64),
        value=np.full(len(flat), np.nan, dtype=np.float32),
        weight=np.array([weight for _, _, weight in flat], dtype=np.float32),
        users=Vocabulary(f"user:{u}" for u in range(len(people))),
        items=Vocabulary(f"item:{i}" for i in range(len(platforms))),
        event_types=("LIKED",),
        platforms=tuple("abc"[: max(platforms) + 1]),
        item_platform=np.array(platforms, dtype=np.int64),
    )


def part(whole: Interactions, people: Sequence[Sequence[int | tuple[int, float]]]) -> Interactions:
    """Other events over the vocabularies of the whole."""
    other = events(people, whole.item_platform.tolist())
    return replace(other, users=whole.users, items=whole.items, platforms=whole.platforms)


@dataclass(frozen=True)
class Fixed:
    """Scores everybody alike."""

    scores: Sequence[float]
    name: str = "fixed"

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(np.array(self.scores, dtype=np.float32), (len(histories), 1))


def test_a_ranking_is_measured_as_worked_by_hand() -> None:
    history = events([[0], [1]], platforms=[0] * 5)
    task = Task("t", history, part(history, [[2, 4], [3]]), ks=(1, 2))
    report = evaluate(Fixed([0.9, 0.8, 0.7, 0.6, 0.1]), task)
    # Person 0, without item 0: 1 2 3 4, targets at places 2 and 4. Person 1, without item 1: 0 2 3 4, target at 3.
    assert report.value("recall@2") == pytest.approx((1 / 2 + 0) / 2)
    assert report.value("hr@1") == 0
    assert report.value("mrr@2") == pytest.approx((1 / 2 + 0) / 2)
    assert {row.num_queries for row in report.rows if row.cohort == "all"} == {2}


def test_what_a_person_has_seen_is_not_offered_unless_it_is_a_target() -> None:
    history = events([[0, 1]], platforms=[0] * 3)
    task = Task("t", history, part(history, [[1]]), ks=(1,))
    assert evaluate(Fixed([3, 2, 1]), task).value("hr@1") == 1


def test_what_is_withheld_is_neither_told_nor_offered() -> None:
    @dataclass(frozen=True)
    class Told:
        name: str = "told"

        def score(self, histories: Histories) -> np.ndarray:
            assert histories.item.tolist() == [0]
            return np.array([[3, 2, 1]], dtype=np.float32)

    history = events([[0]], platforms=[0] * 3)
    task = Task("t", history, part(history, [[2]]), withheld=part(history, [[1]]), ks=(1,))
    assert evaluate(Told(), task).value("hr@1") == 1


def test_a_target_that_leaks_into_the_history_is_seen_in_the_figures() -> None:
    """A scorer that repeats the history is worthless on an honest task and perfect on a leaking one."""

    @dataclass(frozen=True)
    class Repeats:
        name: str = "repeats"

        def score(self, histories: Histories) -> np.ndarray:
            scores = np.zeros((len(histories), 50), dtype=np.float32)
            scores[np.repeat(np.arange(len(histories)), np.diff(histories.offsets)), histories.item] = 1
            return scores

    people = range(40)
    honest = events([[u] for u in people], platforms=[0] * 50)
    targets = part(honest, [[(u + 1) % 50] for u in people])
    leaking = part(honest, [[u, (u + 1) % 50] for u in people])
    assert evaluate(Repeats(), Task("honest", honest, targets, ks=(5,))).value("hr@5") < 0.3
    assert evaluate(Repeats(), Task("leaking", leaking, targets, ks=(5,))).value("hr@5") == 1


def test_a_query_ranks_the_items_of_its_platform_only() -> None:
    history = events([[0]], platforms=[0, 0, 0, 1, 1])
    targets = part(history, [[2, 4]])
    scorer = Fixed([9, 1, 2, 8, 7])
    within = evaluate(scorer, Task("t", history, targets, ks=(1,)))
    assert within.value("hr@1", "platform:a") == 1
    assert within.value("hr@1", "platform:b") == 0
    assert within.rows[0].num_queries == 2
    across = evaluate(scorer, Task("t", history, targets, within_platform=False, ks=(2, 3)))
    assert across.value("recall@2") == 1 / 2
    assert across.value("recall@3") == 1
    assert not any(row.cohort.startswith("platform") for row in across.rows)


def test_targets_of_negative_weight_do_not_count() -> None:
    history = events([[0], [0]], platforms=[0] * 4)
    task = Task("t", history, part(history, [[(1, -1.0), 2], [(3, -1.0)]]), ks=(1,))
    report = evaluate(Fixed([0, 3, 2, 1]), task)
    assert report.value("hr@1") == 0
    assert report.rows[0].num_queries == 1


def test_a_task_without_any_wish_is_refused_by_name() -> None:
    history = events([[0]], platforms=[0] * 4)
    with pytest.raises(ValueError, match="task nothing has no target of positive weight"):
        evaluate(Fixed([0, 3, 2, 1]), Task("nothing", history, part(history, [[(1, -1.0)]])))


def test_ties_are_broken_at_random_from_the_seed_and_without_favour() -> None:
    people = 2_000
    history = events([[0]] * people, platforms=[0] * 41)
    targets = part(history, [[1 + u % 40] for u in range(people)])
    tied = Fixed([0.0] * 41)
    first, again, other = (
        evaluate(tied, Task("t", history, targets, seed=seed, ks=(10,)), batch=64).value("hr@10") for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first == pytest.approx(10 / 40, abs=0.04)  # four standard deviations


def test_ties_in_a_sample_are_broken_without_favour() -> None:
    people = 2_000
    history = events([[0]] * people, platforms=[0] * 61)
    targets = part(history, [[1 + u % 60] for u in range(people)])
    report = evaluate(Fixed([0.0] * 61), Task("t", history, targets, sampled=39, ks=(10,)), batch=64)
    assert report.value("hr@10") == pytest.approx(10 / 40, abs=0.04)


def test_full_rankings_agree_with_trec_eval() -> None:
    rng = np.random.default_rng(11)
    scores = rng.random((30, 80), dtype=np.float32)
    histories = [rng.choice(80, size=5, replace=False).tolist() for _ in range(30)]
    wanted = [[i for i in rng.choice(80, size=12, replace=False).tolist() if i not in line] for line in histories]

    @dataclass(frozen=True)
    class Random:
        name: str = "random"

        def score(self, batch: Histories) -> np.ndarray:
            return scores[[histories.index(batch.item[s : s + 5].tolist()) for s in batch.offsets[:-1]]]

    history = events(histories, platforms=[0] * 80)
    report = evaluate(Random(), Task("t", history, part(history, wanted), ks=(20,)), batch=7)
    qrels = {str(u): {str(i): 1 for i in wanted[u]} for u in range(30)}
    run = {str(u): {str(i): float(scores[u, i]) for i in range(80) if i not in histories[u]} for u in range(30)}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"recall_20", "ndcg_cut_20"}).evaluate(run)
    assert report.value("recall@20") == pytest.approx(np.mean([line["recall_20"] for line in trec.values()]), abs=1e-6)
    assert report.value("ndcg@20") == pytest.approx(np.mean([line["ndcg_cut_20"] for line in trec.values()]), abs=1e-6)


@dataclass(frozen=True)
class ByRow:
    """Scores an item by its row: the sample of a query can be read from the place of its target."""

    num_items: int
    name: str = "by row"

    def score(self, histories: Histories) -> np.ndarray:
        return np.tile(np.arange(self.num_items, dtype=np.float32), (len(histories), 1))


def test_a_sample_holds_none_of_what_the_person_touched() -> None:
    """Every item above the target was touched, so only a sample with a touched item can put one before it."""
    history = events([[8, 9, (7, -1.0)]], platforms=[0] * 10)
    task = Task("t", history, part(history, [[3, (4, -1.0)]]), withheld=part(history, [[5, 6]]), sampled=3, ks=(1,))
    for seed in range(20):
        assert evaluate(ByRow(10), replace(task, seed=seed)).value("hr@1") == 1


def test_a_sample_is_drawn_evenly_from_the_platform_of_the_target() -> None:
    people = 600
    history = events([[0]] * people, platforms=[0] * 101 + [1] * 100)
    task = Task("t", history, part(history, [[50]] * people), sampled=20, ks=(1,))
    # Of the 99 untouched items of the platform 50 are above the target, none of the other platform's counts.
    above = [comb(50, k) * comb(49, 20 - k) / comb(99, 20) for k in range(21)]
    expected = sum(chance / (1 + k) for k, chance in enumerate(above))
    figures = [evaluate(ByRow(201), replace(task, seed=seed)).value("mrr") for seed in range(2)]
    assert figures == pytest.approx([expected, expected], rel=0.1)
    assert figures[0] != figures[1]


def test_the_sample_of_a_target_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    history = events([[u % 5] for u in range(50)], platforms=[0] * 200)
    targets = part(history, [[int(item)] for item in rng.integers(5, 200, size=50)])
    task = Task("t", history, targets, sampled=30)
    small, large = evaluate(ByRow(200), task, batch=3), evaluate(ByRow(200), task, batch=50)
    assert small.rows == large.rows


def test_a_platform_with_fewer_untouched_items_than_asked_ranks_against_all_of_them() -> None:
    history = events([[0]], platforms=[0] * 6)
    report = evaluate(ByRow(6), Task("t", history, part(history, [[3]]), sampled=20))
    assert report.value("mrr") == pytest.approx(1 / 3)


def test_cohorts_tell_warm_from_cold_and_short_from_long_histories() -> None:
    history = events([[0], [0, 1, 2, 0, 1], []], platforms=[0, 0, 0, 0, 1, 1])
    targets = part(history, [[3, 1], [4], [2]])
    report = evaluate(Fixed([0, 5, 4, 3, 2, 1]), Task("t", history, targets, ks=(1,)))
    queries = {row.cohort: row.num_queries for row in report.rows if row.metric == "hr@1"}
    assert queries == {
        "all": 3,
        "platform:a": 2,
        "platform:b": 1,
        "warm items": 2,
        "cold items": 2,
        "no history": 1,
        "history 1-4": 1,
        "history 5-9": 1,
        "one platform": 2,
        "known on the platform": 1,
        "new on the platform": 2,
    }
    assert report.value("recall@1", "warm items") == 1 / 2  # item 1 of person 0; person 2 is offered item 1 first
    assert report.value("recall@1", "cold items") == 1 / 2  # person 1 finds item 4, person 0 misses item 3


def test_cohorts_tell_people_of_one_platform_from_people_of_several() -> None:
    history = events([[0], [0, 3], [1], []], platforms=[0, 0, 0, 1, 1])
    report = evaluate(Fixed([5, 4, 3, 2, 1]), Task("t", history, part(history, [[1], [2, 4], [4], [4]]), ks=(1,)))
    queries = {row.cohort: row.num_queries for row in report.rows if row.metric == "hr@1"}
    assert queries["one platform"] == 2
    assert queries["several platforms"] == 2  # person 1 on either; person 3 is on none
    assert report.value("hr@1", "one platform") == 1 / 2
    assert report.value("hr@1", "several platforms") == 1 / 2  # of platform b only item 4 is new to person 1
    only = events([[0]], platforms=[0] * 3)
    rows = evaluate(Fixed([3, 2, 1]), Task("t", only, part(only, [[1]]), ks=(1,))).rows
    assert not any("platforms" in row.cohort for row in rows)


def test_auc_counts_the_candidates_that_a_target_is_scored_above() -> None:
    history = events([[0], [4]], platforms=[0] * 5)
    task = Task("t", history, part(history, [[2, 4], [1]]), ks=(1,))
    report = evaluate(Fixed([9, 4, 3, 2, 1]), task)
    # Person 0: of 1 and 3, item 2 is above one and item 4 above none. Person 1: of 0, 2, 3, item 1 is above two.
    assert report.value("auc") == pytest.approx(((1 / 2 + 0) / 2 + 2 / 3) / 2)
    assert report.value("auc", "cold items") == pytest.approx((1 / 2 + 2 / 3) / 2)  # items 1 and 2
    assert report.value("auc", "warm items") == 0  # item 4
    tied = evaluate(Fixed([1, 1, 1, 1, 1]), task)
    assert tied.value("auc") == 1 / 2


def test_auc_of_a_sample_is_that_of_its_items() -> None:
    history = events([[0]], platforms=[0] * 6)
    report = evaluate(ByRow(6), Task("t", history, part(history, [[3]]), sampled=20))
    assert report.value("auc") == 1 / 2  # above 1 and 2, below 4 and 5


def test_auc_does_not_count_what_is_not_offered_or_of_another_platform() -> None:
    history = events([[0, 1]], platforms=[0, 0, 0, 0, 1])
    report = evaluate(Fixed([9, 8, 7, 6, 5]), Task("t", history, part(history, [[2]]), ks=(1,)))
    assert report.value("auc") == 1


def test_what_is_shown_is_measured_for_all_lists_together() -> None:
    history = events([[0, 0, 1], [1]], platforms=[0, 0, 0, 0, 1, 1])
    targets = part(history, [[3], [4]])
    vectors = np.eye(6, dtype=np.float32)
    vectors[3] = vectors[2]
    report = evaluate(Fixed([1, 2, 4, 3, 6, 5]), Task("t", history, targets, ks=(2,), item_vectors=vectors))
    # Person 0 is shown 2 and 3 of platform a, person 1 is shown 4 and 5 of b.
    assert report.value("coverage@2") == 4 / 6
    assert report.value("coverage@2", "platform:a") == 2 / 4
    assert report.value("diversity@2") == pytest.approx((0 + 1) / 2)
    assert report.value("novelty@2") == pytest.approx(2)  # none has an event: each counts as one event of four


def test_what_is_shown_is_not_measured_in_a_sample_and_diversity_not_without_vectors() -> None:
    history = events([[0]], platforms=[0] * 6)
    task = Task("t", history, part(history, [[3]]))
    full = {row.metric.partition("@")[0] for row in evaluate(ByRow(6), task).rows}
    assert full == {"recall", "ndcg", "hr", "mrr", "f1", "auc", "coverage", "novelty"}
    sample = {row.metric.partition("@")[0] for row in evaluate(ByRow(6), replace(task, sampled=20)).rows}
    assert sample == full - {"coverage", "novelty"}


def test_the_values_behind_a_mean_are_handed_back_with_their_people() -> None:
    history = events([[0], [], [1]], platforms=[0, 0, 0, 0, 1, 1])
    report = evaluate(ByRow(6), Task("t", history, part(history, [[3, 5], [], [2]]), ks=(1,)))
    assert sorted(zip(report.values.user, report.values.metrics["hr@1"], strict=True)) == [(0, 1), (0, 1), (2, 0)]
    for name, values in report.values.metrics.items():
        assert values.dtype == np.float32
        assert values.mean() == pytest.approx(report.value(name))


def test_cold_items_can_be_ranked_among_themselves() -> None:
    history = events([[0]], platforms=[0] * 5)
    cold = np.array([False, False, False, True, True])
    report = evaluate(Fixed([9, 8, 7, 1, 2]), Task("t", history, part(history, [[4]]), candidates=cold, ks=(1,)))
    assert report.value("hr@1") == 1


def test_scores_that_are_no_numbers_are_refused() -> None:
    history = events([[0]], platforms=[0] * 3)
    with pytest.raises(ValueError, match=r"fixed gave scores \(1, 3\) or NaN"):
        evaluate(Fixed([0, float("nan"), 1]), Task("t", history, part(history, [[1]])))


def test_parts_of_different_wholes_are_refused() -> None:
    history = events([[0]], platforms=[0] * 3)
    with pytest.raises(ValueError, match="different vocabularies"):
        Task("t", history, events([[1]], platforms=[0] * 3))


def test_a_report_prints_a_table_and_becomes_json() -> None:
    history = events([[0], [1]], platforms=[0] * 4)
    report = evaluate(Fixed([1, 2, 3, 4]), Task("valid", history, part(history, [[2], [3]]), ks=(1,)))
    lines = report.table(["hr@1"]).splitlines()
    assert lines[0].startswith("fixed on valid")
    assert lines[2].split() == ["all", "2", "0.5000"]
    assert json.loads(report.to_json())["rows"][0] == {
        "cohort": "all",
        "metric": "recall@1",
        "num_queries": 2,
        "value": 0.5,
    }
    with pytest.raises(KeyError, match="no hr@9 for all"):
        report.value("hr@9")
