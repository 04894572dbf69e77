"""The training loop in this process: it learns, keeps its best weights, stops in time, goes on where it was killed."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from graph.snapshot import Snapshot
from models.flagship import Flagship
from models.leads_to import LeadsTo
from tests.planted_training import SMALL, PlantedRun, train_planted
from train.evaluate import evaluate
from train.loop import METRIC, LoopConfig, _Kept, best_encoder, prepare, share_of, validation_task
from train.run import WorkerConfig, train

FOUR = replace(SMALL, epochs=4)
DAYS = {"validation_from": "2024-01-04", "test_from": "2024-01-05"}
BY_TIME = replace(SMALL, split="temporal", **DAYS)


def told(run_log: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_log / "metrics.jsonl").read_text().splitlines()]


def lasting(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those of the clock."""
    return {name: value for name, value in metrics.items() if "seconds" not in name}


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run_folder / "state.pt", weights_only=True)["weights"]
    return state


def test_the_loss_falls_and_every_epoch_is_told(planted_run: PlantedRun) -> None:
    metrics = told(planted_run.inputs.log)
    assert [line["epoch"] for line in metrics] == list(range(1, planted_run.result.epochs + 1))
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert planted_run.result.best == max(line[METRIC] for line in metrics) == metrics[-1]["best"]
    assert len(list(planted_run.inputs.log.glob("events.out.tfevents.*"))) == 1


def test_the_best_weights_are_those_of_the_best_epoch(planted_run: PlantedRun) -> None:
    prepared = prepare(planted_run.inputs, planted_run.config)
    encoder = best_encoder(planted_run.result.checkpoint, prepared, planted_run.config)
    flagship = Flagship.from_encoder(encoder, prepared.items.graph, LeadsTo.empty(len(prepared.split.train.items)))
    value = evaluate(flagship, validation_task(prepared.split)).value(METRIC)
    assert value == pytest.approx(planted_run.result.best, abs=1e-6)


def test_validation_asks_with_training_events_for_validation_events(planted_run: PlantedRun) -> None:
    split = prepare(planted_run.inputs, planted_run.config).split
    task = validation_task(split)
    assert task.histories is split.train
    assert task.targets is split.validation


def test_every_epoch_is_judged_by_the_same_people_where_there_are_many(planted_run: PlantedRun) -> None:
    split = prepare(planted_run.inputs, planted_run.config).split
    asked, again, others = (validation_task(split, 10, seed).targets for seed in (0, 0, 1))
    assert len(np.unique(asked.user)) == 10
    assert set(asked.user) == set(again.user) != set(others.user)
    events = set(zip(split.validation.user.tolist(), split.validation.item.tolist(), strict=True))
    assert {event for event in events if event[0] in asked.user} == set(
        zip(asked.user.tolist(), asked.item.tolist(), strict=True)
    )


def test_training_stops_when_validation_has_not_been_better_for_the_patience(
    planted_snapshot: Snapshot, tmp_path: Path
) -> None:
    run = train_planted(planted_snapshot, tmp_path, replace(SMALL, epochs=30, patience=2, learning_rate=1e-9))
    values = [line[METRIC] for line in told(run.inputs.log)]
    assert len(values) < 30
    assert len(values) == values.index(max(values)) + 1 + 2


