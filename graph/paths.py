"""Paths between what a person did and an item, and views for networkx: what explains, and what is drawn."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from graph.records import Event, Link
from graph.schema import RELATION_SCHEMA
from graph.snapshot import Snapshot
from graph.store import Store, Subgraph

if TYPE_CHECKING:
    import networkx as nx


ONE_WAY: Final = frozenset({"LEADS_TO"})
"""Relations between items that explain along their direction only; any other holds both ways."""


@dataclass(frozen=True, slots=True)
class ItemPath:
    """One way from an item of a history to an item: straight (SAME_WORK, LEADS_TO), or through an entity they share."""

    source: str
    """The item of the history."""
    relation: str
    """The relationship type at the history's end."""
    via: str | None
    """The entity that both have; None when the path is straight."""
    target: str
    degree: int = 1
    """How many items the entity has over all its relations: what few share says more."""

    def __str__(self) -> str:
        middle = f"-[{self.relation}]-" if self.via is None else f"-[{self.relation}]- {self.via} -"
        return f"{self.source} {middle} {self.target}"


def relations_of(source: Snapshot | Store) -> Mapping[str, pa.Table]:
    """All relations by type, read at once; a store has those that models learned (LEADS_TO) beside what is known."""
    if isinstance(source, Snapshot):
        return source.relations
    return {
        type: pa.Table.from_batches(source.read_relations(type), schema=RELATION_SCHEMA)
        for type in source.relation_types()
    }


def paths_between(relations: Mapping[str, pa.Table], history: Iterable[str], item: str) -> Sequence[ItemPath]:
    """All paths of one straight relation or one shared entity from the items of a history to an item.

    Returns: straight paths first, then those through the entity with the fewest items; ties by source, relation, via.
    """
    sources = pa.array(sorted(set(history) - {item}), pa.string())
    target = pa.array([item], pa.string())
    paths: set[ItemPath] = set()
    entities: set[str] = set()
    for type, table in relations.items():
        straight = [source for source, _ in _between(table, sources, target)]
        if type not in ONE_WAY:
            straight += [source for _, source in _between(table, target, sources)]
        paths |= {ItemPath(source, type, None, item) for source in straight}
        entities |= set(table.filter(pc.is_in(table["source"], value_set=target))["target"].to_pylist())
    shared = pa.array(sorted(entities - set(sources.to_pylist())), pa.string())
    degrees: dict[str, set[str]] = {}
    found: list[tuple[str, str, str]] = []
    for type, table in relations.items():
        knowing = table.filter(
            pc.and_(pc.is_in(table["target"], value_set=shared), pc.not_equal(table["target_label"], "Item"))
        )
        for source, via in zip(knowing["source"].to_pylist(), knowing["target"].to_pylist(), strict=True):
            degrees.setdefault(via, set()).add(source)
        found += [(source, type, via) for source, via in _between(knowing, sources, shared)]
    paths |= {ItemPath(source, type, via, item, len(degrees[via])) for source, type, via in found}
    return sorted(
        paths, key=lambda path: (path.via is not None, path.degree, path.source, path.relation, path.via or "")
    )


def snapshot_graph(snapshot: Snapshot) -> "nx.MultiDiGraph[str]":
    """All of a snapshot: nodes with label and title, edges with type, and event or relation properties."""
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name in snapshot.counts.nodes:
        table = snapshot.nodes(name)
        titles = table["title" if name == "Item" else "name" if "name" in table.column_names else "key"].to_pylist()
        for key, title in zip(table["key"].to_pylist(), titles, strict=True):
            graph.add_node(key, label=name, title=title or key)
    for row in snapshot.links.to_pylist():
        graph.add_edge(row["account"], row["user"], type="OF", evidence=row["evidence"])
    for row in snapshot.events.to_pylist():
        graph.add_edge(
            row["account"], row["item"], row["event_id"], type=row["type"], at=row["at"], weight=row["weight"]
        )
    for type, table in snapshot.relations.items():
        for row in table.to_pylist():
            graph.add_edge(row["source"], row["target"], type=type, properties=json.loads(row["properties"]))
    return graph


def subgraph_view(subgraph: Subgraph) -> "nx.MultiDiGraph[str]":
    """A neighbourhood that a store gave, in the form of `snapshot_graph`."""
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for label, key, title in subgraph.nodes:
        graph.add_node(str(key), label=label, title=title or str(key))
    for edge in subgraph.edges:
        if isinstance(edge, Event):
            graph.add_edge(
                str(edge.account), str(edge.item), edge.event_id, type=edge.type, at=edge.at, weight=edge.weight
            )
        elif isinstance(edge, Link):
            graph.add_edge(str(edge.account), str(edge.user), type="OF", evidence=edge.evidence)
        else:
            graph.add_edge(str(edge.source), str(edge.target), type=edge.type, properties=dict(edge.properties))
    return graph


def _between(table: pa.Table, sources: pa.Array, targets: pa.Array) -> list[tuple[str, str]]:
    rows = table.filter(
        pc.and_(pc.is_in(table["source"], value_set=sources), pc.is_in(table["target"], value_set=targets))
    )
    return list(zip(rows["source"].to_pylist(), rows["target"].to_pylist(), strict=True))
