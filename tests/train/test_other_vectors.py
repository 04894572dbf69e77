"""Vectors of images: what only they say is learned, and where there are none nothing is as if they had been thought of.

Forty people, each with one of two tastes; twelve items of each taste that people took, and six that nobody has. Items
have no title, no category and no creator: which taste a new item is of, its image alone says.
"""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from graph.errors import SnapshotError
from graph.keys import AccountKey, ItemKey, PlatformKey, lone_user
from graph.records import LONE, Account, Event, Item, Link, Platform
from graph.snapshot import read_snapshot, write_snapshot
from graph.store import open_store
from ingest.vectors import add_vectors
from models.bundle import Bundle
from tests.planted_training import SMALL, TEXT_MODEL, write_no_vectors
from train.data import item_side
from train.release import assemble, release
from train.run import WorkerConfig
from train.runs import Run

TAKEN, NEW, PEOPLE, STEPS = 12, 6, 40, 6
CONFIG = replace(SMALL, epochs=12)
HERE = WorkerConfig(workers=0)


def item(taste: int, number: int) -> ItemKey:
    return ItemKey("shop", f"{taste}-{number}")


def tastes(keys: list[str]) -> np.ndarray:
    return np.array([int(ItemKey.parse(key).id[0]) for key in keys])


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A var folder with the graph's snapshot, no text vectors, and images."""
    var = tmp_path_factory.mktemp("var")
    random = np.random.default_rng(0)
    keys = [item(taste, number) for taste in (0, 1) for number in range(TAKEN + NEW)]
    with open_store(f"sqlite:///{var / 'graph.db'}") as store:
        store.ensure_schema()
        store.upsert_nodes([Platform(PlatformKey("shop")), *(Item(key) for key in keys)])
        for person in range(PEOPLE):
            account = AccountKey("shop", f"p{person}")
            store.upsert_nodes([Account(account)])
            store.link([Link(account, lone_user(account), LONE)])
            taken = random.choice(TAKEN, STEPS, replace=False).tolist()
            store.upsert_edges(
                Event(f"{person}-{step}", "BOUGHT", account, item(person % 2, number), at)
                for step, number in enumerate(taken)
                for at in [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=step, minutes=person)]
            )
        write_snapshot(store, var / "snapshots")
        # What an image shows of its taste is one direction among sixteen, the others are noise.
        images = random.normal(size=(len(keys), 16))
        images[:, 3] += 8 * tastes(keys)
        pq.write_table(pa.table({"key": keys, "vector": images.tolist()}), var / "images.parquet")
        add_vectors(store, var, "images", var / "images.parquet")
    write_no_vectors(var / "vectors")
    return var


def run_of(var: Path, *vectors: str) -> Run:
    (snapshot,) = (var / "snapshots").iterdir()
    return Run(snapshot.name, TEXT_MODEL, CONFIG, var, vectors=vectors)


def told_apart(run: Run) -> float:
    """How often a new item of a person's taste scores higher than one of the other taste; .5 by chance."""
    trained = assemble(run.inputs, run.config, run.fit(HERE).checkpoint)
    events = trained.prepared.split.train
    new = np.flatnonzero(trained.prepared.items.warm.numpy() == 0)
    assert len(new) == 2 * NEW
    of_item, people = tastes(list(events.items.keys)), np.arange(len(events.users))
    scores = trained.flagship.score(events.histories(people))[:, new]
    own = of_item[events.item[events.offsets[people]]][:, None] == of_item[new]
    pairs = [row[mine][:, None] > row[~mine] for row, mine in zip(scores, own, strict=True)]
    return float(np.mean(pairs))


def test_what_only_images_say_of_new_items_is_learned(var: Path) -> None:
    with_images, without = told_apart(run_of(var, "images")), told_apart(run_of(var))
    assert with_images > 0.8
    assert without < 0.65


def test_images_are_whitened_columns_behind_those_of_texts(var: Path) -> None:
    inputs = run_of(var, "images").inputs
    snapshot = read_snapshot(inputs.snapshot)
    training = snapshot.interactions()
    alone, with_images = (item_side(snapshot, training, inputs.vectors, others) for others in ((), inputs.others))
    columns = with_images.text.numpy()
    assert columns.shape == (2 * (TAKEN + NEW), 1 + 16)
    assert torch.equal(with_images.text[:, :1], alone.text)
    assert columns[:, 1:].mean(axis=0) == pytest.approx(0, abs=1e-5)
    side = columns[:, 1 + 3] > 0
    assert (side == tastes(list(training.items.keys)).astype(bool)).mean() > 0.9


def test_a_run_is_named_by_what_its_images_hold_and_the_bundle_by_the_same(var: Path, tmp_path: Path) -> None:
    run = run_of(var, "images")
    bundle = release(run.inputs, run.config, run.fit(HERE), var / "bundles")
    assert set(Bundle.open(bundle).manifest["vectors"]) == {TEXT_MODEL, "images"}
    assert (run.bundle(), run_of(var).bundle()) == (bundle, None)
    assert Run.newest(var) in {run, run_of(var)}
    moved = tmp_path / "var"
    shutil.copytree(var, moved)
    with open_store(f"sqlite:///{moved / 'graph.db'}") as store:
        other = pa.table({"key": [item(0, 0)], "vector": [[1.0] * 16]})
        pq.write_table(other, moved / "other.parquet")
        add_vectors(store, moved, "images", moved / "other.parquet")
    assert run_of(moved, "images").result() is None  # another image of one item: trained anew
    assert run_of(moved).folder.name == run_of(var).folder.name


def test_images_that_are_not_there_are_asked_for_before_anything_is_trained(var: Path) -> None:
    with pytest.raises(SnapshotError, match=r"no vectors called sound .* isthmus vectors sound FILE"):
        run_of(var, "sound").fit(HERE)
