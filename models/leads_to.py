"""LEADS_TO: the sparse part of the flagship's score, the largest weights of a linear item-item model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from graph.interactions import Histories, Interactions
from models.baselines.ease import EASE
from models.baselines.matrix import check_decay, positive_matrix, query_matrix
from models.baselines.ridge import inverse

WEIGHTS: Final = 6_000_000
"""Weights that are kept of all lines together."""
CLOSE_UP_TO: Final = 12_000
"""Items up to which closeness may count: the time to solve grows with their cube, two minutes of a core here."""

_BLOCK: Final = 512
_FADES_OVER: Final = 10.0
"""Steps over which closeness falls to 1 / e."""


@dataclass(frozen=True)
class Linear:
    """How the linear model is fitted."""

    ridge: float = 300.0
    """lambda of EASE, at least 1."""
    closeness: float = 0.0
    """How much more two items say of each other when people wanted them shortly after each other: EASE's counts X'X get
    so many times the sum over people of exp(-steps between / 10). Takes at most CLOSE_UP_TO items."""

    def __post_init__(self) -> None:
        if self.ridge < 1 or self.closeness < 0:
            raise ValueError(
                f"ridge is {self.ridge} and closeness {self.closeness}: give at least 1, such as 300, and at least 0"
            )


PLAIN: Final = Linear()
CLOSE: Final = Linear(ridge=500.0, closeness=2.0)


@dataclass(frozen=True, eq=False)
class LeadsTo:
    """score = scale * sum over wanted events j of decay^age(j) * weights[j]: EASE with few weights a line."""

    weights: csr_array
    """[N, N]; line j holds what having wanted item j adds to other items."""
    decay: float = 1.0
    """Factor an event loses for each later one of the same person."""
    scale: float = 1.0
    """What the sum is worth beside the dense part of the score."""
    name: str = "leads_to"

    @classmethod
    def fit(cls, interactions: Interactions, linear: Linear = PLAIN, *, keep: int | None = None) -> Self:
        """Solve EASE and keep the largest weights of each line, by absolute value; untouched items have none.

        Args:
            keep: weights a line; None keeps as many as make WEIGHTS in all.
        """
        num_items = len(interactions.items)
        keep = max(1, WEIGHTS // max(num_items, 1)) if keep is None else keep
        if keep < 1:
            raise ValueError(f"keep is {keep}: give at least 1 weight a line, such as 200")
        weights_of = _solve(interactions, linear)
        touched = np.unique(positive_matrix(interactions).indices).astype(np.int64)
        lines, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        values = [np.zeros(0, np.float32)]
        for start in range(0, len(touched), _BLOCK):
            rows = touched[start : start + _BLOCK]
            block = weights_of(rows)
            block[np.arange(len(rows)), rows] = 0
            size = min(keep, num_items)
            best = np.argpartition(np.abs(block), num_items - size, axis=1)[:, num_items - size :]
            weights = np.take_along_axis(block, best, axis=1)
            line, place = np.nonzero(np.abs(weights) > 1e-5)
            lines.append(rows[line])
            columns.append(best[line, place])
            values.append(weights[line, place])
        coordinates = (np.concatenate(lines), np.concatenate(columns))
        return cls(csr_array((np.concatenate(values), coordinates), shape=(num_items, num_items)))

    @classmethod
    def empty(cls, num_items: int) -> Self:
        """No weights at all."""
        return cls(csr_array((num_items, num_items), dtype=np.float32))  # type: ignore[arg-type]

    def with_query(self, decay: float, scale: float) -> "LeadsTo":
        """The same weights under another decay and scale."""
        check_decay(decay)
        return LeadsTo(self.weights, decay, scale)

    def score(self, histories: Histories) -> NDArray[np.float32]:
        query = query_matrix(histories, self.weights.shape[0], self.decay)
        return np.asarray((query @ self.weights).toarray() * np.float32(self.scale), dtype=np.float32)


def _solve(interactions: Interactions, linear: Linear) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Rows -> [len(rows), N] weights."""
    if not linear.closeness:
        return EASE.fit(interactions, ridge=linear.ridge).weights
    num_items = len(interactions.items)
    if num_items > CLOSE_UP_TO:
        raise ValueError(f"closeness takes {num_items} items: at most {CLOSE_UP_TO} are solved so, leave it at 0")
    people = positive_matrix(interactions)
    gram = (people.T @ people).toarray() + np.float32(linear.closeness) * _close(interactions).toarray()
    weights = inverse(gram, linear.ridge)
    weights /= -weights.diagonal()
    return lambda rows: weights[rows]


def _close(interactions: Interactions) -> csr_array:
    """W [N, N]: for any two items the sum over people of exp(-steps between / 10), 1 for an item and itself."""
    wanted = interactions.where(interactions.weight > 0)
    num_items = len(wanted.items)
    counts = np.bincount(wanted.item, minlength=num_items).astype(np.float32)
    total = diags_array(counts, format="csr")
    for steps in range(1, int(5 * _FADES_OVER)):
        same = wanted.user[steps:] == wanted.user[: len(wanted) - steps]
        pairs = wanted.item[: len(wanted) - steps][same], wanted.item[steps:][same]
        weight = np.full(len(pairs[0]), np.exp(-steps / _FADES_OVER), dtype=np.float32)
        close = csr_array((weight, pairs), shape=(num_items, num_items))
        total = total + close + close.T
    return csr_array(total)
