"""Explanations: a score taken apart into what each event put into it along each relation; the parts add up to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from graph.interactions import Histories
from models.baselines.matrix import query_entries
from models.flagship import Flagship
from models.leads_to import LeadsTo

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
    item, value, sources = _asked(flagship, history)
    contributions = np.zeros((len(rows), len(flagship.parts), len(places)), np.float32)
    bases = np.zeros(len(rows), np.float32)
    platform = flagship.item_platform[rows]
    for number in np.unique(platform).tolist():
        lines = np.flatnonzero(platform == number)
        some = rows[lines]
        bases[lines] = (
            np.einsum("kd,d->k", flagship.vectors[some], flagship.prior[number].numpy()) + flagship.bias[some]
        )
        for place, part in enumerate(flagship.parts.values()):
            # Not a product of matrices, whose last digit depends on what else is in the list.
            contributions[lines, place] = np.einsum("kd,ld->kl", part[some], events[:, number])
    linear = flagship.leads_to
    if linear.lift is not None:
        bases += value.sum() * linear.lift[rows]
    table = np.concatenate([contributions.reshape(len(rows), -1), _led(linear, item, value, rows)], axis=1)
    relations = [SIMILAR if name == "own" else name for name in flagship.parts for _ in places]
    relations += [LEADS_TO] * len(sources)
    events_of = [*(places.tolist() * len(flagship.parts)), *sources.tolist()]
    told = np.argsort(-np.abs(table), axis=1, kind="stable")[:, :most]
    values = np.take_along_axis(table, told, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    told, values = (np.take_along_axis(each, order, axis=1) for each in (told, values))
    others = np.where(
        np.count_nonzero(values, axis=1) < np.count_nonzero(table, axis=1), table.sum(axis=1) - values.sum(axis=1), 0
    )
    via = _Via(knowledge or {})
    items = history.item.tolist()
    explanations = []
    for row, base, paths, amounts, rest in zip(
        rows.tolist(), bases.tolist(), told.tolist(), values.tolist(), others.tolist(), strict=True
    ):
        explained = [
            PathContribution(
                events_of[path], relations[path], via(relations[path], items[events_of[path]], row), amount
            )
            for path, amount in zip(paths, amounts, strict=True)
            if amount
        ]
        explanations.append(Explanation(base, tuple(explained), rest))
    return explanations


def _asked(flagship: Flagship, history: Histories) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """What the sparse part reads: items, how much each counts, and the position of the newest event with each."""
    _, item, value = query_entries(history, len(flagship.bias), flagship.leads_to.decay)
    wanted = (history.weight > 0).tolist()
    newest = {row: place for place, row in enumerate(history.item.tolist()) if wanted[place]}
    return item, value, np.array([newest[row] for row in item.tolist()], dtype=np.int64)


def _led(
    linear: LeadsTo, item: NDArray[np.int64], value: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """[K, M] what each of M items puts into the scores of K rows, which may come twice."""
    found, column_of = np.unique(rows, return_inverse=True)
    table = np.zeros((len(found), len(item)), np.float32)
    if len(found):
        entry, target, weight = linear.lines(item)
        column = np.minimum(np.searchsorted(found, target), len(found) - 1)
        met = found[column] == target
        table[column[met], entry[met]] = weight[met] * value[entry[met]] * np.float32(linear.scale)
    return table[column_of]


class _Via:
    """Names the rarest entity that two items share, or nothing."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._entities: dict[tuple[str, int], set[int]] = {}

    def __call__(self, relation: str, source: int, target: int) -> str | None:
        if relation not in self._knowledge:
            return None
        shared = self._of(relation, source) & self._of(relation, target)
        return self._knowledge[relation][1][min(shared)] if shared else None

    def _of(self, relation: str, row: int) -> set[int]:
        found = self._entities.get((relation, row))
        if found is None:
            incidence = self._knowledge[relation][0]
            found = set(incidence.indices[incidence.indptr[row] : incidence.indptr[row + 1]].tolist())
            self._entities[relation, row] = found
        return found
