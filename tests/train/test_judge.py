"""Judging: both are asked what neither knew, and only what is shown not to be worse passes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from graph.interactions import Histories
from graph.snapshot import Snapshot
from graph.split import leave_one_out
from graph.vocabulary import Vocabulary
from models.bundle import Bundle
from tests.planted_training import PlantedRun
from train.compare import held_out_task
from train.evaluate import Task
from train.judge import Elsewhere, Verdict, compared, is_not_worse, judge, made_until, parted_since
from train.loop import TrainingError
from train.release import assemble


class Told:
    """Scores items by a fixed share of chance and truth: 1 puts each person's target first."""

    name = "told"

    def __init__(self, task: Task, share: float, seed: int = 0) -> None:
        self._task, self._share, self._seed = task, share, seed

    def score(self, histories: Histories) -> NDArray[np.float32]:
        assert histories.users is not None
        scores = np.random.default_rng(self._seed).random((len(histories), len(self._task.targets.items)))
        knows = np.random.default_rng(7).random(len(self._task.targets.users)) < self._share
        for line, user in enumerate(histories.users):
            if knows[user]:
                scores[line, self._task.targets.item[self._task.targets.user == user]] = 2
        return scores.astype(np.float32)


@pytest.fixture(scope="module")
def task(planted_snapshot: Snapshot) -> Task:
    events = planted_snapshot.interactions()
    return held_out_task(leave_one_out(events.where(events.weight > 0)))


def test_the_rule_is_the_lower_end_against_a_margin_and_takes_enough_people():
    assert is_not_worse(old=0.2, low=-0.002, people=30)
    assert not is_not_worse(old=0.2, low=-0.0021, people=30)
    assert is_not_worse(old=0.0, low=0.0, people=30)
    assert not is_not_worse(old=0.2, low=0.1, people=29)


def test_what_is_better_or_the_same_passes_and_what_is_worse_or_cannot_be_told_does_not(task: Task):
    good, same, bad = Told(task, 0.9), Told(task, 0.9), Told(task, 0.2)
    better = compared(good, bad, task, "old")
    assert better.is_not_worse
    assert better.low > 0
    assert better.people == len(np.unique(task.targets.user))
    equal = compared(same, good, task, "old")
    assert equal.is_not_worse
    assert equal.low == equal.high == 0
    worse = compared(bad, good, task, "old")
    assert not worse.is_not_worse
    assert worse.high < 0
    assert worse.new - worse.old == pytest.approx(better.old - better.new)
    noise = compared(Told(task, 0.2, seed=1), Told(task, 0.2, seed=2), task, "old")
    assert noise.low < 0 < noise.high
    assert not noise.is_not_worse, "that no difference is seen does not show that there is none"
    assert worse.said()["not_worse"] is False
    assert "[-" in str(worse)


def test_a_bundle_scores_over_another_snapshots_rows_as_over_its_own(planted_bundle: Path, planted_snapshot: Snapshot):
    events = planted_snapshot.interactions()
    bundle = Bundle.open(planted_bundle)
    histories = events.histories(np.arange(8))
    own = Elsewhere(bundle, events).score(histories)
    assert own == pytest.approx(bundle.flagship.score(histories), abs=1e-5)
    # Another snapshot: a new item before all others, a new type, the rest of the items the other way round.
    number = len(events.items)
    moved = replace(
        events,
        item=number - events.item,
        type=events.type + 1,
        items=Vocabulary(["aaa:new", *reversed(events.items.keys)]),
        event_types=("A_NEW_ONE", *events.event_types),
        item_platform=np.concatenate([[0], events.item_platform[::-1]]),
    )
    there = Elsewhere(bundle, moved).score(moved.histories(np.arange(8)))
    assert there[:, 1:][:, ::-1] == pytest.approx(own, abs=1e-5)
    assert (there[:, 0] < own.min()).all(), "an item that it does not know comes last"
    strange = moved.histories(np.arange(8))
    strange = replace(strange, item=np.where(np.arange(len(strange.item)) % 2, 0, strange.item))
    kept = histories.where(np.arange(len(histories.item)) % 2 == 0)
    assert Elsewhere(bundle, moved).score(strange)[:, 1:][:, ::-1] == pytest.approx(
        bundle.flagship.score(kept), abs=1e-5
    ), "events about items that it does not know are not told"


def test_what_is_asked_is_later_than_the_old_bundle_and_known_to_neither(planted_snapshot: Snapshot):
    events = planted_snapshot.interactions()
    split = leave_one_out(events.where(events.weight > 0))
    since = datetime.fromtimestamp(int(np.median(split.test.at)), UTC)
    known, asked = parted_since(split, since)
    assert (asked.at > since.timestamp()).all()
    assert len(known) + len(asked) == len(split.train) + len(split.validation) + len(split.test)
    pairs = {(int(user), int(item), int(at)) for user, item, at in zip(known.user, known.item, known.at, strict=True)}
    assert not pairs & set(zip(asked.user.tolist(), asked.item.tolist(), asked.at.tolist(), strict=True))
    with pytest.raises(TrainingError, match="retrain when people have done more"):
        parted_since(split, since + timedelta(days=400))


def test_the_new_model_is_asked_as_it_would_be_released_without_what_is_asked(
    planted_run: PlantedRun, planted_bundle: Path
):
    old = Bundle.open(planted_bundle)
    trained = assemble(planted_run.inputs, planted_run.config, planted_run.result.checkpoint)
    with pytest.raises(TrainingError, match="retrain when people have done more"):
        judge(trained, planted_run.inputs, planted_run.config, planted_run.result, old)
    said = dict(old.manifest["events"]) | {"newest": "2024-01-01T00:00:00+00:00"}
    earlier = replace(old, manifest=dict(old.manifest) | {"events": said})
    assert made_until(earlier) == datetime(2024, 1, 1, tzinfo=UTC)
    verdict = judge(trained, planted_run.inputs, planted_run.config, planted_run.result, earlier)
    assert verdict == replace(verdict, against=old.version, people=40)
    assert verdict.low < 0 < verdict.high, "the old one was made of what is asked; that the new one is not differs"
    with pytest.raises(TrainingError, match="train once"):
        made_until(replace(old, manifest={"version": "a" * 12}))


def test_a_verdict_is_said_with_its_figures():
    verdict = Verdict("39aa3aa97b30", 1200, 0.154, 0.16, -0.001, 0.013)
    assert str(verdict) == (
        "NDCG@10 0.1600, that of 39aa3aa97b30 0.1540 on what 1,200 people did since; "
        "the difference is in [-0.0010, +0.0130] (95 %)"
    )
    assert verdict.is_not_worse
