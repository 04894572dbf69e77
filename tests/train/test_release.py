"""Release: the bundle knows all events, says where it comes from, and what it learned goes back into the graph."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from graph.records import Relation
from graph.snapshot import Snapshot
from graph.store import Store
from graph.vocabulary import Vocabulary
from models.baselines.popularity import Popularity
from models.bundle import Bundle
from models.leads_to import LeadsTo
from tests.planted import COLD_FROM, RING, item_of
from tests.planted_training import SMALL, PlantedRun, write_no_vectors
from train.compare import held_out_task
from train.evaluate import evaluate
from train.loop import Inputs
from train.release import _requires, assemble, release
from train.run import WorkerConfig, train


def leads_to_of(store: Store) -> list[tuple[str, str, float, str]]:
    """Source, target, weight and model of every LEADS_TO relation."""
    rows = [row for batch in store.read_relations("LEADS_TO") for row in batch.to_pylist()]
    properties = [json.loads(row["properties"]) for row in rows]
    return [
        (row["source"], row["target"], said["weight"], said["model"])
        for row, said in zip(rows, properties, strict=True)
    ]


def test_a_graph_without_any_text_is_trained_on_and_released(planted_snapshot: Snapshot, tmp_path: Path) -> None:
    inputs = Inputs(planted_snapshot.path, write_no_vectors(tmp_path / "vectors"), tmp_path / "log")
    config = replace(SMALL, epochs=15)
    result = train(inputs, config, WorkerConfig(workers=0), tmp_path / "storage")
    trained = assemble(inputs, config, result.checkpoint)
    assert not trained.prepared.items.text.any()
    task = held_out_task(trained.prepared.split)
    popular = evaluate(Popularity.fit(trained.prepared.split.train), task).value("ndcg@10")
    assert evaluate(trained.flagship, task).value("ndcg@10") > popular
    bundle = Bundle.open(release(inputs, config, result, tmp_path / "bundles"))
    assert len(bundle.items) == len(planted_snapshot.items)


def test_the_bundle_says_what_it_was_made_of(
    planted_run: PlantedRun, planted_bundle: Path, planted_snapshot: Snapshot
) -> None:
    manifest = Bundle.open(planted_bundle).manifest
    assert manifest["snapshot"] == planted_snapshot.id
    assert manifest["text_model"] == "words"
    assert manifest["validation"]["ndcg@10"] == planted_run.result.best
    assert manifest["training"]["seed"] == planted_run.config.seed
    assert manifest["event_weights"]["DISLIKED"] == -1
    assert manifest["event_weights"]["PLAYED"] == pytest.approx(0.7)


def test_its_catalogue_is_the_snapshots(planted_bundle: Path, planted_snapshot: Snapshot) -> None:
    bundle = Bundle.open(planted_bundle)
    assert list(bundle.items) == planted_snapshot.items["key"].to_pylist()
    assert bundle.titles == planted_snapshot.items["title"].to_pylist()
    platforms = [key.split(":")[0] for key in bundle.items]
    assert [bundle.platforms[number] for number in bundle.item_platform] == platforms
    cold = np.flatnonzero(bundle.attributes["number"].compare("==", float(RING)))
    assert {bundle.items.keys[row] for row in cold} == {key for key in bundle.items if key.endswith(f"-{RING}")}
    assert (
        bundle.attributes["created_at"].compare(">=", COLD_FROM) == bundle.attributes["number"].compare("==", 7.0)
    ).all()
    assert bundle.attributes["tags"].compare("==", "films").sum() == platforms.count("films")


def test_the_released_sparse_part_knows_all_events_and_the_evaluated_one_training_alone(
    planted_run: PlantedRun, planted_bundle: Path, planted_snapshot: Snapshot
) -> None:
    everything = planted_snapshot.interactions()
    released = Bundle.open(planted_bundle).flagship.leads_to.weights.toarray()
    trained = assemble(planted_run.inputs, planted_run.config, planted_run.result.checkpoint)
    linear, text = trained.blend.linear, trained.prepared.items.text.numpy()
    assert released == pytest.approx(LeadsTo.fit(everything, linear, text).weights.toarray(), abs=1e-6)
    evaluated = trained.flagship.leads_to.weights.toarray()
    training = LeadsTo.fit(trained.prepared.split.train, linear, text).weights.toarray()
    assert evaluated == pytest.approx(training, abs=1e-6)
    assert not np.allclose(evaluated, released)


def test_a_release_of_the_same_run_is_the_same_bundle(
    planted_run: PlantedRun, planted_bundle: Path, tmp_path: Path
) -> None:
    again = release(planted_run.inputs, planted_run.config, planted_run.result, tmp_path)
    assert again.name == planted_bundle.name


def test_what_the_model_learned_goes_into_the_graph_strongest_first_and_replaces_what_was_there(
    planted_run: PlantedRun, planted_bundle: Path, planted_store: Store, tmp_path: Path
) -> None:
    bundle = Bundle.open(planted_bundle)
    weights = bundle.flagship.leads_to.weights.toarray()
    cold = [item_of(platform, "space", RING) for platform in ("books", "films")]
    planted_store.upsert_edges([Relation("LEADS_TO", *cold, {"weight": 1.0, "model": "an older one"})])
    for _ in range(2):
        path = release(planted_run.inputs, planted_run.config, planted_run.result, tmp_path / "bundles", planted_store)
        written = leads_to_of(planted_store)
        assert {model for *_, model in written} == {path.name}
        by_source: dict[str, list[float]] = {}
        for source, target, weight, _ in written:
            assert weight == pytest.approx(weights[bundle.items.row(source), bundle.items.row(target)], abs=1e-6)
            by_source.setdefault(source, []).append(weight)
        for source, found in by_source.items():
            line = np.sort(weights[bundle.items.row(source)])[::-1][:5]
            assert sorted(found, reverse=True) == pytest.approx(line[line > 0], abs=1e-6)
        assert len(by_source) == np.count_nonzero((weights > 0).any(axis=1))


def test_what_requires_what_is_in_the_order_of_the_bundles_rows() -> None:
    table = pa.table({"source": ["a:2", "a:0", "a:2", "a:9"], "target": ["a:1", "a:2", "a:0", "a:0"]})
    requires = _requires(SimpleNamespace(relations={"REQUIRES": table}), Vocabulary(["a:0", "a:1", "a:2"]))
    assert requires is not None
    assert [requires.of(row) for row in range(3)] == [[2], [], [0, 1]]
    assert _requires(SimpleNamespace(relations={}), Vocabulary(["a:0"])) is None
