"""Every model on one bench: the same events known to all, the same held-out ones asked for."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import isthmus
from graph.interactions import join
from graph.snapshot import Snapshot, read_snapshot
from graph.split import Split, random_per_user
from models.baselines.popularity import Popularity
from tests.planted_training import SMALL, TEXT_MODEL, write_no_vectors, write_word_vectors
from train.compare import Entry, asked_of, compare, held_out_task, next_task, withheld_task
from train.data import split_by
from train.evaluate import evaluate
from train.families import FAMILIES
from train.loop import TrainingError
from train.run import WorkerConfig
from train.runs import Run


@pytest.fixture(scope="module")
def bench(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The planted graph in a var folder of its own."""
    var = tmp_path_factory.mktemp("var")
    shutil.copytree(planted_snapshot.path, var / "snapshots" / planted_snapshot.id)
    write_word_vectors(planted_snapshot, var / "vectors")
    return Run(planted_snapshot.id, TEXT_MODEL, replace(SMALL, epochs=15), var)


@pytest.fixture(scope="module")
def split(bench: Run) -> Split:
    return split_by(bench.config.split, read_snapshot(bench.inputs.snapshot).interactions(), bench.config.seed)


@pytest.fixture(scope="module")
def usual(bench: Run) -> list[Entry]:
    return list(compare(bench, ks=(3,)))


def test_the_history_at_test_holds_training_and_validation_and_never_a_target(split: Split):
    task = held_out_task(split)
    assert len(task.histories) == len(split.train) + len(split.validation)
    known = set(zip(task.histories.user.tolist(), task.histories.item.tolist(), strict=True))
    asked = set(zip(task.targets.user.tolist(), task.targets.item.tolist(), strict=True))
    assert asked.isdisjoint(known)


def test_at_random_the_validation_part_is_neither_told_nor_offered(split: Split):
    task = withheld_task(split)
    assert task.histories is split.train
    assert task.withheld is split.validation


def test_each_protocol_asks_its_own_question(split: Split):
    assert asked_of("leave_one_out", split, seed=4).seed == 4
    assert asked_of("random_per_user", split).withheld is split.validation
    assert asked_of("newcomers", split).name == "next"
    by_time = asked_of("temporal", split)
    assert len(by_time.histories) == len(split.train) + len(split.validation)
    assert by_time.targets is split.test
    assert by_time.withheld is None


