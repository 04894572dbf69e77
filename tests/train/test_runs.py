"""Runs that are kept: named by what they were trained on, found again, and not done twice."""

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import isthmus
from graph.errors import SnapshotError
from graph.snapshot import Snapshot
from tests.planted_training import SMALL, TEXT_MODEL, write_word_vectors
from train.loop import TrainingError
from train.release import release
from train.run import WorkerConfig
from train.runs import Run

SHORT = replace(SMALL, epochs=2)
HERE = WorkerConfig(workers=0)


@pytest.fixture(scope="module")
def ended(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs that has ended, in a var folder of its own."""
    var = tmp_path_factory.mktemp("var")
    shutil.copytree(planted_snapshot.path, var / "snapshots" / planted_snapshot.id)
    write_word_vectors(planted_snapshot, var / "vectors")
    run = Run(planted_snapshot.id, TEXT_MODEL, SHORT, var)
    assert run.result() is None
    run.fit(HERE)
    return run


def test_a_run_that_has_ended_is_found_and_not_done_again(ended: Run):
    told: list[object] = []
    again = Run(ended.snapshot, TEXT_MODEL, SHORT, ended.var)
    assert again.fit(HERE, told.append) == ended.result()
    assert told == []
    assert Run.newest(ended.var) == again


def test_another_configuration_or_snapshot_is_another_run(ended: Run):
    assert Run(ended.snapshot, TEXT_MODEL, replace(SHORT, epochs=3), ended.var).result() is None
    assert Run("0" * 16, TEXT_MODEL, SHORT, ended.var).result() is None
    shutil.copytree(ended.var / "vectors" / TEXT_MODEL, ended.var / "vectors" / "others")
    assert Run(ended.snapshot, "others", SHORT, ended.var).result() is None


def test_vectors_that_were_written_since_are_trained_on_anew_and_the_run_that_ended_is_still_found(
    ended: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    var = tmp_path / "var"
    shutil.copytree(ended.var, var)
    whole = Run(ended.snapshot, TEXT_MODEL, SHORT, var)
    file = whole.inputs.vectors / "Item.parquet"
    before, table = file.read_bytes(), pq.read_table(file)
    pq.write_table(table.slice(0, len(table) // 2), file)  # as an embed leaves it whose budget is used up
    partial = Run(ended.snapshot, TEXT_MODEL, SHORT, var)
    assert partial.result() is None, "the run on the vectors of before is not taken for it"
    result = partial.fit(HERE)
    bundle = release(partial.inputs, partial.config, result, var / "bundles")
    later = time.time() + 60
    os.utime(partial.folder / "result.json", (later, later))
    file.write_bytes(before)
    newest = Run.newest(var)
    assert (newest.folder, newest.result(), newest.bundle()) == (partial.folder, result, bundle)
    assert newest.other_now() == [TEXT_MODEL]
    monkeypatch.setattr(sys, "argv", ["isthmus", "evaluate", "--var", str(var)])
    with pytest.raises(SystemExit):
        isthmus.main()
    said = capsys.readouterr()
    assert f"the vectors of {TEXT_MODEL} were written again since" in said.err
    assert "popularity" in said.out, "it is evaluated all the same, and not trained again"
    assert len(list((var / "training").iterdir())) == 2
    found = Run(ended.snapshot, TEXT_MODEL, SHORT, var)
    assert (found.folder, found.bundle()) == (whole.folder, None), "the same vectors again: the run on them is found"
    assert found.other_now() == []


def test_a_run_of_an_earlier_program_is_not_taken_up(ended: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("train.runs.FORM", 0)
    assert Run(ended.snapshot, TEXT_MODEL, SHORT, ended.var).result() is None
    with pytest.raises(TrainingError, match=r"is of an earlier program: run isthmus train again"):
        Run.newest(ended.var)


def test_the_bundle_of_a_run_is_found_by_what_it_was_trained_on(ended: Run):
    result = ended.result()
    assert result is not None
    assert ended.bundle() is None
    released = release(ended.inputs, ended.config, result, ended.var / "bundles")
    assert ended.bundle() == released
    assert replace(ended, config=replace(SHORT, seed=1)).bundle() is None


def test_a_run_whose_checkpoint_is_gone_is_done_again(ended: Run, tmp_path: Path):
    var = tmp_path / "moved"
    shutil.copytree(ended.var, var)
    moved = replace(ended, var=var)
    result = moved.result()
    assert result is not None
    assert result.checkpoint.is_relative_to(var), "a var folder can be moved"
    shutil.rmtree(result.checkpoint)
    assert moved.result() is None


def test_without_any_run_the_next_step_is_said(tmp_path: Path):
    with pytest.raises(TrainingError, match="run isthmus train first"):
        Run.newest(tmp_path)


def test_without_text_vectors_no_worker_is_started(ended: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("train.runs.train", None)
    with pytest.raises(SnapshotError, match=r"other.Item\.parquet does not exist: .* isthmus embed"):
        replace(ended, text_model="other").fit(HERE)
