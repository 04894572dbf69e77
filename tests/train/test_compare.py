"""Every model on one test: the same events known to all, the same held-out ones asked for."""

from dataclasses import replace

import numpy as np
import pytest

from graph.interactions import join
from graph.split import Split
from models.baselines.popularity import Popularity
from tests.planted_training import PlantedRun
from train.compare import compare, held_out_task, next_task, table
from train.evaluate import Report, Row, evaluate
from train.release import Trained, assemble


@pytest.fixture(scope="module")
def trained(planted_run: PlantedRun) -> Trained:
    return assemble(planted_run.inputs, planted_run.config, planted_run.result.checkpoint)


def test_the_history_at_test_holds_training_and_validation_and_never_a_target(trained: Trained):
    split = trained.prepared.split
    task = held_out_task(split)
    assert len(task.histories) == len(split.train) + len(split.validation)
    known = set(zip(task.histories.user.tolist(), task.histories.item.tolist(), strict=True))
    asked = set(zip(task.targets.user.tolist(), task.targets.item.tolist(), strict=True))
    assert asked.isdisjoint(known)


def test_what_is_asked_next_is_the_first_event_after_the_history_and_on_a_new_platform_if_there_is_one(
    trained: Trained,
):
    split = trained.prepared.split
    whole = join(join(split.train, split.validation), split.test)
    user = int(np.argmax(np.bincount(whole.user)))
    mine = np.flatnonzero(whole.user == user)
    old = whole.platform[mine[0]]
    new = next(place for place in mine[3:] if whole.platform[place] != old)
    training = np.isin(np.arange(len(whole)), mine[:3]) & (whole.platform == old)
    rest = np.isin(np.arange(len(whole)), mine) & ~training
    nobody = np.zeros(len(whole), np.bool_)
    task = next_task(Split(whole.where(training), whole.where(nobody), whole.where(rest)))
    assert task.targets.item.tolist() == [whole.item[new]]
    assert task.histories.item.tolist() == whole.item[training].tolist()


def test_after_leave_one_out_everybody_is_asked_for_their_last_event(trained: Trained):
    split = trained.prepared.split
    assert next_task(split).targets.item.tolist() == split.test.item.tolist()


def test_every_model_is_compared_once_and_the_flagship_finds_what_was_planted(trained: Trained):
    reports = list(compare(trained, held_out_task(trained.prepared.split, ks=(3,))))
    assert [report.scorer for report in reports] == ["popularity", "item-knn", "ease", "isthmus"]
    popularity, *_, flagship = (report.value("ndcg@3") for report in reports)
    assert flagship > popularity + 0.2


def test_baselines_are_fitted_on_the_training_part_alone(trained: Trained):
    split = trained.prepared.split
    task = held_out_task(split)
    first = next(compare(trained, task))
    fitted_on_all = evaluate(Popularity.fit(join(join(split.train, split.validation), split.test)), task)
    assert replace(first, seconds=0) == replace(evaluate(Popularity.fit(split.train), task), seconds=0)
    assert not np.allclose([row.value for row in first.rows], [row.value for row in fitted_on_all.rows])


def test_the_table_has_a_line_for_each_model_that_was_asked():
    rows = [Row("all", "hr@10", 0.5, 1200), Row("new", "hr@10", 0.25, 3)]
    reports = [Report("test", "isthmus", rows, 1.0), Report("test", "ease", rows[:1], 1.0)]
    assert table(reports, ["hr@10"]).splitlines() == [
        "all               hr@10     1,200 queries",
        "isthmus          0.5000",
        "ease             0.5000",
    ]
    assert table(reports, ["hr@10"], "new").splitlines()[1:] == ["isthmus          0.2500"]