def test_by_time_all_that_a_person_did_from_the_instant_on_is_asked_for_at_once(bench: Run):
    """Even of people without any event before it."""
    run = replace(bench, config=replace(SMALL, split="temporal", validation_from="2024-01-04", test_from="2024-01-10"))
    [entry] = compare(run, ["popularity"], ks=(20,))
    split = run.config.parted(read_snapshot(run.inputs.snapshot).interactions())
    asked = np.unique(split.test.user * 10 + split.test.platform)
    [row] = (row for row in entry.report.rows if (row.cohort, row.metric) == ("all", "recall@20"))
    assert row.num_queries == len(asked) < len(split.test)
    [strangers] = (row for row in entry.report.rows if (row.cohort, row.metric) == ("no history", "recall@20"))
    known = np.unique(np.concatenate([split.train.user, split.validation.user]))
    assert strangers.num_queries == len(np.unique(asked[~np.isin(asked // 10, known)])) > 0


def test_what_is_asked_next_is_the_first_event_after_the_history_and_on_a_new_platform_if_there_is_one(split: Split):
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


def test_after_leave_one_out_everybody_is_asked_for_their_last_event(split: Split):
    assert next_task(split).targets.item.tolist() == split.test.item.tolist()


def test_the_usual_models_are_compared_once_and_the_flagship_finds_what_was_planted(usual: list[Entry]):
    assert [entry.model for entry in usual] == ["popularity", "item-knn", "ease", "isthmus"]
    popularity, *_, flagship = (entry.report.value("ndcg@3") for entry in usual)
    assert flagship > popularity + 0.2


def test_an_entry_says_what_was_chosen_and_what_it_took(usual: list[Entry]):
    knn, flagship = usual[1], usual[3]
    assert set(knn.settings) == {"neighbours", "shrinkage", "decay"}
    assert 0 < knn.fit_seconds < knn.tune_seconds
    assert knn.peak_bytes <= flagship.peak_bytes
    assert {"diversity@3", "auc"} <= {row.metric for row in knn.report.rows}


def test_baselines_are_fitted_on_the_training_part_alone(usual: list[Entry], split: Split):
    task = held_out_task(split, ks=(3,))
    report = usual[0].report
    fitted = evaluate(Popularity.fit(split.train), task)
    fitted_on_all = evaluate(Popularity.fit(join(join(split.train, split.validation), split.test)), task)
    assert {row.metric: report.value(row.metric) for row in fitted.rows} == {
        row.metric: fitted.value(row.metric) for row in fitted.rows
    }
    assert report.value("ndcg@3") != fitted_on_all.value("ndcg@3")


def test_a_flagship_that_was_trained_is_not_trained_again_and_keeps_its_time(usual: list[Entry], bench: Run):
    result = bench.result()
    assert result is not None, "a comparison keeps its runs"
    told: list[str] = []
    [again] = compare(bench, ["isthmus"], ks=(3,), told=told.append)
    assert not any("epoch" in text for text in told)
    assert again.fit_seconds > result.seconds
    assert again.report.value("ndcg@3") == usual[3].report.value("ndcg@3")


def test_seeds_are_repetitions_with_their_own_split(bench: Run):
    config = replace(SMALL, split="random_per_user", seed=7)
    entries = list(compare(replace(bench, config=config), ["popularity"], seeds=2))
    interactions = read_snapshot(bench.inputs.snapshot).interactions()
    wanted = interactions.where(interactions.weight > 0)
    for entry, seed in zip(entries, (7, 8), strict=True):
        assert entry.seed == seed
        own = evaluate(
            Popularity.fit((s := random_per_user(wanted, seed=seed)).train), replace(withheld_task(s), seed=seed)
        )
        assert entry.report.value("ndcg@10") == own.value("ndcg@10")


LEARNED = {name: {"epochs": 1} for name, family in FAMILIES.items() if "validate" in family.takes}


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if "run" not in family.takes])
def test_every_family_fits_what_it_is_given(name: str, bench: Run, monkeypatch: pytest.MonkeyPatch):
    """With the first of its settings, one epoch: that its models learn is tested beside them."""
    family = FAMILIES[name]
    if name == "als":
        pytest.importorskip("implicit")
    grid = {setting: values[:1] for setting, values in family.grid.items()}
    if name in LEARNED:
        grid |= {"epochs": (1,)}
    monkeypatch.setattr("train.compare.FAMILIES", {name: replace(family, grid=grid, decays=family.decays[:2])})
    [entry] = compare(bench, [name])
    assert entry.model == name
    assert 0 <= entry.report.value("ndcg@10") <= 1


@pytest.mark.parametrize(
    ("models", "sampled", "sentence"),
    [
        (["eases"], None, "no model is called eases: name some of popularity, "),
        (["ease"], 5, "5 sampled items are fewer"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_fitted(bench: Run, models, sampled, sentence):
    with pytest.raises(TrainingError, match=sentence):
        next(compare(bench, models, sampled=sampled))


def test_without_text_vectors_models_of_interactions_can_still_be_compared(bench: Run):
    bare = replace(bench, text_model="none")
    [entry] = compare(bare, ["popularity"])
    assert not any(row.metric.startswith("diversity") for row in entry.report.rows)
    with pytest.raises(Exception, match="isthmus embed"):
        next(compare(bare, ["text-gcn"]))


def test_on_a_graph_without_any_text_every_list_is_not_called_diverse(bench: Run, tmp_path: Path):
    shutil.copytree(bench.var / "snapshots", tmp_path / "snapshots")
    write_no_vectors(tmp_path / "vectors")
    [entry] = compare(replace(bench, var=tmp_path), ["popularity"])
    assert not any(row.metric.startswith("diversity") for row in entry.report.rows)


def _command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["isthmus", *arguments])
    with pytest.raises(SystemExit) as ended:
        isthmus.main()
    assert not ended.value.code


def test_the_command_prints_a_leaderboard_and_saves_it(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = [
        "--var",
        str(bench.var),
        "--snapshot",
        bench.snapshot,
        "--text-model",
        TEXT_MODEL,
        "--save",
        str(tmp_path),
    ]
    asked = ["--models", "popularity,ease", "--metrics", "ndcg@3,mrr,coverage@3", "--seeds", "2", "--sampled", "5"]
    _command(monkeypatch, "compare", *options, *asked, "--protocol", "random_per_user")
    captured = capsys.readouterr()
    printed = captured.out.splitlines()
    assert [line.split()[0] for line in captured.err.splitlines()] == ["popularity", "ease"] * 2
    assert re.search(r"queries +ndcg@3 +mrr +fit s +score s +peak GiB +behind the best, 95 %$", printed[0])
    assert printed[1].startswith("ease ")
    assert printed[2].startswith("popularity ")
    assert any(line.startswith("platform:films") for line in printed)
    said = json.loads((tmp_path / "leaderboard.json").read_text())
    assert (said["protocol"], said["sampled"], said["snapshot"]) == ("random_per_user", 5, bench.snapshot)
    assert [model["model"] for model in said["models"]] == ["ease", "popularity"]
    assert (tmp_path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_splits_by_time_where_it_is_told_to(
    bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "isthmus.yaml").write_text(
        "training: {split: temporal, validation_from: 2024-01-05, test_from: 2024-01-08T12:00:00Z}\n"
    )
    options = ["--var", str(bench.var), "--snapshot", bench.snapshot, "--text-model", TEXT_MODEL, "--save", "."]

    def said(*asked: str) -> tuple[str, str | None, str | None]:
        _command(monkeypatch, "compare", *options, "--models", "popularity", *asked)
        about = json.loads((tmp_path / "leaderboard.json").read_text())
        return about["protocol"], about["validation_from"], about["test_from"]

    assert said() == ("temporal", "2024-01-05", "2024-01-08T12:00:00+00:00")
    assert said("--test-from", "2024-01-10") == ("temporal", "2024-01-05", "2024-01-10T00:00:00")
    assert said("--protocol", "leave_one_out") == ("leave_one_out", None, None)
    (tmp_path / "isthmus.yaml").unlink()
    assert said("--protocol", "temporal") == ("temporal", None, None)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["isthmus", "compare", *options, "--test-from", "2024-01-10"])
    with pytest.raises(SystemExit) as ended:
        isthmus.main()
    assert ended.value.code == 1
    assert "instants are for the split temporal alone" in capsys.readouterr().err


def test_the_help_of_the_command_names_every_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    _command(monkeypatch, "compare", "--help")
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert set(FAMILIES) <= set(words)


def test_evaluate_is_the_comparison_of_the_last_run_with_the_usual_models(
    bench: Run, usual: list[Entry], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    bench.fit(WorkerConfig(workers=0))
    _command(monkeypatch, "evaluate", "--var", str(bench.var), "--cohorts")
    printed = capsys.readouterr().out
    for said in ("popularity", "item-knn", "ease", "isthmus", "ndcg@20", "several platforms", "95 %"):
        assert said in printed
