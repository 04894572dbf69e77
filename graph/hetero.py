"""HeteroData: a snapshot's knowledge and the events of one part of a split, as tensors for PyTorch Geometric.

("item", IN_CATEGORY, "Category")  ("item", SAME_WORK, "item")  …    relations, both ends by label
("user", RATED, "item")            edge_attr: at [E], weight [E]      only the events that are handed in
("item", "rev_RATED", "user")  …                                      every edge type has its reverse
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph.errors import SnapshotError
from graph.interactions import Interactions
from graph.keys import AccountKey, lone_user
from graph.snapshot import Snapshot
from graph.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData

REVERSE: Final = "rev_"
"""Prefix of the relation that runs the other way."""

Vectors = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""[N, D] and [N] present, as `graph.vectors.read_vectors` returns them."""


def entity_vocabularies(snapshot: Snapshot) -> dict[str, Vocabulary]:
    """The rows of each entity label, sorted by key."""
    return {label: Vocabulary(table["key"].to_pylist()) for label, table in snapshot.entities.items()}


def hetero_data(
    snapshot: Snapshot, interactions: Interactions, vectors: Mapping[str, Vectors] | None = None
) -> "HeteroData":
    """The graph that a model may see: what the snapshot knows about items, and the events that are handed in.

    Hand in the training part of a split and no event of another part is in the tensors. Event types without an event
    have an edge type without edges, so that all parts of a split have the same metadata.

    Args:
        interactions: a part of `snapshot.interactions()`; its vocabularies give the rows of "user" and "item".
        vectors: by label ("Item", "Category", …), in the order of `interactions.items` and `entity_vocabularies`.
    Returns: data whose node types are "user", "item" and the entity labels, each with `vocabulary`, `num_nodes`, and
        where vectors were given `x` [N, D] and `x_mask` [N], true where x holds a vector.
    Raises: SnapshotError if interactions or vectors are not of this snapshot.
    """
    import torch
    from torch_geometric.data import HeteroData

    if list(interactions.items) != snapshot.items["key"].to_pylist():
        raise SnapshotError(
            f"the interactions count {len(interactions.items)} items that are not those of {snapshot.path}: "
            "take them from this snapshot's interactions()"
        )
    vocabularies = {"user": interactions.users, "item": interactions.items, **entity_vocabularies(snapshot)}
    data = HeteroData()
    for name, vocabulary in vocabularies.items():
        data[name].num_nodes = len(vocabulary)
        data[name].vocabulary = vocabulary

    for label, (values, present) in (vectors or {}).items():
        name = _node_type(label)
        if name not in vocabularies:
            raise SnapshotError(f"{snapshot.path} has no {label} to give vectors to: it has {', '.join(vocabularies)}")
        if len(values) != len(vocabularies[name]) or len(present) != len(values):
            raise SnapshotError(
                f"{len(values)} vectors and a mask of {len(present)} were given for {len(vocabularies[name])} {label} "
                "nodes: read them with read_vectors(path, vocabulary.keys)"
            )
        data[name].x = torch.from_numpy(values)
        data[name].x_mask = torch.from_numpy(present)

    rows = _row_finder(snapshot, vocabularies)
    for position, type in enumerate(interactions.event_types):
        events = interactions.where(interactions.type == position)
        attributes = {"at": torch.from_numpy(events.at), "weight": torch.from_numpy(events.weight)}
        edge_index = torch.from_numpy(np.stack([events.user, events.item]))
        _add(data, ("user", type, "item"), edge_index, attributes)

    for type, table in snapshot.relations.items():
        labels = zip(table["source_label"].to_pylist(), table["target_label"].to_pylist(), strict=True)
        for source, target in sorted(set(labels)):
            edges = table.filter(
                pc.and_(pc.equal(table["source_label"], source), pc.equal(table["target_label"], target))
            )
            ends = np.stack([rows(source, edges["source"]), rows(target, edges["target"])])
            edge_index = torch.from_numpy(ends[:, (ends >= 0).all(axis=0)])
            _add(data, (_node_type(source), type, _node_type(target)), edge_index, {})
    return data


def _add(
    data: "HeteroData", edge_type: tuple[str, str, str], edge_index: "torch.Tensor", values: "dict[str, torch.Tensor]"
) -> None:
    source, relation, target = edge_type
    data[edge_type].edge_index = edge_index
    data[target, REVERSE + relation, source].edge_index = edge_index.flip(0)
    for name, value in values.items():
        data[edge_type][name] = value
        data[target, REVERSE + relation, source][name] = value


def _node_type(label: str) -> str:
    return {"Item": "item", "Account": "user"}.get(label, label)


def _row_finder(
    snapshot: Snapshot, vocabularies: Mapping[str, Vocabulary]
) -> Callable[[str, pa.ChunkedArray], NDArray[np.int64]]:
    """Rows of keys of a label; an account's is its person's, -1 for a person without events among the interactions."""
    owner = dict(zip(snapshot.links["account"].to_pylist(), snapshot.links["user"].to_pylist(), strict=True))

    def rows(label: str, keys: pa.ChunkedArray) -> NDArray[np.int64]:
        if label == "Account":
            people = (owner.get(key) or lone_user(AccountKey.parse(key)) for key in keys.to_pylist())
            found = [vocabularies["user"].get(person) for person in people]
            return np.array([-1 if row is None else row for row in found], np.int64)
        try:
            return vocabularies[_node_type(label)].rows(keys.to_pylist())
        except KeyError as error:
            raise SnapshotError(
                f"{snapshot.path} has a relation with the {label} {error.args[0]!r} but no such node: "
                "write the snapshot again"
            ) from None

    return rows