@pytest.mark.parametrize("neighbours", [0, 3])
def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(
    planted_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    config = replace(FOUR, objective=replace(FOUR.objective, neighbours=neighbours))
    whole = train_planted(planted_snapshot, tmp_path / "whole", config)
    expected = told(whole.inputs.log)

    keep = _Kept.keep

    def keep_and_die(kept, run):
        saved = keep(kept, run)
        if run.epoch == 2:
            raise KeyboardInterrupt
        return saved

    monkeypatch.setattr(_Kept, "keep", keep_and_die)
    with pytest.raises(KeyboardInterrupt):
        train_planted(planted_snapshot, tmp_path / "killed", config)
    monkeypatch.undo()

    inputs = replace(whole.inputs, log=tmp_path / "killed" / "log")
    result = train(inputs, config, WorkerConfig(workers=0), tmp_path / "killed" / "storage")
    resumed = told(inputs.log)
    assert [line["epoch"] for line in resumed] == [3, 4]
    for line, other in zip(resumed, expected[2:], strict=True):
        assert lasting(line) == pytest.approx(lasting(other), rel=1e-4)
    for name, value in weights(result.checkpoint).items():
        torch.testing.assert_close(value, weights(whole.result.checkpoint)[name], rtol=1e-3, atol=1e-5)
    assert result.best == pytest.approx(whole.result.best)


def test_a_few_neighbours_in_each_step_teach_about_what_the_whole_graph_teaches(
    planted_snapshot: Snapshot, planted_run: PlantedRun, tmp_path: Path
) -> None:
    config = replace(SMALL, objective=replace(SMALL.objective, neighbours=3))
    run = train_planted(planted_snapshot, tmp_path, config)
    assert run.result.best == pytest.approx(planted_run.result.best, abs=0.1)


def test_a_run_that_has_ended_says_so_again(planted_run: PlantedRun) -> None:
    again = train(
        planted_run.inputs, planted_run.config, WorkerConfig(workers=0), planted_run.result.checkpoint.parents[1]
    )
    assert replace(again, seconds=0) == replace(planted_run.result, seconds=0)


def test_one_checkpoint_is_kept(planted_run: PlantedRun) -> None:
    folder = planted_run.result.checkpoint.parent
    assert [child.name for child in folder.iterdir()] == [f"epoch-{planted_run.result.epochs:06d}"]


def test_another_seed_is_another_training(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    one, same, other = (
        train_planted(planted_snapshot, tmp_path / str(number), replace(SMALL, epochs=1, seed=seed))
        for number, seed in enumerate([0, 0, 1])
    )
    losses = [told(run.inputs.log)[0]["loss"] for run in (one, same, other)]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] != pytest.approx(losses[2])


def test_unordered_histories_are_trained_on_too(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    config = replace(SMALL, epochs=5, encoder=replace(SMALL.encoder, ordered=False))
    metrics = told(train_planted(planted_snapshot, tmp_path, config).inputs.log)
    assert metrics[-1]["loss"] < metrics[0]["loss"]


@pytest.mark.parametrize("config", [SMALL, BY_TIME])
def test_a_configuration_travels_as_a_dictionary_and_comes_back(config: LoopConfig) -> None:
    assert LoopConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_training_by_time_knows_nothing_from_validation_on_and_learns(
    planted_snapshot: Snapshot, tmp_path: Path
) -> None:
    run = train_planted(planted_snapshot, tmp_path, replace(BY_TIME, epochs=5))
    split = prepare(run.inputs, run.config).split
    boundaries = [datetime(2024, 1, day, tzinfo=UTC).timestamp() for day in (4, 5)]
    assert split.train.at.max() < boundaries[0] <= split.validation.at.min()
    assert split.validation.at.max() < boundaries[1] <= split.test.at.min()
    assert run.result.best > 0


def test_instants_without_a_zone_are_utc_and_others_are_what_they_say(planted_snapshot: Snapshot) -> None:
    whole = planted_snapshot.interactions()
    there = replace(BY_TIME, validation_from="2024-01-04T05:00:00+05:00", test_from="2024-01-04T19:00-05:00")
    one, other = BY_TIME.parted(whole), there.parted(whole)
    assert one.validation.at.tolist() == other.validation.at.tolist()
    assert one.test.at.tolist() == other.test.at.tolist()


def test_without_instants_the_newest_tenth_of_what_people_wanted_is_test(planted_snapshot: Snapshot) -> None:
    split = replace(SMALL, split="temporal").parted(planted_snapshot.interactions())
    total = len(split.train) + len(split.validation) + len(split.test)
    assert 0.08 < len(split.validation) / total < 0.15
    assert 0.08 < len(split.test) / total < 0.15
    assert split.train.at.max() < split.validation.at.min()
    assert split.validation.at.max() < split.test.at.min()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience 0"),
        ({"batch": 0}, "batch 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay -1.0"),
        (DAYS, "test_from is 2024-01-05, the split leave_one_out: instants are for the split temporal alone"),
        ({"split": "temporal", "test_from": "2024-01-05"}, "validation_from is None .* give both, or neither"),
        ({"split": "temporal", **DAYS, "test_from": "soon"}, "test_from is soon: give two instants in ISO 8601"),
        ({"split": "temporal", **DAYS, "test_from": "2024-01-04"}, "test_from is 2024-01-04: validation comes first"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_its_values(values, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(SMALL, **values)


@pytest.mark.parametrize(("windows", "workers"), [(7, 1), (7, 3), (6, 3), (2, 3), (1, 4)])
def test_every_window_is_somebodys_and_no_worker_waits_for_another(windows: int, workers: int) -> None:
    order = np.random.default_rng(0).permutation(windows)
    shares = [share_of(order, rank, workers) for rank in range(workers)]
    assert len({len(share) for share in shares}) == 1
    assert set(np.concatenate(shares).tolist()) == set(range(windows))
    assert sum(map(len, shares)) < windows + workers
