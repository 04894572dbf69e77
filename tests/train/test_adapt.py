"""Beginning with what an earlier run learned: rows find their names, a base stays as it is."""

import json
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import isthmus
from graph.interactions import join
from graph.keys import AccountKey, ItemKey, PlatformKey
from graph.records import Account, Edge, Event, Item, Link, Node, Platform, Relation
from graph.snapshot import Snapshot, read_snapshot, write_snapshot
from graph.store import Store, open_store
from models.encoder import Encoder
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.text import DEFAULT_MODEL, vectors_name
from tests.planted import person, plant, planted_records
from tests.planted_training import SMALL, TEXT_MODEL, write_word_vectors
from train.adapt import AdaptationError, begin, take_in
from train.data import new_encoder
from train.evaluate import Task, evaluate
from train.loop import BEST, METRIC, LoopConfig, Prepared, TrainingError, _Kept, prepare
from train.release import release
from train.run import TrainingResult, WorkerConfig
from train.runs import Run

HERE = WorkerConfig(workers=0)
NEW = "music"
LATE = "crime-4"
"""Somebody who came after the earlier snapshot."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and what it left."""

    run: Run
    result: TrainingResult

    @property
    def weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = load_file(self.result.checkpoint / BEST)
        return weights

    @property
    def last_weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = torch.load(self.result.checkpoint / "state.pt", weights_only=True)["weights"]
        return weights

    @property
    def told(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.run.inputs.log / "metrics.jsonl").read_text().splitlines()]


def fitted(run: Run) -> Ended:
    return Ended(run, run.fit(HERE))


def before(record: Node | Link | Edge) -> bool:
    """Whether the earlier snapshot knows it: no music, none of what LATE did, and no last item of a ring."""
    match record:
        case Platform(key):
            return key != PlatformKey(NEW)
        case Item(key):
            return key.platform != NEW and not key.id.endswith("-6")
        case Account(key) | Link(key):
            return key.platform != NEW and key != person(LATE).account(key.platform)
        case Event():
            return before(Account(record.account)) and before(Item(record.item))
        case Relation():
            ends = [end for end in (record.source, record.target) if isinstance(end, AccountKey | ItemKey)]
            return all(before(Item(end) if isinstance(end, ItemKey) else Account(end)) for end in ends)
        case _:
            return True


def plant_earlier(store: Store) -> None:
    planted = planted_records()
    store.ensure_schema()
    store.upsert_nodes([node for node in planted.nodes if before(node)])
    store.link([link for link in planted.links if before(link)])
    store.upsert_edges([edge for edge in planted.edges if before(edge)])


