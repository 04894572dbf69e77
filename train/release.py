"""Release: the best weights become a bundle, and what the model learned goes back into the graph."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from graph.interactions import Interactions
from graph.keys import ItemKey
from graph.records import Attributes, Relation
from graph.snapshot import Snapshot, read_snapshot
from graph.store import Store
from graph.vectors import digests
from graph.vocabulary import Vocabulary
from models.attributes import attribute_table
from models.bundle import Catalogue, write_bundle
from models.drift import NEWEST, counted, kept
from models.explain import Knowledge
from models.flagship import Flagship
from models.leads_to import LeadsTo
from models.plan import Requires
from train.blend import Blend, choose_blend
from train.data import FORM, item_side, whole
from train.loop import Inputs, LoopConfig, Prepared, best_encoder, prepare
from train.run import TrainingResult


@dataclass(frozen=True, eq=False)
class Trained:
    """A model that knows the training part alone: what evaluation may look at."""

    flagship: Flagship
    prepared: Prepared
    blend: Blend


def assemble(inputs: Inputs, config: LoopConfig, checkpoint: Path) -> Trained:
    """The flagship of a checkpoint's best epoch, with a sparse part fitted on the training part."""
    prepared = prepare(inputs, config)
    encoder = best_encoder(checkpoint, prepared, config)
    dense = Flagship.from_encoder(encoder, prepared.items.graph, LeadsTo.empty(len(prepared.split.train.items)))
    blend, leads_to = choose_blend(dense, prepared.split, prepared.items.text.numpy(), config.seed)
    return Trained(blend.applied(dense, leads_to, prepared.items.warm.numpy()), prepared, blend)


def knowing(
    trained: Trained, inputs: Inputs, config: LoopConfig, checkpoint: Path, events: Interactions
) -> tuple[Flagship, LeadsTo, Knowledge]:
    """The trained weights over a graph and a sparse part that are made again from these events of the snapshot."""
    items = item_side(read_snapshot(inputs.snapshot), events, inputs.vectors, inputs.others)
    encoder = best_encoder(checkpoint, trained.prepared, config)
    leads_to = LeadsTo.fit(events, trained.blend.linear, items.text.numpy())
    graph = {name: items.graph[name] for name in trained.prepared.items.graph}
    dense = Flagship.from_encoder(encoder, graph, LeadsTo.empty(len(events.items)))
    return trained.blend.applied(dense, leads_to, trained.prepared.items.warm.numpy()), leads_to, items.knowledge


def release(
    inputs: Inputs,
    config: LoopConfig,
    result: TrainingResult,
    bundles: Path,
    store: Store | None = None,
    *,
    judged: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle that knows all events of the snapshot, and LEADS_TO relations into the store.

    The weights are those of training; the graph around the items and the sparse part are made again from all events,
    validation and test included: that is what a user gets. Figures in the manifest are validation figures from before.

    Args:
        store: where LEADS_TO goes; None leaves the graph as it is.
        judged: what the manifest says of a comparison with the bundle that answered (train.judge).
    Returns: the bundle's folder.
    """
    trained = assemble(inputs, config, result.checkpoint)
    snapshot = read_snapshot(inputs.snapshot)
    everything = snapshot.interactions()
    events = whole(trained.prepared.split)
    flagship, leads_to, knowledge = knowing(trained, inputs, config, result.checkpoint, events)
    catalogue = Catalogue(
        events.items,
        [events.platforms[number] for number in events.item_platform],
        snapshot.items["title"].to_pylist(),
        snapshot.items["url"].to_pylist(),
        attribute_table(snapshot.items["created_at"].to_pylist(), snapshot.items["attributes"].to_pylist()),
        _requires(snapshot, events.items),
    )
    facts: dict[str, Any] = {
        "form": FORM,
        "snapshot": snapshot.id,
        "text_model": inputs.vectors.name,
        "vectors": digests(inputs.vectors, inputs.others),
        "training": asdict(config),
        **({} if inputs.start is None else {"start": inputs.start.named}),
        "epochs": result.epochs,
        "validation": {"ndcg@10": result.best, "blend": asdict(trained.blend)},
        "event_weights": _event_weights(everything),
        "events": _events(everything),
        **({} if judged is None else {"judged": dict(judged)}),
    }
    path = write_bundle(
        bundles,
        flagship,
        catalogue,
        config.encoder,
        event_types=events.event_types,
        platforms=events.platforms,
        knowledge=knowledge,
        facts=facts,
    )
    if store is not None:
        write_leads_to(store, leads_to, events.items.keys, model=path.name)
    return path


def write_leads_to(store: Store, leads_to: LeadsTo, keys: Any, model: str, keep: int = 5) -> int:
    """Replace the LEADS_TO relations of a store by the largest positive weights of each item; returns how many."""
    store.delete_relations("LEADS_TO")
    counts = store.upsert_edges(_strongest(leads_to, keys, model, keep))
    return counts.created + counts.existing


def _strongest(leads_to: LeadsTo, keys: Any, model: str, keep: int) -> Iterator[Relation]:
    weights = leads_to.weights
    parsed = [ItemKey.parse(key) for key in keys]
    for row in range(len(parsed)):
        line = slice(weights.indptr[row], weights.indptr[row + 1])
        values, columns = weights.data[line], weights.indices[line]
        for place in np.argsort(-values)[:keep].tolist():
            if values[place] > 0:
                properties: Attributes = {"weight": round(float(values[place]), 6), "model": model}
                yield Relation("LEADS_TO", parsed[row], parsed[int(columns[place])], properties)


def _requires(snapshot: Snapshot, items: Vocabulary) -> Requires | None:
    table = snapshot.relations.get("REQUIRES")
    if table is None:
        return None
    ends = zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True)
    rows = [(items.get(source), items.get(target)) for source, target in ends]
    pairs = np.array(sorted((a, b) for a, b in rows if a is not None and b is not None), np.int64).reshape(-1, 2)
    counts = np.bincount(pairs[:, 0], minlength=len(items))
    return Requires(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs[:, 1].copy())


def _event_weights(events: Interactions) -> dict[str, float]:
    """The largest weight that the graph's events of each type have, so that serving weighs new ones alike."""
    found = {}
    for number, name in enumerate(events.event_types):
        weights = events.weight[events.type == number]
        found[name] = float(weights[np.argmax(np.abs(weights))])
    return found


def _events(events: Interactions) -> dict[str, Any]:
    """How many events the snapshot has, when the last of them was, and what the newest are of: where drift begins."""
    rows = np.argsort(events.at, kind="stable")[-NEWEST:]
    keys, types = events.items.keys, events.event_types
    of = ((keys[item], types[type]) for item, type in zip(events.item[rows], events.type[rows], strict=True))
    newest = datetime.fromtimestamp(int(events.at.max()), UTC).isoformat()
    return {"count": len(events), "newest": newest, "counts": kept(counted(of))}
