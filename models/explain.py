"""Explanations: a score taken apart into what each event put into it along each relation; the parts add up to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from graph.interactions import Histories
from models.baselines.matrix import query_matrix
from models.flagship import Flagship

LEADS_TO = "LEADS_TO"
SIMILAR = "SIMILAR"
"""The relation of an event to an item by their own text and id, without the graph around the item."""

Knowledge = Mapping[str, tuple[csr_matrix, Sequence[str]]]
"""For each relation to entities: the [N, E] incidence, the entities of fewest items first, and the entities' keys."""


@dataclass(frozen=True, slots=True)
class PathContribution:
    """What one event put into a score along one relation."""

    event: int
    """Position in the history."""
    relation: str
    """SIMILAR, NEXT, TOGETHER, LEADS_TO, or a relation of the source such as IN_CATEGORY."""
    via: str | None
    """The rarest entity that both items share along this relation, if any."""
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """base + the contributions of all paths + others = the score, to 1e-4."""

    base: float
    """What the item is worth on its platform to anybody, and, of an item without events in training, its lift."""
    paths: tuple[PathContribution, ...]
    """Largest contribution first; negative ones are paths that spoke against the item."""
    others: float = 0.0
    """What the paths put in together that were too small to be told."""

    @property
    def score(self) -> float:
        return self.base + sum(path.contribution for path in self.paths) + self.others


def explain(
    flagship: Flagship,
    history: Histories,
    rows: NDArray[np.int64],
    knowledge: Knowledge | None = None,
    most: int | None = None,
) -> list[Explanation]:
    """Take the scores of items apart, for one person.

    Args:
        history: of one person.
        rows: [K] items.
        knowledge: to name the entities in between; None names none.
        most: tell only so many paths of an item, the largest for or against it; None tells all.
    Returns: one explanation for each item.
    """
    events, places = flagship.event_queries(history)
    platform = flagship.item_platform[rows]
    bases = np.einsum("kd,kd->k", flagship.prior.numpy()[platform], flagship.vectors[rows]) + flagship.bias[rows]
    queries = events[:, platform]
    dense = {
        SIMILAR if name == "own" else name: np.einsum("lkd,kd->kl", queries, part[rows])
        for name, part in flagship.parts.items()
    }
    linear = flagship.leads_to
    query = query_matrix(history, len(flagship.bias), linear.decay)
    if linear.lift is not None:
        bases += query.data.sum() * linear.lift[rows]
    newest = {int(row): place for place, row in enumerate(history.item) if history.weight[place] > 0}
    sources = [newest[int(row)] for row in query.indices]
    sparse = (linear.weights[query.indices][:, rows].toarray() * query.data[:, None] * linear.scale).T
    tables = np.concatenate([*dense.values(), sparse], axis=1)
    relations = [*(relation for relation in dense for _ in places), *(LEADS_TO for _ in sources)]
    events_of = [*(list(places) * len(dense)), *sources]
    explanations = []
    for k, row in enumerate(rows):
        values = tables[k]
        told = np.argsort(-np.abs(values), kind="stable")[:most]
        told = told[values[told] != 0]
        paths = [
            PathContribution(
                int(events_of[path]),
                relations[path],
                _via(knowledge, relations[path], int(history.item[events_of[path]]), int(row)),
                float(values[path]),
            )
            for path in told[np.argsort(-values[told], kind="stable")]
        ]
        others = float(values.sum() - values[told].sum()) if len(told) < np.count_nonzero(values) else 0.0
        explanations.append(Explanation(float(bases[k]), tuple(paths), others))
    return explanations


def _via(knowledge: Knowledge | None, relation: str, source: int, target: int) -> str | None:
    if knowledge is None or relation not in knowledge:
        return None
    incidence, keys = knowledge[relation]
    shared = np.intersect1d(_entities(incidence, source), _entities(incidence, target), assume_unique=True)
    return keys[int(shared[0])] if len(shared) else None


def _entities(incidence: csr_matrix, row: int) -> NDArray[np.int32]:
    return incidence.indices[incidence.indptr[row] : incidence.indptr[row + 1]]
