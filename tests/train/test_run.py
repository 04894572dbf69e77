"""Runs on a real Ray: a worker that is killed, two workers that keep in step; and a run in this process."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graph.snapshot import Snapshot
from tests.planted_training import SMALL, train_planted
from train.loop import BEST, METRIC
from train.run import WorkerConfig, train

FOUR = replace(SMALL, epochs=4)


def killed_once(marker: Path):
    """The training loop of a worker whose process is killed, once, when its second epoch has ended but is not saved."""

    def loop(values):
        import os
        import signal
        import time

        import train.loop

        finish = train.loop._Run.finish_epoch

        def finish_and_die(run, value):
            finish(run, value)
            if run.epoch == 2 and not marker.exists():
                marker.write_text(str(os.getpid()))
                time.sleep(15)  # the controller asks now and then what was reported: let it hear of the first epoch
                os.kill(os.getpid(), signal.SIGKILL)

        train.loop._Run.finish_epoch = finish_and_die
        try:
            train.loop.train_on_worker(values)
        finally:
            train.loop._Run.finish_epoch = finish

    return loop


def leaves_its_weights(folder: Path):
    """The training loop of a worker that writes its weights down after every epoch."""

    def loop(values):
        import ray.train
        import torch

        import train.loop

        finish, rank = train.loop._Run.finish_epoch, ray.train.get_context().get_world_rank()

        def finish_and_write(run, value):
            finish(run, value)
            torch.save(run._encoder.state_dict(), folder / f"{rank}-{run.epoch}.pt")

        train.loop._Run.finish_epoch = finish_and_write
        try:
            train.loop.train_on_worker(values)
        finally:
            train.loop._Run.finish_epoch = finish

    return loop


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_local")
def test_a_worker_that_is_killed_goes_on_from_the_last_checkpoint_and_ends_as_if_it_had_not_been(
    planted_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train_planted(planted_snapshot, tmp_path / "undisturbed", FOUR)
    marker = tmp_path / "killed"
    monkeypatch.setattr("train.run.train_on_worker", killed_once(marker))
    inputs = replace(undisturbed.inputs, log=tmp_path / "log")
    seen: list[dict[str, float]] = []
    result = train(inputs, FOUR, WorkerConfig(workers=1), tmp_path / "storage", seen.append)
    assert int(marker.read_text()) > 0
    # The second epoch was done twice but told once; nothing was lost and nothing done again before it.
    assert [line["epoch"] for line in seen] == [1, 2, 3, 4]
    assert result.epochs == 4
    assert result.best == pytest.approx(undisturbed.result.best, abs=1e-4)
    assert (result.checkpoint / "best.safetensors").is_file()

    monkeypatch.undo()
    again = train(inputs, FOUR, WorkerConfig(workers=1), tmp_path / "storage")
    assert replace(again, seconds=0) == replace(result, seconds=0)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_local")
def test_two_workers_share_out_the_ids_hold_all_else_alike_and_learn_about_what_one_learns(
    planted_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of two workers takes half of the windows in batches of half the size: as many steps, as large.
    # tests/train/test_sharded.py has it that what goes on from such a checkpoint ends as if nothing had happened.
    config = replace(FOUR, objective=replace(FOUR.objective, neighbours=3))
    alone = train_planted(planted_snapshot, tmp_path / "alone", config)
    monkeypatch.setattr("train.run.train_on_worker", leaves_its_weights(tmp_path))
    inputs = replace(alone.inputs, log=tmp_path / "log")
    result = train(inputs, replace(config, batch=SMALL.batch // 2), WorkerConfig(workers=2), tmp_path / "storage")
    best = load_file(result.checkpoint / BEST)
    for epoch in (1, 4):
        first, second = (torch.load(tmp_path / f"{rank}-{epoch}.pt", weights_only=True) for rank in (0, 1))
        assert len(first.pop("items.id")) + len(second.pop("items.id")) == len(best["items.id"])
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
    states = [torch.load(result.checkpoint / f"state-{rank}-of-2.pt", weights_only=True) for rank in (0, 1)]
    assert states[0]["counts"] == states[1]["counts"]
    both, one = (
        [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
        for log in (inputs.log, alone.inputs.log)
    )
    assert both[-1]["loss"] == pytest.approx(one[-1]["loss"], rel=0.2)
    assert both[-1][METRIC] == pytest.approx(one[-1][METRIC], abs=0.15)
    assert result.epochs == 4


def test_progress_is_told_from_another_thread_while_training_runs(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    run = train_planted(planted_snapshot, tmp_path / "first", replace(SMALL, epochs=1))
    threads, seen = set(), []

    def progress(metrics: dict[str, float]) -> None:
        threads.add(threading.current_thread())
        seen.append(metrics["epoch"])

    inputs = replace(run.inputs, log=tmp_path / "log")
    train(inputs, replace(SMALL, epochs=3), WorkerConfig(workers=0), tmp_path / "storage", progress)
    assert seen == [1, 2, 3]
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("values", [{"workers": -1}, {"cpus_per_worker": 0}, {"max_failures": -1}])
def test_workers_that_cannot_be_are_refused_with_their_values(values) -> None:
    name, value = next(iter(values.items()))
    with pytest.raises(ValueError, match=f"{name}.* {value}|{value}"):
        WorkerConfig(**values)
