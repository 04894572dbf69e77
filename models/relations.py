"""Relations: the ways from item to item that a graph offers, as hops for propagation.

NEXT          item -> item            what people did right after, either way
TOGETHER      item -> user -> item    what the same people wanted
<TYPE>        item -> entity -> item  for each relation of the source, such as IN_CATEGORY: what shares an entity
<TYPE>        item -> item            for each relation between items, such as SAME_WORK
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.sparse as sp

from graph.hetero import REVERSE
from graph.interactions import Interactions
from models.propagate import Adjacency, row_normalised, symmetric_normalised

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

NEXT: Final = "NEXT"
TOGETHER: Final = "TOGETHER"
LEARNED: Final = frozenset({"LEADS_TO"})
"""Relations that a model wrote back: a model does not learn from its own output."""


def item_relations(graph: "HeteroData", interactions: Interactions) -> Mapping[str, Sequence[Adjacency]]:
    """The hops of each relation, from the knowledge in the graph and the events handed in; empty ones are left out.

    Args:
        graph: from `graph.hetero.hetero_data`; only its relations among items and entities are read.
        interactions: the training part. Events of negative weight make no relation.
    """
    wanted = interactions.where(interactions.weight > 0)
    found = {NEXT: _next(wanted), TOGETHER: _through(_incidence(wanted))}
    among_items: dict[str, sp.csr_matrix] = {}
    to_entities: dict[str, list[sp.csr_matrix]] = {}
    for source, relation, target in graph.edge_types:
        name = relation.removeprefix(REVERSE)
        if source != "item" or target == "user" or name in LEARNED:
            continue
        matrix = _edges(graph, (source, relation, target))
        if target != "item":
            to_entities.setdefault(name, []).append(matrix)
        elif relation == name:
            among_items[name] = sp.csr_matrix(matrix + matrix.T)
    found |= {name: (Adjacency.from_scipy(symmetric_normalised(matrix)),) for name, matrix in among_items.items()}
    found |= {name: _through(sp.csr_matrix(sp.hstack(matrices))) for name, matrices in to_entities.items()}
    return {name: found[name] for name in sorted(found) if found[name][0].num_edges}


def shared_entities(graph: "HeteroData") -> Mapping[str, tuple[sp.csr_matrix, Sequence[str]]]:
    """For each relation to entities: the [N, E] incidence of items and entities, rarest first, and their keys."""
    found: dict[str, tuple[list[sp.csr_matrix], list[str]]] = {}
    for source, relation, target in graph.edge_types:
        if source == "item" and target not in {"item", "user"}:
            matrices, keys = found.setdefault(relation.removeprefix(REVERSE), ([], []))
            matrices.append(_edges(graph, (source, relation, target)))
            keys.extend(graph[target].vocabulary)
    return {name: _rarest_first(sp.csr_matrix(sp.hstack(matrices)), keys) for name, (matrices, keys) in found.items()}


def _rarest_first(incidence: sp.csr_matrix, keys: Sequence[str]) -> tuple[sp.csr_matrix, Sequence[str]]:
    order = np.argsort(np.bincount(incidence.indices, minlength=len(keys)), kind="stable")
    ordered = sp.csr_matrix(incidence[:, order])
    ordered.sort_indices()
    return ordered, [keys[column] for column in order]


def _next(wanted: Interactions) -> Sequence[Adjacency]:
    follows = wanted.user[1:] == wanted.user[:-1]
    before, after = wanted.item[:-1][follows], wanted.item[1:][follows]
    differ = before != after
    size = len(wanted.items)
    steps = sp.csr_matrix((np.ones(differ.sum(), np.float32), (before[differ], after[differ])), shape=(size, size))
    return (Adjacency.from_scipy(symmetric_normalised(sp.csr_matrix(steps + steps.T))),)


def _incidence(wanted: Interactions) -> sp.csr_matrix:
    ones = np.ones(len(wanted), np.float32)
    matrix = sp.csr_matrix((ones, (wanted.item, wanted.user)), shape=(len(wanted.items), len(wanted.users)))
    matrix.data[:] = 1
    return matrix


def _through(incidence: sp.csr_matrix) -> Sequence[Adjacency]:
    """Two hops: an entity takes the mean of its items, an item the mean of its entities."""
    return (
        Adjacency.from_scipy(row_normalised(sp.csr_matrix(incidence.T))),
        Adjacency.from_scipy(row_normalised(incidence)),
    )


def _edges(graph: "HeteroData", edge_type: tuple[str, str, str]) -> sp.csr_matrix:
    source, target = graph[edge_type].edge_index.numpy()
    shape = (graph[edge_type[0]].num_nodes, graph[edge_type[2]].num_nodes)
    matrix = sp.csr_matrix((np.ones(len(source), np.float32), (source, target)), shape=shape)
    matrix.data[:] = 1
    return matrix