@pytest.fixture(scope="module")
def var(planted_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A var folder with text vectors and the whole planted snapshot."""
    folder = tmp_path_factory.mktemp("var")
    shutil.copytree(planted_snapshot.path, folder / "snapshots" / planted_snapshot.id)
    write_word_vectors(planted_snapshot, folder / "vectors")
    return folder


@pytest.fixture(scope="module")
def base(var: Path) -> Ended:
    """A run on an earlier and smaller snapshot."""
    with open_store(f"sqlite:///{var / 'earlier.db'}") as store:
        plant_earlier(store)
        snapshot = write_snapshot(store, var / "snapshots")
    return fitted(Run(snapshot.id, TEXT_MODEL, replace(SMALL, epochs=10), var))


@pytest.fixture(scope="module")
def cold(base: Ended, planted_snapshot: Snapshot) -> Run:
    """A run on the whole snapshot that begins with random weights and has a few epochs; not trained yet."""
    return replace(base.run, snapshot=planted_snapshot.id, config=replace(SMALL, epochs=3))


@pytest.fixture(scope="module")
def continued(cold: Run) -> Ended:
    return fitted(cold.continued())


@pytest.fixture(scope="module")
def adapted(cold: Run) -> Ended:
    return fitted(cold.continued(NEW))


def untrained(run: Run) -> tuple[Encoder, Prepared]:
    prepared = prepare(run.inputs, run.config)
    torch.manual_seed(0)
    return new_encoder(prepared.items, prepared.split.train, run.config.encoder), prepared


def begun(run: Run) -> tuple[Encoder, Prepared]:
    """The encoder of a run before its first step."""
    encoder, prepared = untrained(run)
    assert run.start is not None
    begin(encoder, prepared.split.train, run.start)
    return encoder, prepared


def after_training(ended: Ended) -> tuple[Encoder, Prepared]:
    """The encoder of a run after its last step."""
    encoder, prepared = untrained(ended.run)
    encoder.load_state_dict(ended.last_weights)
    return encoder, prepared


def flagship(encoder: Encoder, prepared: Prepared) -> Flagship:
    return Flagship.from_encoder(encoder, prepared.items.graph, LeadsTo.empty(len(prepared.split.train.items)))


def ndcg(encoder: Encoder, prepared: Prepared, cohort: str = "all") -> float:
    """Of all that is held out: people's last two events happen at one instant, so either may be asked for first."""
    split = prepared.split
    task = Task("held out", split.train, join(split.validation, split.test), ks=(10,), training=split.train)
    return evaluate(flagship(encoder, prepared), task).value(METRIC, cohort)


def by_name(weights: dict[str, Tensor], run: Run, tensor: str) -> dict[str, Tensor]:
    """The rows of a tensor by what they are about."""
    interactions = read_snapshot(run.inputs.snapshot).interactions()
    names = interactions.items.keys
    if tensor in {"adapter", "prior", "history.platform.weight"}:
        names = interactions.platforms
    if tensor == "history.event_type.weight":
        names = interactions.event_types
    if tensor == "items.relation_weight":
        names = list(prepare(run.inputs, run.config).items.graph)
    return dict(zip(names, weights[tensor], strict=True))


BY_ROW = (
    "items.id",
    "bias",
    "items.relation_weight",
    "adapter",
    "prior",
    "history.platform.weight",
    "history.event_type.weight",
)


@pytest.mark.parametrize("tensor", BY_ROW)
def test_rows_are_found_by_name_and_new_ones_begin_untrained(base: Ended, cold: Run, tensor: str) -> None:
    encoder, prepared = untrained(cold)
    fresh = by_name({name: value.clone() for name, value in encoder.state_dict().items()}, cold, tensor)
    start = cold.continued().start
    assert start is not None
    assert begin(encoder, prepared.split.train, start) is None
    known, now = by_name(base.weights, base.run, tensor), by_name(dict(encoder.state_dict()), cold, tensor)
    assert known.keys() < now.keys() or tensor == "items.relation_weight"
    for name, row in now.items():
        assert torch.equal(row, known.get(name, fresh[name])), name


def test_what_has_no_rows_is_copied(base: Ended, cold: Run) -> None:
    encoder, _ = begun(cold.continued())
    rest = {name: value for name, value in encoder.state_dict().items() if name not in BY_ROW}
    assert "history.age_bias" in rest
    for name, value in rest.items():
        assert torch.equal(value, base.weights[name]), name


def test_a_continued_run_is_ahead_of_one_from_random_weights_with_the_same_few_epochs(
    continued: Ended, cold: Run
) -> None:
    from_random = fitted(cold)
    assert continued.run.config == cold.config
    assert ndcg(*after_training(continued)) >= ndcg(*after_training(from_random))
    assert continued.told[-1]["loss"] < from_random.told[-1]["loss"]


def test_what_a_run_begins_with_stays_the_best_where_training_makes_it_worse(cold: Run) -> None:
    run = replace(cold, config=replace(SMALL, epochs=1, learning_rate=30.0)).continued()
    ended = fitted(run)
    assert ended.told[0][METRIC] < ended.result.best
    assert torch.equal(ended.weights["history.value.weight"], begun(run)[0].history.value.weight)
    assert not torch.equal(ended.weights["history.value.weight"], ended.last_weights["history.value.weight"])


def test_two_starts_never_share_a_folder_and_the_newest_run_knows_its_own(
    base: Ended, cold: Run, continued: Ended, adapted: Ended
) -> None:
    assert continued.run.start is not None
    assert continued.run.start.run == base.run.folder
    other = replace(continued.run, start=replace(continued.run.start, run=Path("another")))
    assert len({run.folder for run in (cold, continued.run, adapted.run, other)}) == 4
    later = time.time() + 60
    os.utime(continued.run.folder / "result.json", (later, later))
    assert Run.newest(cold.var) == continued.run
    assert cold.continued() == continued.run, "a run on the same snapshot is not continued"
    bundle = release(continued.run.inputs, continued.run.config, continued.result, cold.var / "bundles")
    assert continued.run.bundle() == bundle
    assert cold.bundle() is None
    assert adapted.run.bundle() is None


def test_a_continued_run_that_is_killed_goes_on_from_its_own_checkpoint(
    continued: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(continued.run.var, tmp_path / "var")
    assert continued.run.start is not None
    run = Run._read(continued.run._said, tmp_path / "var")
    shutil.rmtree(run.folder)
    keep = _Kept.keep

    def keep_and_die(kept, state):
        keep(kept, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Kept, "keep", keep_and_die)
    with pytest.raises(KeyboardInterrupt):
        run.fit(HERE)
    monkeypatch.undo()
    ended = fitted(run)
    assert [line["epoch"] for line in ended.told] == [2, 3]
    assert ended.result.best == pytest.approx(continued.result.best, abs=1e-6)
    assert ended.told[-1]["loss"] == pytest.approx(continued.told[-1]["loss"], rel=1e-4)


def own_rows(run: Run, earlier: Run) -> dict[str, Tensor]:
    """Which rows of the tensors that platforms share belong to the new one."""
    new = read_snapshot(run.inputs.snapshot).interactions()
    known = read_snapshot(earlier.inputs.snapshot).interactions()
    platform = torch.tensor([name == NEW for name in new.platforms])
    return {
        "adapter": platform,
        "prior": platform,
        "history.platform.weight": platform,
        "bias": torch.tensor([key.startswith(f"{NEW}:") for key in new.items]),
        "history.event_type.weight": torch.tensor([name not in known.event_types for name in new.event_types]),
    }


def test_an_adapter_leaves_all_else_as_it_was_bit_for_bit(adapted: Ended, base: Ended) -> None:
    encoder, last = begun(adapted.run)[0], adapted.last_weights
    own, trained = own_rows(adapted.run, base.run), 0
    assert own["history.event_type.weight"].sum() == 1, "PLAYED is new"
    for name, began in encoder.state_dict().items():
        before, after = torch.atleast_1d(began), torch.atleast_1d(last[name])
        free = own.get(name, torch.zeros(len(before), dtype=torch.bool))
        assert torch.equal(after[~free], before[~free]), name
        assert not free.any() or not torch.equal(after[free], before[free]), f"{name} was not trained"
        trained += before[free].numel()
    new_items = own["bias"]
    assert not last["items.id"][new_items].any(), "untrained id vectors would be noise"
    assert adapted.result.parameters == trained


def test_an_adapter_is_trained_on_those_who_did_something_on_the_platform(cold: Run) -> None:
    run = cold.continued(NEW)
    encoder, prepared = untrained(run)
    assert run.start is not None
    held = begin(encoder, prepared.split.train, run.start)
    assert held is not None
    people = {held.training.users.keys[user] for user in held.training.user}
    assert person("space-0").user in people
    assert person("space-1").user not in people, "books and films only"
    assert set(held.training.platform) == {0, 1, 2}, "what they did elsewhere is in it too"


def test_an_adapter_trains_few_parameters_and_learns_the_platform(adapted: Ended, continued: Ended) -> None:
    assert continued.result.parameters == sum(value.numel() for value in continued.weights.values())
    assert adapted.result.parameters < continued.result.parameters / 4
    assert adapted.told[-1]["loss"] < adapted.told[0]["loss"]
    on_new = f"platform:{NEW}"
    assert ndcg(*after_training(adapted), on_new) > ndcg(*begun(adapted.run), on_new)


def test_an_adapter_changes_no_score_of_old_platforms_for_what_was_done_there(adapted: Ended) -> None:
    encoder, prepared = begun(adapted.run)
    training = prepared.split.train
    old = training.where(training.platform != training.platforms.index(NEW))
    histories = old.histories(np.unique(old.user))
    began = flagship(encoder, prepared).score(histories)
    ended = flagship(*after_training(adapted)).score(histories)
    there = training.item_platform == training.platforms.index(NEW)
    assert np.array_equal(began[:, ~there], ended[:, ~there])
    assert not np.allclose(began[:, there], ended[:, there])


def test_what_is_new_is_taken_in_as_the_average_of_what_is_known(base: Ended, cold: Run) -> None:
    encoder, prepared = untrained(cold)
    start = cold.continued().start
    assert start is not None
    take_in(encoder, prepared.split.train, start)
    for tensor in BY_ROW:
        known, now = by_name(base.weights, base.run, tensor), by_name(dict(encoder.state_dict()), cold, tensor)
        for name, row in known.items():
            assert torch.equal(now[name], row), name
        new = [row for name, row in now.items() if name not in known]
        if tensor in {"adapter", "prior", "history.platform.weight", "history.event_type.weight"}:
            [row] = new
            assert torch.allclose(row, torch.stack(list(known.values())).mean(dim=0)), tensor


def test_new_items_are_taken_in_without_an_id_and_with_the_bias_of_items_wanted_as_often(
    base: Ended, cold: Run
) -> None:
    encoder, prepared = untrained(cold)
    start = cold.continued().start
    assert start is not None
    take_in(encoder, prepared.split.train, start)
    keys = prepared.split.train.items.keys
    new = np.flatnonzero([key not in read_snapshot(base.run.inputs.snapshot).interactions().items for key in keys])
    assert len(new)
    before = flagship(encoder, prepared).vectors
    with torch.no_grad():
        encoder.items.id[torch.from_numpy(new)] = 100.0
    assert np.array_equal(flagship(encoder, prepared).vectors, before)
    events = np.bincount(prepared.split.train.item, minlength=len(keys))
    known = np.setdiff1d(np.arange(len(keys)), new)
    bias = encoder.bias.detach().numpy()
    slope, level = np.polyfit(np.log1p(events[known]), bias[known], 1)
    np.testing.assert_allclose(bias[new], level + slope * np.log1p(events[new]), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_model": "other"}, "text vectors of other"),
        ({"config": replace(SMALL, encoder=replace(SMALL.encoder, dim=16))}, "and training.encoder;"),
        ({"config": replace(SMALL, only_platform="books")}, "train without --continue"),
        ({"config": replace(SMALL, split="random_per_user")}, "random_per_user parts a new snapshot anew"),
        ({"config": replace(SMALL, split="temporal")}, "temporal parts a new snapshot anew"),
    ],
)
def test_what_cannot_be_continued_is_refused_with_the_next_step(base: Ended, cold: Run, changes, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        replace(cold, **changes).continued()


def test_a_run_whose_snapshot_was_erased_is_not_continued(base: Ended, cold: Run, tmp_path: Path) -> None:
    shutil.copytree(cold.var, tmp_path / "var")
    shutil.rmtree(tmp_path / "var" / "snapshots" / base.run.snapshot)
    with pytest.raises(TrainingError, match="still there"):
        replace(cold, var=tmp_path / "var").continued()


def test_a_platform_that_is_none_or_empty_cannot_be_adapted(cold: Run) -> None:
    with pytest.raises(TrainingError, match="'radio' is none of the platforms books, films, music"):
        cold.continued("radio")
    run = cold.continued(NEW)
    encoder, prepared = untrained(run)
    assert run.start is not None
    training = prepared.split.train
    with pytest.raises(AdaptationError, match="nothing to train on happened on music"):
        begin(encoder, training.where(training.platform != 2), run.start)


def test_the_command_continues_adapts_and_says_what_it_did(
    planted_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*flags: str) -> str:
        monkeypatch.setattr("sys.argv", ["isthmus", "train", *flags])
        with pytest.raises(SystemExit) as ended:
            isthmus.main()
        said = capsys.readouterr()
        return said.err if ended.value.code else said.out

    monkeypatch.chdir(tmp_path)
    vectors = write_word_vectors(planted_snapshot, tmp_path / "var" / "vectors")
    vectors.rename(vectors.with_name(vectors_name(DEFAULT_MODEL)))
    encoder = "encoder: {dim: 32, heads: 2, max_history: 20}, objective: {negatives: 32}"
    Path("isthmus.yaml").write_text(f"workers: 0\ntraining: {{epochs: 8, batch: 8, learning_rate: 0.01, {encoder}}}\n")
    with open_store("sqlite:///var/graph.db") as store:
        plant_earlier(store)
    assert "nothing was trained below var" in train("--continue")
    assert "trained   3 epochs of" in train("--epochs", "3")
    with open_store("sqlite:///var/graph.db") as store:
        plant(store)
    [base] = Path("var/training").iterdir()
    continued = train("--continue")
    assert f"begins    with {base}\n" in continued
    assert "trained   2 epochs of 23,198 parameters" in continued
    run = Run.newest(Path("var"))
    assert run.config.learning_rate == pytest.approx(0.01 / 3)
    assert run.bundle() == Path(re.findall(r"bundle +(\S+)", continued)[0])
    assert "trained   1 epochs of 1,144 parameters" in train("--adapt", NEW, "--epochs", "1")
    assert "'radio' is none of the platforms" in train("--adapt", "radio")


def test_to_continue_takes_a_quarter_of_the_epochs_at_a_third_of_the_rate() -> None:
    assert LoopConfig(epochs=16, learning_rate=3e-3).shortened() == LoopConfig(epochs=4, learning_rate=1e-3)
    assert LoopConfig(epochs=2).shortened().epochs == 1
